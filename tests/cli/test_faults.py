"""What is said of participants that failed."""

from __future__ import annotations

from typing import cast

from roost.chassis.received import Received
from roost.cli.faults import fault_lines, faults_of
from roost.cli.wire_client import Wire
from roost.protocol.round.messages import RoundComplete, RoundStatus
from roost.protocol.task.messages import TaskState, TaskStatus
from roost.protocol.task.topics import STATE


class Kept:
    """A broker that keeps the states of tasks."""

    def __init__(self, *states: TaskState) -> None:
        self._states = {STATE.format(task_id=s.task_id): s for s in states}

    def collect(self, *topics: str) -> list[Received]:
        """What is retained on these topics."""
        return [
            Received(topic=topic, payload=self._states[topic].encode(), retain=True)
            for topic in topics
            if topic in self._states
        ]


def lines(complete: RoundComplete, *states: TaskState) -> list[str]:
    """The lines on a round."""
    wire = cast("Wire", Kept(*states))
    return fault_lines(wire, complete.round_id, faults_of(complete))


def failed(who: str, **fields: str) -> TaskState:
    """A participant's task that failed."""
    return TaskState(task_id=f"r:{who}", state=TaskStatus.FAILED, **fields)  # type: ignore[arg-type]


def outcome(**verdicts: str) -> RoundComplete:
    """A failed round."""
    return RoundComplete(round_id="r", outcome=RoundStatus.FAILED, verdicts=verdicts)


def test_a_bare_reason_gets_the_last_line_of_stderr() -> None:
    """And the way to all the others."""
    state = failed("a", reason="exit_code", message="it ended with 2", stderr_tail="x\nno data\n")
    assert lines(outcome(a="exit_code", b="accepted", c="missing"), state) == [
        "  a: exit_code",
        "    no data",
        "  `roost task show r:a` shows all that is known of such a task",
    ]


def test_what_the_coordinator_says_is_not_repeated() -> None:
    """Nor is a reason that several share."""
    states = [failed(who, reason="exit_code", stderr_tail="no data\n") for who in "ab"]
    said = lines(outcome(a="exit_code: no data", b="exit_code: no data"), *states)
    assert said[0] == "  a, b: exit_code: no data"
    assert len(said) == 2


def test_a_trap_is_told_by_its_message() -> None:
    """Beside whatever the program wrote."""
    state = failed("a", reason="trap", message="unreachable", stderr_tail="hello\n")
    assert lines(outcome(a="trap"), state)[1:3] == ["    unreachable", "    hello"]
