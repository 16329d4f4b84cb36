"""What a round makes of its participants' tasks: failures, cancels, asking again."""

from typing import Final

from roost.chassis.effects import Publish, SetTimer
from roost.coordinator.core.case import Case
from roost.coordinator.core.events import TaskChanged
from roost.coordinator.core.facts import TaskFact
from roost.coordinator.core.seats import Seat
from roost.coordinator.core.state import Round
from roost.protocol.round.messages import OnTimeout
from roost.protocol.round.refusals import OTHER_LAUNCH
from roost.protocol.round.topics import ROUND_START
from roost.protocol.task.messages import CancelTask, TaskStatus
from roost.protocol.task.topics import CANCEL, RESEND

FIRST_CHECK_S: Final = 3.0
LAST_CHECK_S: Final = 30.0
UPDATE_ON_ITS_WAY_S: Final = 2.0
_CANCEL_EXPIRY_S: Final = 60.0
# Of many failures the later ones are told by name alone: outcome and state must stay bounded.
TOLD_IN_FULL: Final = 50


def check_timer(round_: Round) -> str:
    """Return the key of the timer that asks again for what is missing."""
    return f"check/{round_.round_id}"


def take_in(case: Case, event: TaskChanged) -> None:
    """Learn how a participant's task stands."""
    who, fact, round_ = event.participant, event.fact, case.round
    seat = case.seat(who)
    foreign = fact.start_sha256 != round_.start_sha256
    if not round_.collecting or seat is None or foreign:
        unwanted = seat is None or seat.accepted is None or foreign
        if unwanted and not fact.status.final:
            case.emit(cancel(fact, "not wanted"))
        if round_.collecting and seat is not None:
            _fail(case, who, OTHER_LAUNCH.name)
    elif seat.accepted is None and fact.status is TaskStatus.SUCCEEDED:
        case.note_seat(who, succeeded=True)
        # Its update may be on its way still; if it does not come, it is asked for.
        _check_by(case, event.at + UPDATE_ON_ITS_WAY_S)
    elif seat.accepted is None and fact.status.final:
        _fail(case, who, fact.why if round_.failures < TOLD_IN_FULL else fact.name)


def _fail(case: Case, who: str, why: str) -> None:
    """Note why a task cannot bring an update; the first reason stands."""
    seat, first = case.seat(who), case.round.first_failed
    if seat is None or seat.failed is not None:
        return
    case.note_seat(who, failed=why)
    if len(first) < TOLD_IN_FULL:
        case.change(first_failed=(*first, who))


def _check_by(case: Case, at: float) -> None:
    """Look for what is missing at this time at the latest."""
    due = case.round.check_at
    if due is None or at < due:
        # Never later: successes that keep coming must not put the looking off.
        plan_check(case, at)
    case.change(checks=0)


def cancel(fact: TaskFact, reason: str) -> Publish:
    """Return the wish to end a task."""
    topic = CANCEL.format(task_id=fact.task_id)
    return Publish(topic, CancelTask(reason=reason).encode(), expiry_s=_CANCEL_EXPIRY_S)


def cancel_running(case: Case) -> None:
    """Cancel the tasks that run although their update is not wanted any more."""
    for who, _ in case.missing():
        fact = case.task(who)
        if fact is not None and not fact.status.final:
            case.emit(cancel(fact, f"round {case.round.status}"))


def stuck(round_: Round) -> bool:
    """Tell whether the quorum cannot be reached any more, nor waiting can help."""
    policy, possible = round_.policy, round_.invited - round_.out
    if possible >= policy.k:
        return False
    if policy.on_timeout is OnTimeout.FAIL:
        return True
    return possible < policy.min_updates or possible == round_.updates


def ask_again(case: Case) -> None:
    """Ask for what should be there: task states by the start, updates by a resend."""
    round_ = case.round
    absent = [(who, seat) for who, seat in case.missing() if seat.failed is None]
    if case.link is not None and any(case.task(who) is None for who, _ in absent):
        left = max(1.0, round_.deadline - case.at)
        start = case.start.encode()
        case.emit(Publish(ROUND_START.template, start, expiry_s=left, durable=False))
    owing = [task for who, seat in absent if _owes_update(seat) and (task := case.task(who))]
    late = [task for task in owing if case.at >= task.at + UPDATE_ON_ITS_WAY_S]
    for task in late:
        topic = RESEND.format(task_id=task.task_id)
        case.emit(Publish(topic, expiry_s=_CANCEL_EXPIRY_S, durable=False))
    wait = min(LAST_CHECK_S, FIRST_CHECK_S * 2.0**round_.checks)
    case.change(checks=round_.checks + 1)
    plan_check(case, case.at + (wait if len(late) == len(owing) else UPDATE_ON_ITS_WAY_S))


def _owes_update(seat: Seat) -> bool:
    return seat.succeeded and seat.refused is None and seat.held is None


def plan_check(case: Case, at: float) -> None:
    """Look for what is missing at this time."""
    case.emit(SetTimer(check_timer(case.round), at))
    case.change(check_at=at)
