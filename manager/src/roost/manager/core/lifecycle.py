"""What follows from a task's steps: orders to its proplet, its retained state, its timer."""

from math import ceil
from typing import Final

from roost.chassis.effects import ClearTimer, Effect, Note, Publish, SetTimer, note
from roost.manager.core.step import Step, is_current, step
from roost.manager.core.task import Reported, Task, TaskEvent, Trigger
from roost.protocol.task.messages import (
    Durations,
    Report,
    StartTask,
    StopReason,
    StopTask,
    TaskState,
    TaskStatus,
)
from roost.protocol.task.topics import RESEND_OUTPUTS, START, STATE, STOP

STATE_KEPT_S: Final = 7 * 86_400.0
MAX_SECONDS: Final = 604_800.0
# A proplet that is away need not find every repetition of a start order when it comes back.
START_EXPIRY_S: Final = 60.0
STOP_EXPIRY_S: Final = 3600.0
TIMER_PREFIX: Final = "task "

_SHOWN: Final = frozenset(
    {Trigger.ASSIGNED, Trigger.RUNNING, Trigger.PROGRESS, Trigger.SUCCEEDED, Trigger.FAILED,
     Trigger.LOST, Trigger.GIVEN_UP, Trigger.CANCELLED, Trigger.DEADLINE}
)  # fmt: skip
_STOPS: Final = {
    Trigger.SUCCEEDED: StopReason.RECORDED,
    Trigger.FAILED: StopReason.RECORDED,
    Trigger.LOST: StopReason.STALE,
    Trigger.GIVEN_UP: StopReason.STALE,
    Trigger.CANCELLED: StopReason.CANCELLED,
    Trigger.DEADLINE: StopReason.EXPIRED,
}
_STOP_OF: Final = {
    TaskStatus.CANCELLED: StopReason.CANCELLED,
    TaskStatus.EXPIRED: StopReason.EXPIRED,
    TaskStatus.FAILED: StopReason.STALE,
}


def advance(task: Task, event: TaskEvent) -> tuple[Task, tuple[Effect, ...]]:
    """Apply one event to a task; return the task and what is to be done."""
    result = step(task, event)
    if not result.moved:
        return task, _unmoved(task, event, result.trigger)
    after = result.task
    effects: list[Effect] = [*_orders(task, result, event.at)]
    if result.trigger in _SHOWN:
        effects.append(state_of(after, event.at))
    effects += timer(after, task.wake_at)
    effects.append(_story(after, result.trigger))
    return after, tuple(effects)


def _orders(before: Task, result: Step, at: float) -> tuple[Effect, ...]:
    after = result.task
    if result.trigger in (Trigger.ASSIGNED, Trigger.START_DUE):
        return (start_order(after, at),)
    if result.trigger in _STOPS and before.status is not TaskStatus.QUEUED:
        assert before.proplet is not None  # it was assigned
        reason = _STOPS[result.trigger]
        return (stop_order(before.proplet, before.id, before.attempt, reason),)
    return ()


def _unmoved(task: Task, event: TaskEvent, trigger: Trigger) -> tuple[Effect, ...]:
    """Answer a report that changes nothing, so that its proplet stops repeating it."""
    if not isinstance(event, Reported):
        return (note("task.event_ignored", "debug", trigger.value, task_id=task.id),)
    reason = _answer(task, event.proplet, event.report)
    ignored = note(
        "report.ignored", "debug", trigger.value, task_id=task.id, proplet=event.proplet,
        attempt=event.report.attempt, status=event.report.status.value,
    )  # fmt: skip
    if reason is None:
        return (ignored,)
    return (stop_order(event.proplet, task.id, event.report.attempt, reason), ignored)


def _answer(task: Task, proplet: str, report: Report) -> StopReason | None:
    if not is_current(task, proplet, report.attempt):
        return StopReason.STALE
    if not task.status.final:
        return None
    if report.status.final:
        return StopReason.RECORDED
    return _STOP_OF.get(task.status)


def start_order(task: Task, at: float) -> Publish:
    """Return the order to run the present attempt, with the time it has left."""
    assert task.proplet is not None  # it was assigned
    remaining = min(max(0.0, task.deadline_at - at), MAX_SECONDS)
    message = StartTask(attempt=task.attempt, remaining_s=remaining, task=task.request.spec())
    return Publish(
        START.format(proplet_id=task.proplet, task_id=task.id),
        message.encode(),
        expiry_s=ceil(max(1.0, min(remaining, START_EXPIRY_S))),
        durable=False,  # it is repeated until it is accepted
    )


def stop_order(proplet: str, task_id: str, attempt: int, reason: StopReason) -> Publish:
    """Return the order to end an attempt, or the news that its end is recorded."""
    return Publish(
        STOP.format(proplet_id=proplet, task_id=task_id),
        StopTask(attempt=attempt, reason=reason).encode(),
        expiry_s=STOP_EXPIRY_S,
        # Answers are given again when the report is repeated; a cancel is not.
        durable=reason in (StopReason.CANCELLED, StopReason.EXPIRED),
    )


def resend_order(task: Task) -> Publish:
    """Return the order to publish the kept outputs again."""
    assert task.proplet is not None  # it succeeded somewhere
    topic = RESEND_OUTPUTS.format(proplet_id=task.proplet, task_id=task.id)
    return Publish(topic, expiry_s=START_EXPIRY_S, durable=False)


def state_of(task: Task, at: float) -> Publish:
    """Return the retained state of a task; after its end the broker drops it after a week."""
    return Publish(
        STATE.format(task_id=task.id),
        _state_message(task, at).encode(),
        retain=True,
        expiry_s=STATE_KEPT_S if task.status.final else None,
    )


def _state_message(task: Task, at: float) -> TaskState:
    spent = {
        TaskStatus.QUEUED: task.queued_s,
        TaskStatus.DISPATCHED: task.dispatched_s,
        TaskStatus.RUNNING: task.running_s,
    }
    if task.status in spent:
        spent[task.status] += max(0.0, at - task.since)
    rounded = {f"{name.value}_s": min(round(s, 6), MAX_SECONDS) for name, s in spent.items()}
    return TaskState(
        task_id=task.id,
        state=task.status,
        proplet=task.proplet or task.request.proplet,
        attempt=task.attempt,
        reason=task.reason,
        message=task.message,
        exit_code=task.exit_code,
        stderr_tail=task.stderr_tail,
        progress=task.progress,
        usage=task.usage,
        durations=Durations(**rounded),
        launch=task.launch,
    )


def timer(task: Task, before: float | None) -> tuple[Effect, ...]:
    """Return what sets the task's only timer to its next due time."""
    key = TIMER_PREFIX + task.id
    if task.wake_at is None:
        return (ClearTimer(key),)
    return () if task.wake_at == before else (SetTimer(key, task.wake_at),)


def _story(task: Task, trigger: Trigger) -> Note:
    """Return one wide log event at the end of a task, and short ones on the way."""
    if not task.status.final:
        return note(
            f"task.{trigger.value}", "debug", task_id=task.id, proplet=task.proplet,
            attempt=task.attempt,
        )  # fmt: skip
    known = {"proplet": task.proplet, "message": task.message, "exit_code": task.exit_code}
    return note(
        f"task.{task.status.value}",
        "info" if task.status is TaskStatus.SUCCEEDED else "warning",
        task.reason,
        task_id=task.id,
        attempt=task.attempt,
        **{name: value for name, value in known.items() if value not in (None, "")},
        queued_s=round(task.queued_s, 3),
        dispatched_s=round(task.dispatched_s, 3),
        running_s=round(task.running_s, 3),
    )
