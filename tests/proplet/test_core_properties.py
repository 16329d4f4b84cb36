"""Whatever order things happen in, the promises hold.

A small world around the core: a manager that starts, repeats, replaces and stops attempts, a
device that carries effects out at its leisure, a clock, and a connection that breaks. Histories
are shaped: orders are such as a manager sends, only what was begun can end.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from roost.chassis.core import Connected, Disconnected, Started, TimerFired
from roost.chassis.effects import ClearTimer, Publish, SetTimer
from roost.proplet.core.effects import Discard, Execute, SendOutputs, StopGuest
from roost.proplet.core.events import (
    GuestEnded,
    GuestStarted,
    MountsFound,
    OutputsDelayed,
    OutputsSent,
    ResendArrived,
    StartArrived,
    StopArrived,
)
from roost.proplet.core.lifecycle import TOMBSTONE_S
from roost.proplet.core.proplet import LINK, PropletCore
from roost.proplet.core.states import Outcome, Phase
from roost.protocol.task.messages import FailureReason, StopReason, TaskSpec

from .test_core import CARD, PLAIN, SPEC, World

SLOTS = 2
TASKS = ("a", "b", "c", "d")
DEADLINE_S = 100.0
FAILED = Outcome(FailureReason.TRAP, "trap")
DONE = Outcome(None, exit_code=0)
Key = tuple[str, int]


@dataclass
class Attempt:
    """What the manager knows of an attempt.

    Attributes:
        spec: What it runs.
        deadline: When its time is over.
        stopped: Whether it was told to stop.
        final: The final statuses that were reported.
    """

    spec: TaskSpec
    deadline: float
    stopped: bool = False
    final: set[str] = field(default_factory=set)


class Proplet(RuleBasedStateMachine):
    """The world; every rule is one thing that can happen next."""

    @initialize()
    def begin(self) -> None:
        """The process starts."""
        self.now = 1000.0
        self.world = World(PropletCore(CARD, SLOTS))
        self.timers: dict[str, float] = {}
        self.attempts: dict[Key, Attempt] = {}
        self.begun: list[Execute] = []
        self.ever_begun: set[Key] = set()
        self.sending: list[SendOutputs] = []
        self.sent: set[Key] = set()
        self.files: set[Key] = set()
        self.presence: dict[str, Any] | None = None
        self.generation = 0
        self.do(Started(self.now))
        self.do(MountsFound(self.now, ()))

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return bool(self.world.get(LINK, "broker").connected)

    def do(self, event: Any) -> None:
        """Let an event happen and take note of what is wanted."""
        for effect in self.world.do(event).effects:
            match effect:
                case SetTimer(key, at):
                    self.timers[key] = at
                case ClearTimer(key):
                    self.timers.pop(key, None)
                case Publish():
                    self.hear(effect)
                case Execute():
                    self.begin_run(effect)
                case SendOutputs(task_id, attempt):
                    assert "failed" not in self.attempts[task_id, attempt].final
                    self.sending.append(effect)
                case StopGuest(task_id, attempt):
                    self.begun = [
                        run
                        for run in self.begun
                        if (run.task_id, run.attempt) != (task_id, attempt)
                    ]
                case Discard(task_id, below):
                    self.files = {key for key in self.files if key[0] != task_id or key[1] >= below}

    def begin_run(self, effect: Execute) -> None:
        """Nothing runs twice, after its stop, or beyond its time."""
        key = (effect.task_id, effect.attempt)
        assert key not in self.ever_begun, "run twice"
        assert not self.attempts[key].stopped, "run after its stop"
        assert effect.until == self.attempts[key].deadline
        assert effect.until > self.now
        later = [attempt for task, attempt in self.attempts if task == effect.task_id]
        assert effect.attempt == max(later), "an old attempt runs"
        self.ever_begun.add(key)
        self.files.add(key)
        self.begun.append(effect)

    def hear(self, message: Publish) -> None:
        """The manager hears reports in order, and remembers the presence."""
        assert self.connected, "said without a broker"
        if message.topic.endswith("presence"):
            self.presence = json.loads(message.payload)
            return
        report = json.loads(message.payload)
        key = (message.topic.split("/")[3], report["attempt"])
        attempt = self.attempts[key]
        if report["status"] not in ("succeeded", "failed"):
            assert not attempt.final, "news after the end"
            return
        attempt.final.add(report["status"])
        assert len(attempt.final) == 1, "two different ends"
        if report["status"] == "succeeded" and attempt.spec.outputs:
            assert key in self.sent, "success before its outputs were there"

    def newest(self, task_id: str) -> int:
        """Return the number of the newest attempt; 0: none."""
        return max((attempt for task, attempt in self.attempts if task == task_id), default=0)

    @rule(task_id=st.sampled_from(TASKS), spec=st.sampled_from([PLAIN, SPEC]))
    def start(self, task_id: str, spec: TaskSpec) -> None:
        """The manager starts a new attempt."""
        attempt = self.newest(task_id) + 1
        self.attempts[task_id, attempt] = Attempt(spec, self.now + DEADLINE_S)
        self.do(StartArrived(self.now, task_id, attempt, DEADLINE_S, spec))
        held = self.world.get("task", task_id)
        assert (held.attempt, held.phase.present) == (attempt, True), "a new attempt is not held"

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def start_again(self, data: st.DataObject) -> None:
        """A start comes twice, or late."""
        (task_id, attempt), known = data.draw(st.sampled_from(list(self.attempts.items())))
        remaining_s = max(0.0, known.deadline - self.now)
        self.do(StartArrived(self.now, task_id, attempt, remaining_s, known.spec))

    @rule(
        task_id=st.sampled_from(TASKS),
        reason=st.sampled_from([StopReason.CANCELLED, StopReason.STALE, StopReason.EXPIRED]),
        ahead=st.booleans(),
    )
    def stop(self, task_id: str, reason: StopReason, *, ahead: bool) -> None:
        """The manager stops the newest attempt; the stop may overtake the start."""
        attempt = self.newest(task_id) + ahead
        if (task_id, attempt) not in self.attempts:
            self.attempts[task_id, attempt] = Attempt(SPEC, self.now + DEADLINE_S)
        for (task, number), known in self.attempts.items():
            known.stopped = known.stopped or (task == task_id and number <= attempt)
        self.do(StopArrived(self.now, task_id, attempt, reason))

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def record(self, data: st.DataObject) -> None:
        """The manager answers a final report."""
        ended = [key for key, known in self.attempts.items() if known.final]
        if ended:
            task_id, attempt = data.draw(st.sampled_from(ended))
            self.do(StopArrived(self.now, task_id, attempt, StopReason.RECORDED))

    @rule(task_id=st.sampled_from(TASKS))
    def resend(self, task_id: str) -> None:
        """Someone missed the outputs."""
        self.do(ResendArrived(self.now, task_id))

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), outcome=st.sampled_from([DONE, DONE, FAILED]))
    def end_a_run(self, data: st.DataObject, outcome: Outcome) -> None:
        """A guest begins and ends."""
        effect = data.draw(st.sampled_from(self.begun))
        self.begun.remove(effect)
        self.do(GuestStarted(self.now, effect.task_id, effect.attempt))
        self.do(GuestEnded(self.now, effect.task_id, effect.attempt, outcome))

    @precondition(lambda self: self.sending)
    @rule(how=st.sampled_from(["sent", "sent", "delayed", "refused"]))
    def send(self, how: str) -> None:
        """Outputs are sent, or not."""
        effect = self.sending.pop(0)
        key = (effect.task_id, effect.attempt)
        if how == "delayed":
            self.do(OutputsDelayed(self.now, *key))
            return
        if how == "sent":
            self.sent.add(key)
        self.do(OutputsSent(self.now, *key, None if how == "sent" else FAILED))

    @rule(seconds=st.sampled_from([0.5, 3.0, 40.0, 101.0, TOMBSTONE_S]))
    def wait(self, seconds: float) -> None:
        """Time passes; timers fire in order."""
        end = self.now + seconds
        while self.timers and min(self.timers.values()) <= end:
            key = min(self.timers, key=lambda name: (self.timers[name], name))
            self.now = max(self.now, self.timers.pop(key))
            self.do(TimerFired(self.now, key))
        self.now = end

    @rule()
    def reconnect(self) -> None:
        """The connection breaks, or comes back."""
        if self.connected:
            self.do(Disconnected(self.now))
            self.presence = None
        else:
            self.generation += 1
            self.do(Connected(self.now, self.generation))

    @invariant()
    def slots_are_kept_and_used(self) -> None:
        """No more than the slots run, and nobody waits for a free one."""
        phases = list(self.world.phases().values())
        busy = sum(phase in (Phase.RUNNING, Phase.SENDING) for phase in phases)
        assert busy <= SLOTS
        assert busy == SLOTS or Phase.QUEUED not in phases

    @invariant()
    def only_what_counts_runs(self) -> None:
        """Every guest that was begun and not stopped is the held attempt of its task."""
        held = self.world.all("task")
        running = {
            (task_id, task.attempt) for task_id, task in held.items() if task.phase is Phase.RUNNING
        }
        assert {(run.task_id, run.attempt) for run in self.begun} == running

    @invariant()
    def presence_is_true(self) -> None:
        """The broker's card lists exactly what the manager may wait for."""
        held = self.world.all("task")
        over = (Phase.RECORDED, Phase.STOPPED)
        waiting = {task_id for task_id, task in held.items() if task.phase not in over}
        if self.connected:
            assert self.presence is not None
            assert {task["task_id"] for task in self.presence["running"]} == waiting

    @invariant()
    def everything_held_will_be_forgotten(self) -> None:
        """Each held task has its deadline's timer; an unanswered report has its own."""
        for task_id, task in self.world.all("task").items():
            assert self.timers[f"deadline/{task_id}"] == task.deadline
            if task.phase is Phase.ENDED:
                assert f"retry/{task_id}" in self.timers

    @invariant()
    def files_are_kept_and_go(self) -> None:
        """What can be resent is on disk; nothing else stays."""
        held = self.world.all("task")
        alive = {(task_id, task.attempt) for task_id, task in held.items() if task.spec}
        assert self.files <= alive
        ran = {key for key in alive if held[key[0]].phase is not Phase.QUEUED}
        assert ran <= self.files

    def teardown(self) -> None:
        """Left alone with a willing world, every attempt ends, is heard, and is forgotten."""
        if not self.connected:
            self.reconnect()
        running = {key for key, task in self.world.all("task").items() if task.phase.present}
        told = {(key, self.world.get("task", key).attempt) for key in running}
        near = {
            (key, held.attempt)
            for key, held in self.world.all("task").items()
            if held.phase is Phase.SENDING and held.tries < 3 and held.deadline > self.now + 30
        }
        for _ in range(100):
            for effect in list(self.begun):
                self.begun.remove(effect)
                self.do(GuestEnded(self.now, effect.task_id, effect.attempt, DONE))
            while self.sending:
                self.send("sent")
            for task_id, attempt in told:
                if self.attempts[task_id, attempt].final:
                    self.do(StopArrived(self.now, task_id, attempt, StopReason.RECORDED))
            self.wait(3.0)
        assert all(self.attempts[key].final for key in told)
        assert all(self.attempts[key].final == {"succeeded"} for key in near)
        self.wait(TOMBSTONE_S)
        self.wait(TOMBSTONE_S)
        assert self.world.all("task") == {}
        assert self.files == set()
        assert self.timers == {}


TestProplet = Proplet.TestCase
TestProplet.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
