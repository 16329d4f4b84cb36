"""What each happening does to a task; ``lifecycle`` says which applies when."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from roost.chassis.effects import ClearTimer, Effect, SetTimer, note
from roost.ios_bridge.core.effects import Discard, Prepare, SendOutputs
from roost.ios_bridge.core.events import (
    OutputsSent,
    PhoneReported,
    Prepared,
    StartArrived,
    StopArrived,
    Unprepared,
)
from roost.ios_bridge.core.reports import final_report, report
from roost.ios_bridge.core.states import Held, Identity, Outcome, Phase
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


def timer(kind: str, device: str, task_id: str) -> str:
    """Return the key of a task's timer."""
    return f"{kind}/{device}/{task_id}"


def backoff_s(tries: int) -> float:
    """Return how long to wait for an answer after this many sendings: 2, 4, 8 … 60 s."""
    return min(LONGEST_BACKOFF_S, 2.0 ** min(tries, 10))


def accept(event: StartArrived, me: Identity) -> Step:
    """Take a new attempt: it waits for its phone."""
    who: dict[str, Any] = {"device": event.device, "task": event.task_id}
    if event.remaining_s <= 0:
        return Step(None, (note("start.ignored", "warning", "expired", **who),))
    until = event.at + event.remaining_s
    held = Held(event.device, event.task_id, event.attempt, Phase.QUEUED, until, event.spec)
    return Step(
        held,
        (
            SetTimer(timer(DEADLINE_TIMER, held.device, held.task_id), until),
            report(held, me, ReportStatus.ACCEPTED),
            note("task.accepted", **who, attempt=held.attempt, image=event.spec.image),
        ),
    )


def bury(event: StopArrived) -> Step:
    """Leave a tombstone: the start that this stop overtook must not run."""
    until = event.at + TOMBSTONE_S
    return Step(
        Held(event.device, event.task_id, event.attempt, Phase.STOPPED, until),
        (SetTimer(timer(DEADLINE_TIMER, event.device, event.task_id), until),),
    )


def take_over(held: Held, event: StartArrived, me: Identity) -> Step:
    """A higher attempt takes the place of the one that is held."""
    accepted = accept(event, me)
    if accepted.held is None:
        return Step(held, accepted.effects)
    return Step(accepted.held, (*clear_away(held, event.attempt), *accepted.effects))


def clear_away(held: Held, below: int) -> tuple[Effect, ...]:
    """Remove what earlier attempts left."""
    if held.spec is None:
        return ()
    return (
        Discard(held.device, held.task_id, below),
        ClearTimer(timer(RETRY_TIMER, held.device, held.task_id)),
    )


def stop(held: Held, event: StopArrived, _me: Identity) -> Step:
    """End the attempt, and leave a tombstone."""
    until = max(held.deadline, event.at + TOMBSTONE_S)
    why = event.reason.value
    return Step(
        Held(held.device, held.task_id, event.attempt, Phase.STOPPED, until),
        (
            *clear_away(held, event.attempt + 1),
            SetTimer(timer(DEADLINE_TIMER, held.device, held.task_id), until),
            note("task.stopped", device=held.device, task=held.task_id, why=why),
        ),
    )


def prepare(held: Held, _event: Any, _me: Identity) -> Step:
    """The phone is this task's: fetch what it needs."""
    assert held.spec is not None
    effect = Prepare(held.device, held.task_id, held.attempt, held.spec, held.deadline)
    return Step(replace(held, phase=Phase.PREPARING), (effect,))


def ready(held: Held, event: Prepared, _me: Identity) -> Step:
    """All is here: the phone may begin."""
    return Step(replace(held, phase=Phase.READY, image=event.image, inputs=event.inputs))


def unprepared(held: Held, event: Unprepared, me: Identity) -> Step:
    """Image or inputs are not to be had."""
    return _end(held, event.outcome, event.at, me)


def tell_accepted(held: Held, _event: Any, me: Identity) -> Step:
    """Say that the attempt is here."""
    return Step(held, (report(held, me, ReportStatus.ACCEPTED),))


def tell_running(held: Held, _event: Any, me: Identity) -> Step:
    """The phone has begun, or is asked whether it has."""
    running = replace(held, phase=Phase.RUNNING) if held.phase is Phase.READY else held
    return Step(running, (report(running, me, ReportStatus.RUNNING),))


def tell_progress(held: Held, event: PhoneReported, me: Identity) -> Step:
    """Hand the guest's progress on."""
    running = replace(held, phase=Phase.RUNNING)
    told = report(running, me, ReportStatus.PROGRESS, event.report.progress or {})
    return Step(running, (told,))


def tell_pause(held: Held, event: PhoneReported, me: Identity) -> Step:
    """The phone rests, and the task is not over."""
    why = event.report.pause or "unknown"
    return Step(
        held,
        (
            report(held, me, ReportStatus.PROGRESS, {"paused": why}),
            note("task.paused", device=held.device, task=held.task_id, why=why),
        ),
    )


def tell_end(held: Held, _event: Any, me: Identity) -> Step:
    """Say how it ended."""
    return Step(held, (final_report(held, me),))


def _outcome(event: PhoneReported) -> Outcome:
    told = event.report
    return Outcome(
        told.reason, told.message or "", told.exit_code, told.stderr_tail or "", told.usage
    )


def succeeded(held: Held, event: PhoneReported, me: Identity) -> Step:
    """The guest succeeded; its outputs are to be published."""
    assert held.spec is not None
    if not held.spec.outputs:
        return _end(held, _outcome(event), event.at, me)
    sending = replace(held, phase=Phase.SENDING, outcome=_outcome(event))
    return Step(sending, (_send_outputs(sending),))


def _send_outputs(held: Held) -> SendOutputs:
    assert held.spec is not None
    return SendOutputs(held.device, held.task_id, held.attempt, held.spec, held.deadline)


def failed(held: Held, event: PhoneReported, me: Identity) -> Step:
    """The guest failed, or never ran."""
    return _end(held, _outcome(event), event.at, me)


def sent(held: Held, event: OutputsSent, me: Identity) -> Step:
    """The broker has the outputs."""
    assert held.outcome is not None
    return _end(held, held.outcome, event.at, me)


def refused(held: Held, event: OutputsSent, me: Identity) -> Step:
    """The broker will never take an output."""
    assert event.refused is not None
    return _end(held, event.refused, event.at, me)


def missing(held: Held, _event: Any, _me: Identity) -> Step:
    """Let the phone's order name the task again: it hands in once more what it still has."""
    said = note("outputs.missing", "warning", device=held.device, task=held.task_id)
    return Step(replace(held, phase=Phase.RUNNING, outcome=None), (said,))


def _end(held: Held, outcome: Outcome, at: float, me: Identity) -> Step:
    """Say how the attempt ended, and say it again until the manager has recorded it."""
    ended = replace(held, phase=Phase.ENDED, outcome=outcome, tries=1)
    return Step(
        ended,
        (
            final_report(ended, me),
            SetTimer(timer(RETRY_TIMER, held.device, held.task_id), at + backoff_s(1)),
            note(
                "task.finished",
                "info" if outcome.reason is None else "warning",
                "succeeded" if outcome.reason is None else outcome.reason.value,
                device=held.device,
                task=held.task_id,
                attempt=held.attempt,
            ),
        ),
    )


def _again(held: Held, at: float, effect: Effect) -> Step:
    tried = replace(held, tries=held.tries + 1)
    wait = SetTimer(timer(RETRY_TIMER, held.device, held.task_id), at + backoff_s(tried.tries))
    return Step(tried, (effect, wait))


def repeat_report(held: Held, event: Any, me: Identity) -> Step:
    """Nobody has recorded the end yet."""
    return _again(held, event.at, final_report(held, me))


def delayed(held: Held, event: Any, _me: Identity) -> Step:
    """Try the outputs again later."""
    said = note("outputs.delayed", "debug", device=held.device, task=held.task_id)
    return _again(held, event.at, said)


def send(held: Held, _event: Any, _me: Identity) -> Step:
    """Try the outputs again."""
    return Step(held, (_send_outputs(held),))


def recorded(held: Held, _event: Any, _me: Identity) -> Step:
    """The manager knows how it ended."""
    stop = ClearTimer(timer(RETRY_TIMER, held.device, held.task_id))
    return Step(replace(held, phase=Phase.RECORDED), (stop,))


def resend(held: Held, _event: Any, _me: Identity) -> Step:
    """Publish the kept outputs again, if it succeeded."""
    assert held.outcome is not None
    assert held.spec is not None
    if held.outcome.reason is not None or not held.spec.outputs:
        return Step(held)
    return Step(held, (_send_outputs(held),))


def give_up(held: Held, _event: Any, me: Identity) -> Step:
    """The task's time is over."""
    why = f"the task's deadline passed while it was {held.phase.value} for phone {held.device}"
    late = replace(held, outcome=Outcome(FailureReason.TIME_LIMIT, f"{why}: allow it more time"))
    said = note("task.finished", "warning", "time_limit", device=held.device, task=held.task_id)
    return Step(None, (final_report(late, me), *clear_away(held, held.attempt + 1), said))


def forget(held: Held, _event: Any, _me: Identity) -> Step:
    """Nobody will ask for it any more."""
    return Step(None, clear_away(held, held.attempt + 1))
