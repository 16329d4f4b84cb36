"""The life of one held task, as a table: (phase, happening) -> what to do (rules TASK-030 ff.).

What the table does not list changes nothing and is counted. Only the highest attempt counts:
what comes of an earlier one is ``stale`` whatever the phase.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from roost.chassis.effects import ClearTimer, Effect, SetTimer, note
from roost.proplet.core.effects import Discard, Execute, SendOutputs, StopGuest
from roost.proplet.core.events import (
    GuestEnded,
    GuestProgressed,
    OutputsDelayed,
    OutputsSent,
    ResendArrived,
    StartArrived,
    StopArrived,
)
from roost.proplet.core.happenings import DeadlinePassed, Happening, RetryDue, SlotFreed, classify
from roost.proplet.core.reports import final_report, report
from roost.proplet.core.states import Held, Identity, Outcome, Phase
from roost.protocol.task.messages import FailureReason, ReportStatus

TOMBSTONE_S: Final = 3600.0
LONGEST_BACKOFF_S: Final = 60.0
DEADLINE_TIMER: Final = "deadline"
RETRY_TIMER: Final = "retry"


@dataclass(frozen=True, slots=True)
class Step:
    """What one happening makes of a task.

    Attributes:
        held: Its new state; None: it is forgotten.
        effects: What to do.
    """

    held: Held | None
    effects: tuple[Effect, ...] = ()


Action: TypeAlias = Callable[[Held, Any, Identity], Step]


def timer(kind: str, task_id: str) -> str:
    """Return the key of a task's timer."""
    return f"{kind}/{task_id}"


def step(held: Held | None, event: Any, me: Identity) -> Step:
    """Let one event happen to the task it names.

    Args:
        held: The task, or None if this proplet holds no such task.
        event: One of ``events``, ``SlotFreed``, ``RetryDue``, ``DeadlinePassed``.
        me: Who reports.
    """
    happening = classify(held, event)
    if held is None:
        if happening is Happening.NEW_START:
            return _accept(event, me)
        if happening is Happening.STOP:
            return _bury(event)
        return _ignored(None, event, happening)
    action = TABLE.get((held.phase, happening))
    return _ignored(held, event, happening) if action is None else action(held, event, me)


def _ignored(held: Held | None, event: Any, happening: Happening) -> Step:
    phase = "unknown" if held is None else held.phase.value
    return Step(
        held,
        (
            note(
                "event.ignored",
                "debug",
                happening.value.replace(" ", "_"),
                task=event.task_id,
                phase=phase,
            ),
        ),
    )


def _accept(event: StartArrived, me: Identity) -> Step:
    if event.remaining_s <= 0:
        return Step(None, (note("start.ignored", "warning", "expired", task=event.task_id),))
    deadline = event.at + event.remaining_s
    held = Held(event.task_id, event.attempt, Phase.QUEUED, deadline, event.spec)
    return Step(
        held,
        (
            SetTimer(timer(DEADLINE_TIMER, held.task_id), deadline),
            report(held, me, ReportStatus.ACCEPTED),
            note("task.accepted", task=held.task_id, attempt=held.attempt, image=event.spec.image),
        ),
    )


def _bury(event: StopArrived) -> Step:
    """Leave a tombstone: the start that this stop overtook must not run."""
    until = event.at + TOMBSTONE_S
    return Step(
        Held(event.task_id, event.attempt, Phase.STOPPED, until),
        (
            SetTimer(timer(DEADLINE_TIMER, event.task_id), until),
            note("task.stopped_early", task=event.task_id, attempt=event.attempt),
        ),
    )


def _replace(held: Held, event: StartArrived, me: Identity) -> Step:
    accepted = _accept(event, me)
    if accepted.held is None:
        return Step(held, accepted.effects)
    return Step(accepted.held, (*_clear_away(held, event.attempt), *accepted.effects))


def _clear_away(held: Held, below: int) -> tuple[Effect, ...]:
    """Stop what runs for a task and remove what earlier attempts left."""
    if held.spec is None:
        return ()
    return (
        *((StopGuest(held.task_id, held.attempt),) if held.phase is Phase.RUNNING else ()),
        Discard(held.task_id, below),
        ClearTimer(timer(RETRY_TIMER, held.task_id)),
    )


def _stop(held: Held, event: StopArrived, _me: Identity) -> Step:
    until = max(held.deadline, event.at + TOMBSTONE_S)
    said = note("task.stopped", task=held.task_id, attempt=event.attempt, why=event.reason.value)
    # The manager says it again to every report that crossed the first stop.
    repeated = held.phase is Phase.STOPPED and held.attempt == event.attempt
    return Step(
        Held(held.task_id, event.attempt, Phase.STOPPED, until),
        (
            *_clear_away(held, event.attempt + 1),
            SetTimer(timer(DEADLINE_TIMER, held.task_id), until),
            *(() if repeated else (said,)),
        ),
    )


def _run(held: Held, _event: SlotFreed, _me: Identity) -> Step:
    assert held.spec is not None
    execute = Execute(held.task_id, held.attempt, held.spec, held.deadline)
    return Step(replace(held, phase=Phase.RUNNING), (execute,))


def _tell_accepted(held: Held, _event: Any, me: Identity) -> Step:
    return Step(held, (report(held, me, ReportStatus.ACCEPTED),))


def _tell_running(held: Held, _event: Any, me: Identity) -> Step:
    return Step(held, (report(held, me, ReportStatus.RUNNING),))


def _tell_progress(held: Held, event: GuestProgressed, me: Identity) -> Step:
    return Step(held, (report(held, me, ReportStatus.PROGRESS, event.progress),))


def _tell_end(held: Held, _event: Any, me: Identity) -> Step:
    return Step(held, (final_report(held, me),))


def _succeeded(held: Held, event: GuestEnded, me: Identity) -> Step:
    assert held.spec is not None
    if not held.spec.outputs:
        return _end(held, event.outcome, event.at, me)
    sending = replace(held, phase=Phase.SENDING, outcome=event.outcome)
    return Step(sending, (SendOutputs(held.task_id, held.attempt, held.spec, held.deadline),))


def _failed(held: Held, event: GuestEnded, me: Identity) -> Step:
    return _end(held, event.outcome, event.at, me)


def _sent(held: Held, event: OutputsSent, me: Identity) -> Step:
    assert held.outcome is not None
    return _end(held, held.outcome, event.at, me)


def _refused(held: Held, event: OutputsSent, me: Identity) -> Step:
    assert held.outcome is not None
    assert event.refused is not None
    outcome = replace(held.outcome, reason=event.refused.reason, message=event.refused.message)
    return _end(held, outcome, event.at, me)


def _end(held: Held, outcome: Outcome, at: float, me: Identity) -> Step:
    """Say how the attempt ended, and say it again until the manager has recorded it."""
    ended = replace(held, phase=Phase.ENDED, outcome=outcome, tries=1)
    return Step(
        ended,
        (
            final_report(ended, me),
            SetTimer(timer(RETRY_TIMER, held.task_id), at + backoff_s(1)),
            _end_note(ended, outcome),
        ),
    )


def _end_note(held: Held, outcome: Outcome) -> Effect:
    usage = {} if outcome.usage is None else outcome.usage.model_dump(exclude_none=True)
    return note(
        "task.finished",
        "info" if outcome.reason is None else "warning",
        "succeeded" if outcome.reason is None else outcome.reason.value,
        task=held.task_id,
        attempt=held.attempt,
        **({"why": outcome.message} if outcome.message else {}),
        **usage,
    )


def _repeat_report(held: Held, event: RetryDue, me: Identity) -> Step:
    again = replace(held, tries=held.tries + 1)
    due = event.at + backoff_s(again.tries)
    return Step(again, (final_report(again, me), SetTimer(timer(RETRY_TIMER, held.task_id), due)))


def _delayed(held: Held, event: OutputsDelayed, _me: Identity) -> Step:
    later = replace(held, tries=held.tries + 1)
    due = event.at + backoff_s(later.tries)
    return Step(later, (SetTimer(timer(RETRY_TIMER, held.task_id), due),))


def _send(held: Held, _event: Any, _me: Identity) -> Step:
    assert held.spec is not None
    return Step(held, (SendOutputs(held.task_id, held.attempt, held.spec, held.deadline),))


def _resend(held: Held, event: ResendArrived, me: Identity) -> Step:
    assert held.outcome is not None
    if held.outcome.reason is not None:
        return _ignored(held, event, Happening.RESEND)
    return _send(held, event, me)


def _recorded(held: Held, _event: StopArrived, _me: Identity) -> Step:
    done = replace(held, phase=Phase.RECORDED)
    return Step(done, (ClearTimer(timer(RETRY_TIMER, held.task_id)),))


def _give_up(held: Held, _event: DeadlinePassed, me: Identity) -> Step:
    """End an attempt whose time is over: nobody waits for it any more."""
    outcome = Outcome(
        FailureReason.TIME_LIMIT,
        f"the task's deadline passed while it was {held.phase.value}: allow it more time",
    )
    late = replace(held, outcome=outcome)
    return Step(
        None,
        (final_report(late, me), *_clear_away(held, held.attempt + 1), _end_note(late, outcome)),
    )


def _forget(held: Held, _event: DeadlinePassed, _me: Identity) -> Step:
    unheard = held.phase is Phase.ENDED
    return Step(
        None,
        (
            *_clear_away(held, held.attempt + 1),
            note(
                "task.forgotten",
                "warning" if unheard else "debug",
                "never_recorded" if unheard else "deadline",
                task=held.task_id,
            ),
        ),
    )


def backoff_s(tries: int) -> float:
    """Return how long to wait for an answer after this many sendings: 2, 4, 8 … 60 s."""
    return min(LONGEST_BACKOFF_S, 2.0 ** min(tries, 10))


TABLE: Final[Mapping[tuple[Phase, Happening], Action]] = {
    (Phase.QUEUED, Happening.SLOT): _run,
    (Phase.QUEUED, Happening.NEW_START): _replace,
    (Phase.QUEUED, Happening.SAME_START): _tell_accepted,
    (Phase.QUEUED, Happening.STOP): _stop,
    (Phase.QUEUED, Happening.RECORDED): _stop,
    (Phase.QUEUED, Happening.DEADLINE): _give_up,
    (Phase.RUNNING, Happening.STARTED): _tell_running,
    (Phase.RUNNING, Happening.PROGRESSED): _tell_progress,
    (Phase.RUNNING, Happening.SUCCEEDED): _succeeded,
    (Phase.RUNNING, Happening.FAILED): _failed,
    (Phase.RUNNING, Happening.NEW_START): _replace,
    (Phase.RUNNING, Happening.SAME_START): _tell_running,
    (Phase.RUNNING, Happening.STOP): _stop,
    (Phase.RUNNING, Happening.RECORDED): _stop,
    (Phase.RUNNING, Happening.DEADLINE): _give_up,
    (Phase.SENDING, Happening.SENT): _sent,
    (Phase.SENDING, Happening.REFUSED): _refused,
    (Phase.SENDING, Happening.DELAYED): _delayed,
    (Phase.SENDING, Happening.RETRY): _send,
    (Phase.SENDING, Happening.NEW_START): _replace,
    (Phase.SENDING, Happening.SAME_START): _tell_running,
    (Phase.SENDING, Happening.STOP): _stop,
    (Phase.SENDING, Happening.RECORDED): _stop,
    (Phase.SENDING, Happening.DEADLINE): _give_up,
    (Phase.ENDED, Happening.RECORDED): _recorded,
    (Phase.ENDED, Happening.RETRY): _repeat_report,
    (Phase.ENDED, Happening.RESEND): _resend,
    (Phase.ENDED, Happening.NEW_START): _replace,
    (Phase.ENDED, Happening.SAME_START): _tell_end,
    (Phase.ENDED, Happening.STOP): _stop,
    (Phase.ENDED, Happening.DEADLINE): _forget,
    (Phase.RECORDED, Happening.RESEND): _resend,
    (Phase.RECORDED, Happening.NEW_START): _replace,
    (Phase.RECORDED, Happening.SAME_START): _tell_end,
    (Phase.RECORDED, Happening.STOP): _stop,
    (Phase.RECORDED, Happening.DEADLINE): _forget,
    (Phase.STOPPED, Happening.NEW_START): _replace,
    (Phase.STOPPED, Happening.STOP): _stop,
    (Phase.STOPPED, Happening.DEADLINE): _forget,
}
"""Every transition of a held task; specs/ draws its diagram from here."""
