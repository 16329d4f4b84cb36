"""Whatever happens in whatever order, some things always hold.

Histories begin with launched tasks, and most of their events concern tasks that are going on:
with unshaped ones, hardly any task would get anywhere.
"""

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from roost.manager.core.task import Task
from roost.protocol.task.messages import ReportStatus, TaskStatus

from .world import EACH_BINDING, IMAGE, World, make_world

PROPLETS = ("p", "q", "r")
DEADLINE_S = 200
# Mostly long enough for something to happen; one is over before a start order is repeated.
DEADLINES = st.sampled_from([DEADLINE_S, DEADLINE_S, DEADLINE_S, 1])
FINAL = {status.value for status in TaskStatus if status.final}
pick = st.randoms(use_true_random=False)


class Histories(RuleBasedStateMachine):
    """Proplets, operators and the clock do what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World = make_world(EACH_BINDING)
        self.launched_at: dict[str, float] = {}
        self.deadline_s: dict[str, int] = {}
        self.payloads: list[bytes] = []
        self.ended: dict[str, bytes] = {}
        self.attempts: dict[str, list[str]] = {}
        self.stopped: set[tuple[str, str, int]] = set()
        self.accepted: set[tuple[str, int]] = set()
        self.reported: dict[str, set[tuple[str, int]]] = {}

    @initialize(
        pinned=st.booleans(), online=st.sets(st.sampled_from(PROPLETS)), deadline_s=DEADLINES
    )
    def begin(self, *, pinned: bool, online: set[str], deadline_s: int) -> None:
        """Some proplets are there; a message launches three tasks, or one that may move."""
        for proplet in sorted(online):
            self.world.presence(proplet)
        self.launch(pinned=pinned, deadline_s=deadline_s)

    @rule(pinned=st.booleans(), deadline_s=DEADLINES)
    @precondition(lambda self: len(self.launched_at) < 6)
    def launch(self, *, pinned: bool, deadline_s: int) -> None:
        """A message launches three pinned tasks, or one that may move."""
        number = len(self.payloads)
        if pinned:
            job = {"id": f"j{number}", "image": IMAGE, "devices": list(PROPLETS), "options": {},
                   "time": deadline_s}  # fmt: skip
            names = [f"j{number}:{proplet}" for proplet in PROPLETS]
            topic = "jobs/start"
        else:
            job = {"task_id": f"j{number}", "image": IMAGE, "deadline_s": deadline_s}
            names, topic = [f"j{number}"], "tasks/launch"
        self.payloads.append(json.dumps(job).encode())
        self.launched_at |= dict.fromkeys(names, self.world.at)
        self.deadline_s |= dict.fromkeys(names, deadline_s)
        self.world.receive(topic, self.payloads[-1])

    @rule(random=pick)
    def launch_again(self, random: Any) -> None:
        """The same bytes, or others under the same key."""
        payload = random.choice(self.payloads)
        topic = "tasks/launch" if b"task_id" in payload else "jobs/start"
        before = self.refusals()
        same = random.choice([True, False])
        self.world.receive(topic, payload + (b"" if same else b" "))
        assert self.refusals() == before + (0 if same else 1)

    def refusals(self) -> int:
        """Return how many orders were refused so far."""
        found = self.world.get("workloads", "the")
        return sum(found.refusals.values())

    @rule(proplet=st.sampled_from(PROPLETS), status=st.sampled_from(["online", "offline"]),
          boot=st.sampled_from(["b1", "b2"]), random=pick, honest=st.booleans())  # fmt: skip
    def presence(self, *, proplet: str, status: str, boot: str, random: Any, honest: bool) -> None:
        """A proplet tells what it holds, or forgets some of it, or goes."""
        holds = [task for task in self.going() if task.proplet == proplet and task.accepted]
        if not honest:
            holds = [task for task in holds if random.random() < 0.5]
        running = [{"task_id": task.id, "attempt": task.attempt} for task in holds]
        retain = random.random() < 0.2
        self.world.presence(proplet, status, boot_id=boot, running=running, retain=retain)

    @rule(proplets=st.sets(st.sampled_from(PROPLETS)))
    def telemetry(self, proplets: set[str]) -> None:
        """Some proplets show life."""
        for proplet in sorted(proplets):
            self.world.telemetry(proplet)

    @rule(random=pick, status=st.sampled_from(ReportStatus))
    @precondition(lambda self: self.going())
    def report(self, random: Any, status: ReportStatus) -> None:
        """Mostly news of an attempt that counts."""
        task = random.choice(self.going())
        self.send_report(task.proplet or "p", task.id, max(1, task.attempt), status)

    @rule(random=pick, status=st.sampled_from(ReportStatus), proplet=st.sampled_from(PROPLETS))
    def stale_report(self, random: Any, status: ReportStatus, proplet: str) -> None:
        """News of any attempt of any task from anyone, ended or unknown ones too."""
        task_id = random.choice([*self.launched_at, "never"])
        self.send_report(proplet, task_id, random.randint(1, 3), status)

    @rule(random=pick, status=st.sampled_from(ReportStatus))
    @precondition(lambda self: self.world.all("ended"))
    def late_report(self, random: Any, status: ReportStatus) -> None:
        """News of the very attempt that was the last of a task that has ended."""
        task = random.choice([*self.world.all("ended").values()])
        self.send_report(task.proplet or "p", task.id, max(1, task.attempt), status)

    def send_report(self, proplet: str, task_id: str, attempt: int, status: ReportStatus) -> None:
        """Report, and hold the manager to its answer (TASK-020)."""
        self.observe()
        self.world.report(proplet, task_id, attempt, status.value)
        if status.final:
            self.reported.setdefault(task_id, set()).add((proplet, attempt))
            answers = [
                (topic, body["attempt"])
                for topic, body in self.bodies("/stop")
                if topic == f"proplets/{proplet}/tasks/{task_id}/stop"
            ]
            assert (f"proplets/{proplet}/tasks/{task_id}/stop", attempt) in answers
        task = self.world.get("task", task_id)
        if task and task.accepted and (task.proplet, task.attempt) == (proplet, attempt):
            self.accepted.add((task_id, attempt))

    @rule(random=pick)
    def cancel(self, random: Any) -> None:
        """Somebody cancels any task, ended ones too."""
        self.world.receive(f"tasks/{random.choice([*self.launched_at])}/cancel")

    @rule(seconds=st.sampled_from([0.0, 1.0, 3.0, 10.0, 31.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.world.wait(seconds)

    @rule()
    def restart(self) -> None:
        """The process loses what is in memory only."""
        self.world.restart()
        self.world.connect()

    @rule()
    def lose_the_connection(self) -> None:
        """Nobody is heard for longer than a lease."""
        self.world.disconnect()
        self.world.wait(45)
        self.world.connect()

    def going(self) -> list[Task]:
        """Return the tasks that have not ended."""
        return list(self.world.all("task").values())

    def bodies(self, ending: str) -> list[tuple[str, Any]]:
        """Return what was published and not observed yet, leaving it there."""
        return [
            (message.topic, json.loads(message.payload))
            for message in self.world.sent
            if message.topic.endswith(ending)
        ]

    @invariant()
    def observe(self) -> None:
        """Follow the orders in their order."""
        for message in self.world.take():
            body: Any = json.loads(message.payload) if message.payload else None
            match message.topic.split("/"):
                case ["proplets", proplet, "tasks", task_id, "start"]:
                    self.started(proplet, task_id, body)
                case ["proplets", proplet, "tasks", task_id, "stop"]:
                    self.stopped.add((task_id, proplet, body["attempt"]))
                case ["tasks", task_id, "state"]:
                    self.state_shown(task_id, message.payload, body)

    def started(self, proplet: str, task_id: str, body: Any) -> None:
        """Judge a start order (TASK-011, TASK-012)."""
        attempts = self.attempts.setdefault(task_id, [])
        attempt = body["attempt"]
        if attempt == len(attempts) + 1:
            # One attempt at a time: the one before was stopped where it was.
            assert not attempts or (task_id, attempts[-1], attempt - 1) in self.stopped
            attempts.append(proplet)
        assert attempt == len(attempts)
        assert attempts[-1] == proplet
        assert (task_id, attempt) not in self.accepted
        assert task_id not in self.ended
        pinned = task_id.partition(":")[2]
        assert proplet == (pinned or proplet)
        assert 0 <= body["remaining_s"] <= self.deadline_s[task_id]

    def state_shown(self, task_id: str, payload: bytes, body: Any) -> None:
        """Judge a state that was published (TASK-010, TASK-011)."""
        assert task_id not in self.ended, "a terminal state was left"
        if body["state"] not in FINAL:
            return
        self.ended[task_id] = payload
        if body["state"] == "succeeded" or (body["state"] == "failed" and body["reason"] != "lost"):
            # Only the attempt that counted could end it.
            assert (body["proplet"], body["attempt"]) in self.reported[task_id]
            assert body["attempt"] == len(self.attempts[task_id])

    @invariant()
    def every_task_was_launched_once(self) -> None:
        """None is lost, none is doubled (TASK-007)."""
        known = [*self.world.all("task"), *self.world.all("ended")]
        assert sorted(known) == sorted(self.launched_at)

    @invariant()
    def what_is_shown_is_what_is_kept(self) -> None:
        """The retained state is never behind (TASK-021)."""
        for kind in ("task", "ended"):
            for task in self.world.all(kind).values():
                shown = self.world.state(task.id)
                assert (shown["state"], shown["attempt"]) == (task.status.value, task.attempt)
                assert (kind == "ended") == task.status.final

    @invariant()
    def each_going_task_has_its_timer_and_no_other(self) -> None:
        """Nothing waits without an end; nothing ended is woken."""
        timers = {f"task {task.id}": task.wake_at for task in self.going()}
        found = {key: at for key, at in self.world.timers.items() if key.startswith("task ")}
        assert found == timers

    @invariant()
    def no_going_task_is_past_its_deadline(self) -> None:
        """Deadlines never move (TASK-002, TASK-017)."""
        for task in self.going():
            deadline_at = self.launched_at[task.id] + self.deadline_s[task.id]
            assert deadline_at == task.deadline_at > self.world.at

    @invariant()
    def all_time_is_booked(self) -> None:
        """Durations add up (TASK-022)."""
        for task in self.going():
            booked = task.queued_s + task.dispatched_s + task.running_s
            assert abs(self.launched_at[task.id] + booked - task.since) < 1e-6

    @invariant()
    def a_dispatched_task_is_never_forgotten(self) -> None:
        """It is accepted, or its start order will be sent again; a queued one has no reason."""
        for task in self.going():
            if task.status is TaskStatus.DISPATCHED:
                assert task.accepted or task.start_at is not None
            elif task.status is TaskStatus.QUEUED and task.pinned:
                proplet = self.world.get("proplet", task.request.proplet or "")
                assert proplet is None or not proplet.online(self.world.at)

    def teardown(self) -> None:
        """In the end everything ends."""
        self.world.wait(DEADLINE_S + 1)
        self.observe()
        assert not self.going()
        assert set(self.ended) == set(self.launched_at)
        assert self.world.timers.keys() <= {"prune", "workloads"}


Histories.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestHistories = Histories.TestCase
