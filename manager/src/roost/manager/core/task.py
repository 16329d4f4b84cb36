"""One task's life: a pure step over a table of transitions.

``TRANSITIONS`` is the whole machine; the diagram in specs/ is drawn from it. What happens is
first named by a trigger, which depends on the task only for the question "does this concern its
present attempt?". A trigger without a row changes nothing and is noted.

A task is bound to one (proplet, attempt) at a time. The start order is repeated until the proplet
accepts it; from then on only reports of this attempt count, and a proplet that no longer holds
the task gets a new attempt after a while. The deadline ends everything.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from roost.protocol.task.messages import (
    FailureReason,
    Launch,
    Report,
    ReportStatus,
    TaskRequest,
    TaskStatus,
    Usage,
)

START_BACKOFF_S: Final = (2.0, 4.0, 8.0, 16.0, 30.0)
LEASE_S: Final = 30.0
MISSING_GRACE_S: Final = 5.0
MAX_ATTEMPTS: Final = 5


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
_TARGETS: Final = {(row.source, row.trigger): row.target for row in TRANSITIONS}


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
    """A proplet was chosen, or the pinned one can be reached."""

    at: float
    proplet: str


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
    """A proplet told what it holds, and whether this task is among it.

    ``attempt`` is the one it holds; None: it does not hold the task.
    """

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
_PLAIN: Final = {
    Assigned: Trigger.ASSIGNED,
    StartDue: Trigger.START_DUE,
    LeaseKept: Trigger.LEASE_KEPT,
    CancelAsked: Trigger.CANCELLED,
    DeadlinePassed: Trigger.DEADLINE,
}


@dataclass(frozen=True, slots=True)
class Step:
    """What one event made of a task.

    Attributes:
        task: The task afterwards.
        trigger: What the event meant to it.
        moved: Whether the machine has a row for it; False: nothing changed.
    """

    task: Task
    trigger: Trigger
    moved: bool


def new_task(request: TaskRequest, launch: Launch | None, at: float) -> Task:
    """Return a queued task whose deadline counts from now."""
    return Task(request, TaskStatus.QUEUED, at + request.deadline_s, since=at, launch=launch)


def slim(task: Task) -> Task:
    """Return what is still needed of a task that has ended: to answer its proplet, and resend."""
    request = task.request.model_copy(update={"args": (), "env": {}, "inputs": ()})
    return replace(task, request=request, stderr_tail=None, progress=None, usage=None)


def step(task: Task, event: TaskEvent) -> Step:
    """Apply one event."""
    trigger = classify(task, event)
    target = _TARGETS.get((task.status, trigger))
    if target is None:
        return Step(task, trigger, moved=False)
    return Step(_moved(task, event, trigger, target), trigger, moved=True)


def classify(task: Task, event: TaskEvent) -> Trigger:
    """Say what an event means to this task."""
    match event:
        case Reported(proplet=proplet, report=report):
            if not is_current(task, proplet, report.attempt):
                return Trigger.STALE
            return Trigger(report.status.value)
        case Listed(proplet=proplet, attempt=attempt):
            return _classify_listing(task, proplet, attempt)
        case Lost():
            return Trigger.LOST if task.attempt < MAX_ATTEMPTS else Trigger.GIVEN_UP
        case StartDue() if task.accepted:
            return Trigger.STALE
        case _:
            return _PLAIN[type(event)]


def is_current(task: Task, proplet: str, attempt: int) -> bool:
    """Tell whether this is the one (proplet, attempt) that counts."""
    return (
        task.status is not TaskStatus.QUEUED
        and task.proplet == proplet
        and task.attempt == attempt
    )


def _classify_listing(task: Task, proplet: str, attempt: int | None) -> Trigger:
    """Absence counts only after the proplet accepted the task."""
    if task.proplet != proplet or not task.accepted:
        return Trigger.STALE
    if attempt == task.attempt:
        return Trigger.SIGHTED
    return Trigger.MISSING


def _moved(task: Task, event: TaskEvent, trigger: Trigger, target: TaskStatus) -> Task:
    changed = _changed(task, event, trigger)
    if target is not task.status:
        changed = replace(_clocked(changed, event.at), status=target, since=event.at)
    if target.final:
        changed = replace(changed, start_at=None, lease_at=None, missing_at=None)
    return changed


def _changed(task: Task, event: TaskEvent, trigger: Trigger) -> Task:
    match event:
        case Assigned(at=at, proplet=proplet):
            return _assigned(task, at, proplet)
        case StartDue(at=at):
            return replace(task, starts=task.starts + 1, start_at=at + start_backoff(task.starts))
        case Reported(report=report):
            return _reported(task, report)
        case Listed(at=at) if trigger is Trigger.MISSING:
            return replace(task, missing_at=task.missing_at or at + MISSING_GRACE_S)
        case Listed():
            return replace(task, missing_at=None)
        case LeaseKept(until=until):
            return replace(task, lease_at=until)
        case Lost(why=why):
            return _lost(task, why, trigger)
        case CancelAsked(reason=reason):
            return replace(task, reason=TaskStatus.CANCELLED.value, message=reason)
        case DeadlinePassed():
            return replace(task, reason=TaskStatus.EXPIRED.value, message=_why_expired(task))


def _assigned(task: Task, at: float, proplet: str) -> Task:
    return replace(
        task,
        proplet=proplet,
        attempt=task.attempt + 1,
        accepted=False,
        starts=1,
        start_at=at + start_backoff(0),
        lease_at=None if task.pinned else at + LEASE_S,
        missing_at=None,
        message=None,
        progress=None,
        usage=None,
    )


def start_backoff(starts: int) -> float:
    """Return the seconds after which a start order is repeated that was sent so often."""
    return START_BACKOFF_S[min(starts, len(START_BACKOFF_S) - 1)]


def _reported(task: Task, report: Report) -> Task:
    changed = replace(
        task,
        accepted=True,
        start_at=None,
        missing_at=None,
        progress=report.progress if report.progress is not None else task.progress,
        usage=report.usage or task.usage,
        message=report.message or task.message,
    )
    if not report.status.final:
        return changed
    failed = report.status is ReportStatus.FAILED
    reason = (report.reason or FailureReason.INTERNAL).value if failed else None
    return replace(
        changed,
        reason=reason,
        message=report.message,
        exit_code=report.exit_code,
        stderr_tail=report.stderr_tail,
    )


def _lost(task: Task, why: str, trigger: Trigger) -> Task:
    lost = replace(
        task, accepted=False, start_at=None, lease_at=None, missing_at=None, message=why
    )
    if trigger is Trigger.LOST:
        return lost
    text = f"{why}; that was attempt {task.attempt} of {MAX_ATTEMPTS}"
    return replace(lost, reason=FailureReason.LOST.value, message=text)


def _why_expired(task: Task) -> str:
    limit = f"{task.request.deadline_s:g} s"
    if task.status is TaskStatus.QUEUED:
        return f"not started within {limit}: {task.message or 'no proplet could take it'}"
    if not task.accepted:
        return f"proplet '{task.proplet}' did not accept it within {limit}"
    return f"not finished within {limit} on proplet '{task.proplet}'"


def _clocked(task: Task, at: float) -> Task:
    """Book the time spent in the present state."""
    name = f"{task.status.value}_s"
    return replace(task, **{name: getattr(task, name) + max(0.0, at - task.since)})
