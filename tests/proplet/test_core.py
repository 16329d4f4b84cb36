"""Many tasks: run slots, presence, the connection."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from roost.chassis.core import Connected, Decision, Disconnected, Started, TimerFired
from roost.chassis.effects import Note, Publish
from roost.proplet.core import proplet
from roost.proplet.core.effects import Discard, Execute, SendOutputs, StopGuest, Sweep
from roost.proplet.core.events import (
    GuestEnded,
    MountsFound,
    OutputsDelayed,
    ResendArrived,
    SaidOffline,
    StartArrived,
    StopArrived,
)
from roost.proplet.core.proplet import TASK, PropletCore
from roost.proplet.core.states import Outcome, Phase
from roost.protocol.task.messages import (
    Presence,
    PresenceStatus,
    StopReason,
    TaskOutput,
    TaskSpec,
)

CARD = Presence(proplet_id="p1", status=PresenceStatus.ONLINE, boot_id="boot", labels={"a": "b"})
PLAIN = TaskSpec(image="blob:a/" + "0" * 64)
SPEC = PLAIN.model_copy(update={"outputs": (TaskOutput(file="f", topic="to"),)})
DONE = Outcome(None, exit_code=0)


@dataclass
class World:
    """A core with its states, as the runner keeps them."""

    core: PropletCore
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)

    def get(self, kind: str, id_: str, /) -> Any:
        """Return the state of one entity, or None."""
        return self.kinds.get(kind, {}).get(id_)

    def all(self, kind: str, /) -> dict[str, Any]:
        """Return all entities of a kind."""
        return self.kinds.get(kind, {})

    def do(self, event: Any) -> Decision:
        """Let an event happen and keep what it changes."""
        decision = self.core.handle(event, self)
        for (kind, id_), state in decision.puts.items():
            if state is None:
                self.kinds.setdefault(kind, {}).pop(id_, None)
            else:
                self.kinds.setdefault(kind, {})[id_] = state
        return decision

    def phases(self) -> dict[str, Phase]:
        """Return the phase of each held task."""
        return {task_id: held.phase for task_id, held in self.all(TASK).items()}


def world(slots: int = 1, *, connected: bool = True) -> World:
    """Return a proplet that has just begun."""
    made = World(PropletCore(CARD, slots))
    made.do(Started(0.0))
    made.do(MountsFound(0.0, ("attic",)))
    if connected:
        made.do(Connected(0.0, 1))
    return made


def start(task_id: str, attempt: int = 1, at: float = 1.0, spec: TaskSpec = PLAIN) -> StartArrived:
    """Return a start order."""
    return StartArrived(at, task_id, attempt, 60.0, spec)


def published(decision: Decision, end: str) -> list[dict[str, Any]]:
    """Return the payloads published on topics with an ending."""
    messages = [effect for effect in decision.effects if isinstance(effect, Publish)]
    return [json.loads(each.payload) for each in messages if each.topic.endswith(end)]


def of(decision: Decision, *kinds: type) -> list[Any]:
    """Return the effects of some kinds."""
    return [effect for effect in decision.effects if isinstance(effect, kinds)]


def test_nothing_is_said_without_a_broker() -> None:
    """Reports and presence would pile up in memory."""
    made = world(connected=False)
    decision = made.do(start("t1"))
    assert of(decision, Publish) == []
    assert of(decision, Execute) != []


def test_presence_is_published_on_every_connection() -> None:
    """Retained, whole, and again after a broker came back without it (TASK-023)."""
    made = world(connected=False)
    made.do(start("t1"))
    for generation in (1, 2):
        decision = made.do(Connected(2.0, generation))
        [message] = [each for each in of(decision, Publish) if each.topic.endswith("presence")]
        assert message.retain
        assert not message.durable
        card = Presence.decode(message.payload)
        assert card.model_copy(update={"mounts": (), "running": ()}) == CARD
        assert card.mounts == ("attic",)
        assert [(task.task_id, task.attempt) for task in card.running] == [("t1", 1)]


def test_presence_follows_tasks_and_mounts() -> None:
    """It lists a task until its final report is recorded; unchanged it is not repeated.

    Proves TASK-023.
    """
    made = world()
    listed = [["t1"], ["t1"], [], ["attic", "cellar"]]
    events = [
        start("t1"),
        GuestEnded(2.0, "t1", 1, DONE),
        StopArrived(3.0, "t1", 1, StopReason.RECORDED),
        MountsFound(4.0, ("attic", "cellar")),
    ]
    decisions = [made.do(event) for event in events]
    cards = [published(decision, "presence") for decision in decisions]
    assert [task["task_id"] for task in cards[0][0]["running"]] == listed[0]
    assert cards[1] == []  # still listed: nothing new
    assert cards[2][0]["running"] == []
    assert cards[3][0]["mounts"] == listed[3]
    assert published(made.do(start("t1")), "presence") == []


def test_a_last_will_that_came_late_is_contradicted() -> None:
    """Once for each, and not without a connection, which begins with a presence (TASK-028)."""
    made = world()
    made.do(start("t1"))
    for at in (2.0, 3.0):
        [card] = published(made.do(SaidOffline(at)), "presence")
        assert (card["status"], len(card["running"])) == ("online", 1)
    made.do(Disconnected(4.0))
    assert published(made.do(SaidOffline(5.0)), "presence") == []


def test_a_start_sweeps_what_is_not_held() -> None:
    """What is held stays, whatever its phase; a tombstone has no files (TASK-080)."""
    before = world(slots=1)
    before.do(start("t1", attempt=2))
    before.do(start("t2"))
    before.do(StopArrived(1.0, "t3", 1, StopReason.CANCELLED))
    decision = World(PropletCore(CARD, 1), before.kinds).do(Started(2.0))
    assert of(decision, Sweep) == [Sweep((("t1", 2), ("t2", 1)))]


def test_only_so_many_run_at_once() -> None:
    """The others wait in the order of their coming (TASK-038)."""
    made = world(slots=2)
    for name in ("t1", "t2", "t3", "t4"):
        made.do(start(name))
    queued = Phase.QUEUED
    assert [name for name, phase in made.phases().items() if phase is queued] == ["t3", "t4"]
    decision = made.do(GuestEnded(2.0, "t2", 1, DONE))
    assert [effect.task_id for effect in of(decision, Execute)] == ["t3"]
    decision = made.do(StopArrived(3.0, "t1", 1, StopReason.CANCELLED))
    assert [effect.task_id for effect in of(decision, StopGuest)] == ["t1"]
    assert [effect.task_id for effect in of(decision, Execute)] == ["t4"]
    assert made.phases()["t2"] is Phase.ENDED


def test_sending_takes_the_slot() -> None:
    """Outputs of many tasks are not all read into memory at once."""
    made = world()
    made.do(start("t1", spec=SPEC))
    made.do(start("t2"))
    decision = made.do(GuestEnded(2.0, "t1", 1, DONE))
    assert of(decision, SendOutputs) != []
    assert of(decision, Execute) == []


def test_a_connection_says_again_what_is_unanswered() -> None:
    """Final reports at once, delayed outputs at once; what is under way is left alone.

    Proves TASK-036.
    """
    made = world(slots=3)
    made.do(start("ended"))
    made.do(GuestEnded(2.0, "ended", 1, DONE))
    for name in ("sending", "delayed"):
        made.do(start(name, spec=SPEC))
        made.do(GuestEnded(2.0, name, 1, DONE))
    made.do(OutputsDelayed(3.0, "delayed", 1))
    made.do(Disconnected(4.0))
    silent = made.do(TimerFired(5.0, "retry/ended"))
    assert of(silent, Publish) == []
    decision = made.do(Connected(6.0, 2))
    assert [report["status"] for report in published(decision, "/ended/report")] == ["succeeded"]
    assert [effect.task_id for effect in of(decision, SendOutputs)] == ["delayed"]


def test_timers_find_their_task() -> None:
    """Ids may hold colons and dots; the timer's kind comes first."""
    made = world()
    made.do(start("a:b.c", spec=SPEC))
    made.do(GuestEnded(2.0, "a:b.c", 1, DONE))
    made.do(OutputsDelayed(2.0, "a:b.c", 1))
    assert of(made.do(TimerFired(4.0, "retry/a:b.c")), SendOutputs) != []
    decision = made.do(TimerFired(61.0, "deadline/a:b.c"))
    assert made.phases() == {}
    assert of(decision, Discard) == [Discard("a:b.c", 2)]


def test_what_changes_nothing_puts_nothing() -> None:
    """A late event costs no commit."""
    made = world()
    assert made.do(ResendArrived(1.0, "unknown")).puts == {}
    assert made.do(TimerFired(1.0, "retry/unknown")).puts == {}


def test_a_proplet_holds_so_many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond that a start is answered with a failure, and nothing is kept of it."""
    monkeypatch.setattr(proplet, "MAX_HELD", 2)
    made = world()
    made.do(start("t1"))
    made.do(start("t2"))
    decision = made.do(start("t3"))
    [report] = published(decision, "/t3/report")
    assert report["status"] == "failed"
    assert "holds 2 tasks" in report["message"]
    assert [note.reason for note in of(decision, Note)] == ["full"]
    assert set(made.phases()) == {"t1", "t2"}
    assert published(made.do(start("t2", attempt=2)), "/t2/report")[0]["status"] == "accepted"
