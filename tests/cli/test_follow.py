"""What is told while a task is waited for."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import pytest
from roost.chassis.received import Received
from roost.cli.follow import task_end
from roost.cli.output import Output
from roost.protocol.task.messages import TaskState, TaskStatus

LOST = "proplet 'nobody' was never seen; known: proplet-1"


class Wire:
    """The states of a task, one after the other."""

    def __init__(self, states: Iterable[TaskState]) -> None:
        self._states = list(states)

    def next(self, _timeout_s: float | None) -> Received | None:
        """Return the next message."""
        return Received("tasks/t/state", self._states.pop(0).encode())


def state(status: TaskStatus, message: str | None = None) -> TaskState:
    """Return a state of the task."""
    return TaskState(task_id="t", state=status, message=message)


@pytest.mark.parametrize("detached", [True, False])
def test_a_task_that_waits_says_why_at_once(*, detached: bool) -> None:
    """Once, not at each change; it goes on waiting (TASK-015)."""
    said = io.StringIO()
    out = Output(as_json=False, err=said)
    wire: Any = Wire(
        [
            state(TaskStatus.QUEUED, LOST),
            state(TaskStatus.QUEUED, LOST),
            state(TaskStatus.RUNNING),
            state(TaskStatus.SUCCEEDED),
        ]
    )
    end = task_end(wire, out, "t", 5.0, accepted_only=detached)
    assert end.state is (TaskStatus.QUEUED if detached else TaskStatus.SUCCEEDED)
    assert said.getvalue() == f"task t waits until its deadline: {LOST}\n"
