"""One step of a task's life, by the table of its transitions.

What happens is first named by a trigger, which depends on the task only for the question "does
this concern its present attempt?". A trigger without a row changes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from roost.manager.core.task import (
    TRANSITIONS,
    Assigned,
    CancelAsked,
    DeadlinePassed,
    LeaseKept,
    Listed,
    Lost,
    Reported,
    StartDue,
    Task,
    TaskEvent,
    Trigger,
)
from roost.protocol.task.messages import FailureReason, ReportStatus, TaskStatus

START_BACKOFF_S: Final = (2.0, 4.0, 8.0, 16.0, 30.0)
LEASE_S: Final = 30.0
MISSING_GRACE_S: Final = 5.0
MAX_ATTEMPTS: Final = 5

_TARGETS: Final = {(row.source, row.trigger): row.target for row in TRANSITIONS}
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
        task.status is not TaskStatus.QUEUED and task.proplet == proplet and task.attempt == attempt
    )


def _classify_listing(task: Task, proplet: str, attempt: int | None) -> Trigger:
    """Absence counts only after the proplet accepted the task."""
    if task.proplet != proplet or not task.accepted:
        return Trigger.STALE
    if attempt == task.attempt:
        return Trigger.SIGHTED
    return Trigger.MISSING


def _moved(task: Task, event: TaskEvent, trigger: Trigger, target: TaskStatus) -> Task:
    changed = _CHANGES[trigger](task, event)
    if target is not task.status:
        changed = replace(_clocked(changed, event.at), status=target, since=event.at)
    if target.final:
        changed = replace(changed, start_at=None, lease_at=None, missing_at=None)
    return changed


def _assigned(task: Task, event: Assigned) -> Task:
    return replace(
        task,
        proplet=event.proplet,
        attempt=task.attempt + 1,
        accepted=False,
        starts=1,
        start_at=event.at + start_backoff(0) + event.patience_s,
        lease_at=None if task.pinned else event.at + LEASE_S,
        missing_at=None,
        message=None,
        progress=None,
        usage=None,
    )


def _started_again(task: Task, event: StartDue) -> Task:
    return replace(task, starts=task.starts + 1, start_at=event.at + start_backoff(task.starts))


def start_backoff(starts: int) -> float:
    """Return the seconds after which a start order is repeated that was sent so often."""
    return START_BACKOFF_S[min(starts, len(START_BACKOFF_S) - 1)]


def _reported(task: Task, event: Reported) -> Task:
    report = event.report
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


def _missing(task: Task, event: Listed) -> Task:
    return replace(task, missing_at=task.missing_at or event.at + MISSING_GRACE_S)


def _sighted(task: Task, _event: Listed) -> Task:
    return replace(task, missing_at=None)


def _lease_kept(task: Task, event: LeaseKept) -> Task:
    return replace(task, lease_at=event.until)


def _lost(task: Task, event: Lost) -> Task:
    return replace(
        task, accepted=False, start_at=None, lease_at=None, missing_at=None, message=event.why
    )


def _given_up(task: Task, event: Lost) -> Task:
    text = f"{event.why}; that was attempt {task.attempt} of {MAX_ATTEMPTS}"
    return replace(_lost(task, event), reason=FailureReason.LOST.value, message=text)


def _cancelled(task: Task, event: CancelAsked) -> Task:
    return replace(task, reason=TaskStatus.CANCELLED.value, message=event.reason)


def _expired(task: Task, _event: DeadlinePassed) -> Task:
    return replace(task, reason=TaskStatus.EXPIRED.value, message=_why_expired(task))


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


_CHANGES: Final[Mapping[Trigger, Callable[[Task, Any], Task]]] = {
    Trigger.ASSIGNED: _assigned,
    Trigger.START_DUE: _started_again,
    Trigger.ACCEPTED: _reported,
    Trigger.RUNNING: _reported,
    Trigger.PROGRESS: _reported,
    Trigger.SUCCEEDED: _reported,
    Trigger.FAILED: _reported,
    Trigger.MISSING: _missing,
    Trigger.SIGHTED: _sighted,
    Trigger.LEASE_KEPT: _lease_kept,
    Trigger.LOST: _lost,
    Trigger.GIVEN_UP: _given_up,
    Trigger.CANCELLED: _cancelled,
    Trigger.DEADLINE: _expired,
}
