"""Which task goes to which proplet, and what life signs and silence mean for tasks."""

from dataclasses import replace

from roost.chassis.effects import note
from roost.manager.core.draft import LINK, NOWHERE, PROPLET, THE, Draft
from roost.manager.core.events import LifeSign, PresenceArrived, ReportArrived
from roost.manager.core.lifecycle import state_of, stop_order, timer
from roost.manager.core.proplet import Link, Proplet, choose, quiet_since
from roost.manager.core.step import LEASE_S
from roost.manager.core.task import (
    Assigned,
    DeadlinePassed,
    LeaseKept,
    Listed,
    Lost,
    Reported,
    StartDue,
    Task,
    new_task,
)
from roost.protocol.task.messages import (
    FailureReason,
    Launch,
    Presence,
    PresenceStatus,
    StopReason,
    TaskRequest,
    TaskStatus,
)


def add_task(
    draft: Draft, request: TaskRequest, launch: Launch, at: float, patience_s: float = 0.0
) -> None:
    """Take a task in; it goes to a proplet at once where one can take it.

    Args:
        draft: What is decided so far.
        request: What shall run.
        launch: Which message launched it.
        at: When.
        patience_s: How much longer than usual the proplet's answer may take.
    """
    task = new_task(request, launch, at)
    target = _target(draft, task, at)
    if target is not None:
        assigned = draft.advance(task, Assigned(at, target, patience_s))
        draft.add(*timer(assigned, None))
        return
    waiting = replace(task, message=_why_waiting(draft, task))
    draft.keep(waiting)
    draft.add(state_of(waiting, at), *timer(waiting, None))
    draft.add(note("task.queued", "debug", task_id=task.id, message=waiting.message))


def place(draft: Draft, task: Task, at: float) -> None:
    """Give a queued task to a proplet if one can take it."""
    target = _target(draft, task, at)
    if target is not None:
        draft.advance(task, Assigned(at, target))


def _target(draft: Draft, task: Task, at: float) -> str | None:
    pinned = task.request.proplet
    if pinned is None:
        known = draft.all(PROPLET).values()
        return choose(known, task.request.selector, draft.load(), at)
    proplet = draft.proplet(pinned)
    return pinned if proplet is not None and proplet.reachable(at) else None


def _why_waiting(draft: Draft, task: Task) -> str:
    pinned = task.request.proplet
    if pinned is None:
        labels = ", ".join(f"{name}={value}" for name, value in task.request.selector.items())
        return f"no proplet is online{f' with {labels}' if labels else ''}"
    if draft.proplet(pinned) is None:
        known = sorted(draft.all(PROPLET))[:20]
        return f"proplet '{pinned}' was never seen; known: {', '.join(known) or 'none'}"
    return f"proplet '{pinned}' is not online"


def on_report(draft: Draft, event: ReportArrived) -> None:
    """Apply a report, or answer it so that it is not repeated."""
    task = draft.task(event.task_id)
    if task is not None:
        draft.advance(task, Reported(event.at, event.proplet, event.report))
    else:
        draft.add(
            stop_order(event.proplet, event.task_id, event.report.attempt, StopReason.STALE),
            note(
                "report.ignored",
                "info",
                "unknown_task",
                task_id=event.task_id,
                proplet=event.proplet,
            ),
        )
    # Only now: what waits for this proplet must not take the report for its own.
    _show_life(draft, event.proplet, event.at)


def on_presence(draft: Draft, event: PresenceArrived) -> None:
    """Learn what a proplet is, has and holds."""
    presence, at = event.presence, event.at
    known = draft.proplet(presence.proplet_id) or Proplet(presence.proplet_id)
    if event.retained:
        if not known.online(at):
            _update(draft, replace(known, presence=presence, hinted_at=at), known, at)
        _stop_unknown(draft, presence)
        return
    rebooted = known.presence is not None and known.presence.boot_id != presence.boot_id
    alive = presence.status is not PresenceStatus.OFFLINE
    if rebooted and not alive and known.online(at):
        # The last will of a process whose successor has spoken already.
        draft.add(note("presence.ignored", "info", "earlier_process", proplet=known.id))
        return
    seen = replace(known, presence=presence, seen_at=at if alive else known.seen_at)
    _update(draft, seen, known, at, again=rebooted)
    if alive:
        _compare(draft, presence, at)


def _stop_unknown(draft: Draft, presence: Presence) -> None:
    """End what nobody here knows, though it may be over by now: a proplet says its presence once.

    A manager that lost its state would else hear of it at its end only.
    """
    for entry in presence.running:
        if draft.task(entry.task_id) is None:
            stale = StopReason.STALE
            draft.add(stop_order(presence.proplet_id, entry.task_id, entry.attempt, stale))


def on_life_sign(draft: Draft, event: LifeSign) -> None:
    """Note that a proplet is there."""
    _show_life(draft, event.proplet, event.at)


def _show_life(draft: Draft, proplet_id: str, at: float) -> None:
    known = draft.proplet(proplet_id) or Proplet(proplet_id)
    _update(draft, known.alive(at), known, at)


def _update(
    draft: Draft, proplet: Proplet, before: Proplet, at: float, *, again: bool = False
) -> None:
    """Keep what is known of a proplet; if it came back, give it what waits for it."""
    draft.put(PROPLET, proplet.id, proplet)
    came = proplet.online(at) and not before.online(at)
    reached = proplet.reachable(at) and not before.reachable(at)
    if not (came or reached or again):
        return
    for task in (*draft.tasks_at(proplet.id), *draft.tasks_at(NOWHERE)):
        if task.status is TaskStatus.QUEUED:
            place(draft, task, at)
        elif not task.accepted and (reached or again):
            draft.advance(task, StartDue(at))


def _compare(draft: Draft, presence: Presence, at: float) -> None:
    """Hold what a proplet says that it holds against what it should hold."""
    proplet_id = presence.proplet_id
    held = {entry.task_id: entry.attempt for entry in presence.running}
    for task in draft.tasks_at(proplet_id):
        if task.accepted and (task.missing_at is not None or held.get(task.id) != task.attempt):
            draft.advance(task, Listed(at, proplet_id, held.get(task.id)))
    for task_id, attempt in held.items():
        reason = _unwanted(draft.task(task_id), proplet_id, attempt)
        if reason is not None:
            draft.add(stop_order(proplet_id, task_id, attempt, reason))


def _unwanted(task: Task | None, proplet_id: str, attempt: int) -> StopReason | None:
    """Say why a proplet should not hold an attempt any more."""
    if task is None or task.proplet != proplet_id or task.attempt != attempt:
        return StopReason.STALE
    if task.reason == FailureReason.LOST.value:
        return StopReason.STALE
    return {
        TaskStatus.QUEUED: StopReason.STALE,
        TaskStatus.CANCELLED: StopReason.CANCELLED,
        TaskStatus.EXPIRED: StopReason.EXPIRED,
    }.get(task.status)


def on_task_timer(draft: Draft, task: Task, at: float) -> None:
    """Do all that is due for a task."""
    if at >= task.deadline_at:
        draft.advance(task, DeadlinePassed(at))
        return
    if task.missing_at is not None and at >= task.missing_at:
        _lose(draft, task, at, f"proplet '{task.proplet}' no longer holds it")
        return
    if task.lease_at is not None and at >= task.lease_at:
        task = _look_at_lease(draft, task, at)
    if task.start_at is not None and at >= task.start_at:
        task = draft.advance(task, StartDue(at))
    # A timer that came early, or whose reason is gone, is set again.
    draft.add(*timer(task, None))


def _look_at_lease(draft: Draft, task: Task, at: float) -> Task:
    """Renew the lease if there were life signs, else give the task to another proplet."""
    quiet = quiet_since(draft.proplet(task.proplet or ""), draft.link)
    until = quiet + LEASE_S if draft.link.up else at + LEASE_S
    if until > at:
        return draft.advance(task, LeaseKept(at, until))
    return _lose(draft, task, at, f"proplet '{task.proplet}' shows no life")


def _lose(draft: Draft, task: Task, at: float, why: str) -> Task:
    lost = draft.advance(task, Lost(at, why))
    if lost.status is TaskStatus.QUEUED:
        place(draft, lost, at)
    return lost


def on_link(draft: Draft, *, up: bool, at: float) -> None:
    """Begin to count silence anew: nobody could be heard while there was no connection."""
    draft.put(LINK, THE, Link(up=up, since=at))
    for task in draft.open_tasks():
        if task.lease_at is not None:
            draft.advance(task, LeaseKept(at, at + LEASE_S))
