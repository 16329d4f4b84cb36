"""A task, what can happen to it, and the table of its transitions.

``TRANSITIONS`` is the whole machine; ``step`` obeys it, and the diagram in specs/ is drawn from it.

A task is bound to one (proplet, attempt) at a time. The start order is repeated until the proplet
accepts it; from then on only reports of this attempt count, and a proplet that no longer holds
the task gets a new attempt after a while. The deadline ends everything.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from roost.protocol.task.messages import Launch, Report, TaskRequest, TaskStatus, Usage


class Trigger(StrEnum):
    """What can happen to a task."""

    ASSIGNED = "assigned"
    START_DUE = "start_due"
    ACCEPTED = "accepted"
    RUNNING = "running"
    PROGRESS = "progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    MISSING = "missing"
    SIGHTED = "sighted"
    LEASE_KEPT = "lease_kept"
    LOST = "lost"
    GIVEN_UP = "given_up"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the machine.

    Attributes:
        source: State before.
        trigger: What happens.
        target: State after.
        about: Why, for the diagram.
    """

    source: TaskStatus
    trigger: Trigger
    target: TaskStatus
    about: str


_Q, _D, _R = TaskStatus.QUEUED, TaskStatus.DISPATCHED, TaskStatus.RUNNING
_OK, _BAD = TaskStatus.SUCCEEDED, TaskStatus.FAILED
_OFF, _LATE = TaskStatus.CANCELLED, TaskStatus.EXPIRED

TRANSITIONS: Final = (
    Transition(_Q, Trigger.ASSIGNED, _D, "its proplet can be reached"),
    Transition(_Q, Trigger.CANCELLED, _OFF, "cancelled"),
    Transition(_Q, Trigger.DEADLINE, _LATE, "deadline"),
    Transition(_D, Trigger.START_DUE, _D, "not accepted yet: start again"),
    Transition(_D, Trigger.ACCEPTED, _D, "accepted"),
    Transition(_D, Trigger.RUNNING, _R, "running"),
    Transition(_D, Trigger.PROGRESS, _R, "progress"),
    Transition(_D, Trigger.SUCCEEDED, _OK, "succeeded"),
    Transition(_D, Trigger.FAILED, _BAD, "failed"),
    Transition(_D, Trigger.MISSING, _D, "absent from its proplet's presence"),
    Transition(_D, Trigger.SIGHTED, _D, "in its proplet's presence"),
    Transition(_D, Trigger.LEASE_KEPT, _D, "life signs"),
    Transition(_D, Trigger.LOST, _Q, "lost: next attempt"),
    Transition(_D, Trigger.GIVEN_UP, _BAD, "lost too often"),
    Transition(_D, Trigger.CANCELLED, _OFF, "cancelled"),
    Transition(_D, Trigger.DEADLINE, _LATE, "deadline"),
    Transition(_R, Trigger.RUNNING, _R, "running, again"),
    Transition(_R, Trigger.PROGRESS, _R, "progress"),
    Transition(_R, Trigger.SUCCEEDED, _OK, "succeeded"),
    Transition(_R, Trigger.FAILED, _BAD, "failed"),
    Transition(_R, Trigger.MISSING, _R, "absent from its proplet's presence"),
    Transition(_R, Trigger.SIGHTED, _R, "in its proplet's presence"),
    Transition(_R, Trigger.LEASE_KEPT, _R, "life signs"),
    Transition(_R, Trigger.LOST, _Q, "lost: next attempt"),
    Transition(_R, Trigger.GIVEN_UP, _BAD, "lost too often"),
    Transition(_R, Trigger.CANCELLED, _OFF, "cancelled"),
    Transition(_R, Trigger.DEADLINE, _LATE, "deadline"),
)


@dataclass(frozen=True, slots=True)
class Task:
    """Everything the manager keeps of a task.

    Attributes:
        request: What shall run.
        status: Its state.
        deadline_at: When it expires.
        since: When it entered its state.
        launch: Which message launched it.
        proplet: Where the present attempt is, or the last one was.
        attempt: Counts the assignments from 1; 0 before the first.
        accepted: Whether the proplet accepted the present attempt.
        starts: How often the present attempt's start order was sent.
        start_at: When it is sent again.
        lease_at: When the lease of a task that may move is looked at.
        missing_at: When it is lost, unless its proplet names it again.
        queued_s: Seconds spent queued, up to ``since``; so the next two.
        dispatched_s: Seconds spent dispatched.
        running_s: Seconds spent running.
        reason: Name of the failure, or why it was cancelled.
        message: What happened.
        exit_code: The guest's.
        stderr_tail: The end of the guest's stderr.
        progress: The guest's last progress report.
        usage: What the run took.
    """

    request: TaskRequest
    status: TaskStatus
    deadline_at: float
    since: float
    launch: Launch | None = None
    proplet: str | None = None
    attempt: int = 0
    accepted: bool = False
    starts: int = 0
    start_at: float | None = None
    lease_at: float | None = None
    missing_at: float | None = None
    queued_s: float = 0.0
    dispatched_s: float = 0.0
    running_s: float = 0.0
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None
    stderr_tail: str | None = None
    progress: dict[str, Any] | None = None
    usage: Usage | None = None

    @property
    def id(self) -> str:
        """The task's id."""
        return self.request.task_id

    @property
    def pinned(self) -> bool:
        """Whether it may run on one proplet only."""
        return self.request.proplet is not None

    @property
    def wake_at(self) -> float | None:
        """When something is due for it; None after its end."""
        if self.status.final:
            return None
        times = (self.deadline_at, self.start_at, self.lease_at, self.missing_at)
        return min(at for at in times if at is not None)


@dataclass(frozen=True, slots=True)
class Assigned:
    """A proplet was chosen, or the pinned one can be reached.

    Attributes:
        at: When.
        proplet: Which.
        patience_s: How much longer than usual its answer may take, because many orders are sent.
    """

    at: float
    proplet: str
    patience_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StartDue:
    """The start order was not accepted in time, or its proplet came back."""

    at: float


@dataclass(frozen=True, slots=True)
class Reported:
    """A proplet reported on one of its attempts."""

    at: float
    proplet: str
    report: Report


@dataclass(frozen=True, slots=True)
class Listed:
    """A proplet told which attempt of this task it holds; None: none."""

    at: float
    proplet: str
    attempt: int | None


@dataclass(frozen=True, slots=True)
class LeaseKept:
    """The proplet of a task that may move showed life; look again at ``until``."""

    at: float
    until: float


@dataclass(frozen=True, slots=True)
class Lost:
    """The proplet no longer holds the task, or shows no life."""

    at: float
    why: str


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody wants the task to end."""

    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """Its time is over."""

    at: float


TaskEvent = (
    Assigned | StartDue | Reported | Listed | LeaseKept | Lost | CancelAsked | DeadlinePassed
)


def new_task(request: TaskRequest, launch: Launch | None, at: float) -> Task:
    """Return a queued task whose deadline counts from now."""
    return Task(request, TaskStatus.QUEUED, at + request.deadline_s, since=at, launch=launch)


def slim(task: Task) -> Task:
    """Return what is still needed of a task that has ended: to answer its proplet, and resend."""
    request = task.request.model_copy(update={"args": (), "env": {}, "inputs": ()})
    return replace(task, request=request, stderr_tail=None, progress=None, usage=None)
