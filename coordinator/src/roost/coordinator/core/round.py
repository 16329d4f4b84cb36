"""The round: preparing → open → aggregating → publishing → completed, or failed.

``step`` takes what happened into the round and then lets it go as far as the facts allow. Where
it may go is the table ``TRANSITIONS`` of ``guards``, from which the diagram in specs/ is drawn; a
guard per status says when. Time comes in events alone, and every wait has a timer.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from roost.chassis.core import Connected, TimerFired
from roost.chassis.effects import ClearTimer, SetTimer
from roost.coordinator.core import publishing
from roost.coordinator.core.case import Case
from roost.coordinator.core.effects import (
    Average,
    DropOutgoing,
    DropSpools,
    FetchModel,
    FetchUpdate,
    SpooledUpdate,
)
from roost.coordinator.core.errors import IllegalTransition
from roost.coordinator.core.events import (
    Averaged,
    AverageFailed,
    BaseRead,
    BaseUnavailable,
    RoundEvent,
    TaskChanged,
    UpdateArrived,
    UpdateOffered,
    UpdateUnreadable,
)
from roost.coordinator.core.guards import (
    GRACE_S,
    GUARDS,
    INDEX_S,
    PRESENCES_S,
    TRANSITIONS,
    Push,
    Trigger,
)
from roost.coordinator.core.judge import (
    judge_held,
    judge_offer,
    receive,
    refuse,
    refuse_unreadable,
    take_held,
)
from roost.coordinator.core.outcome import metrics
from roost.coordinator.core.state import Base, Publication, Round
from roost.coordinator.core.tasks import (
    FIRST_CHECK_S,
    ask_again,
    cancel_running,
    check_timer,
    plan_check,
    stuck,
    take_in,
)
from roost.protocol.round.messages import RoundStatus
from roost.protocol.round.model import ModelForm
from roost.protocol.round.refusals import LATE
from roost.protocol.round.topics import MODEL
from roost.wire.refusal import Refusal

BASE_RETRY_S: Final = 2.0


def timers(round_: Round) -> tuple[str, ...]:
    """Return the keys of all timers a round may have."""
    kinds = ("prepare", "deadline", "grace", "base")
    return (*(f"{kind}/{round_.round_id}" for kind in kinds), check_timer(round_))


def begin(case: Case) -> None:
    """Let a new round go as far as it can at once."""
    round_id = case.round.round_id
    case.emit(SetTimer(f"deadline/{round_id}", case.round.deadline))
    _await_connection(case)
    for who in case.roster:
        # The manager may have had the start long before.
        if (fact := case.task(who)) is not None:
            take_in(case, TaskChanged(case.at, round_id, who, fact))
    _settle(case)


def reject(case: Case, refusal: Refusal, message: str) -> None:
    """End a new round at once: its policy cannot be carried out."""
    move(case, Push(Trigger.IMPOSSIBLE, refusal, message))


def step(case: Case, event: RoundEvent) -> None:
    """Let an event happen to the round, and do what follows.

    What comes too late, twice or from a stranger changes counters alone.
    """
    handler = _WHENEVER.get(type(event))
    if handler is None and not case.round.status.final:
        handler = _WHILE_RUNNING.get(type(event))
    if handler is not None:
        handler(case, event)
    _settle(case)


def _arrived(case: Case, event: UpdateArrived) -> None:
    receive(case, event.arrival)


def _offered(case: Case, event: UpdateOffered) -> None:
    problem = judge_offer(case, event.sender, event.manifest)
    if problem is not None:
        refuse(case, event.sender, problem)
    else:
        case.emit(FetchUpdate(case.round.round_id, event.sender, event.manifest))


def _unreadable(case: Case, event: UpdateUnreadable) -> None:
    refuse_unreadable(case, event.sender, (event.refusal, event.detail))


def _connected(case: Case, _event: Connected) -> None:
    _await_connection(case)


def _await_connection(case: Case) -> None:
    """Come back when the connection has lasted long enough to miss something on it."""
    round_, link = case.round, case.link
    if round_.status is not RoundStatus.PREPARING or link is None:
        return
    presences = link.heard_at + PRESENCES_S
    index = max(link.connected_at, round_.started_at) + INDEX_S
    for time in sorted(time for time in (presences, index) if time > case.at)[:1]:
        case.emit(SetTimer(f"prepare/{round_.round_id}", time))


def _timer_fired(case: Case, event: TimerFired) -> None:
    round_, kind = case.round, event.key.partition("/")[0]
    match kind:
        case "prepare":
            _await_connection(case)
        case "check" if round_.status is RoundStatus.OPEN:
            ask_again(case)
        case "base" if round_.base and round_.base.shapes is None:
            _fetch_base(case, round_.base)
        case "publish" if round_.status is RoundStatus.PUBLISHING:
            _pursue(case, again=True)
            case.change(message="waits for the model server to list the model: does it run?")


def _pursue(case: Case, *, again: bool) -> None:
    publication = case.round.publication
    assert publication is not None
    sent, effects = publishing.pursue(publication, case.index, case.claimed, case.at, again=again)
    case.change(publication=sent)
    case.emit(*effects)


def _base_read(case: Case, event: BaseRead) -> None:
    base = case.round.base
    if base is None or base.shapes is not None:
        return
    read = Base(
        base.version,
        base.digest,
        base.size,
        base.binary,
        event.shapes,
        event.dtypes,
        event.summary,
    )
    case.change(base=read, message=None)
    judge_held(case)


def _base_unavailable(case: Case, event: BaseUnavailable) -> None:
    case.emit(SetTimer(f"base/{case.round.round_id}", event.at + BASE_RETRY_S))
    case.change(message=f"waits for its base model: {event.detail}")


def _averaged(case: Case, event: Averaged) -> None:
    round_, name = case.round, MODEL.match(case.round.model_uri)
    if round_.status is not RoundStatus.AGGREGATING or round_.base is None or name is None:
        return
    publication = Publication(
        round_.round_id,
        name["name"],
        event.digest,
        round_.base.binary,
        round_.base.version,
        metrics(case),
    )
    case.change(publication=publication)


def _average_failed(case: Case, event: AverageFailed) -> None:
    if case.round.status is RoundStatus.AGGREGATING:
        case.change(reason=event.refusal.name, message=event.detail)


_Handlers: TypeAlias = Mapping[type[Any], Callable[[Case, Any], None]]
_WHENEVER: Final[_Handlers] = {
    UpdateArrived: _arrived,
    UpdateOffered: _offered,
    UpdateUnreadable: _unreadable,
    TaskChanged: take_in,
}
_WHILE_RUNNING: Final[_Handlers] = {
    Connected: _connected,
    TimerFired: _timer_fired,
    BaseRead: _base_read,
    BaseUnavailable: _base_unavailable,
    Averaged: _averaged,
    AverageFailed: _average_failed,
}


def _settle(case: Case) -> None:
    """Push the round on until no guard opens any more."""
    while True:
        _watch_quorum(case)
        push = GUARDS[case.round.status](case)
        if push is None:
            break
        move(case, push)
    if case.round.status is RoundStatus.PUBLISHING:
        _pursue(case, again=False)


def _watch_quorum(case: Case) -> None:
    """Note since when the quorum is out of reach; an update may be on its way."""
    round_ = case.round
    since, timer = round_.unreachable_since, f"grace/{round_.round_id}"
    is_stuck = round_.status is RoundStatus.OPEN and stuck(round_)
    if is_stuck and since is None:
        case.change(unreachable_since=case.at)
        case.emit(SetTimer(timer, case.at + GRACE_S))
    elif not is_stuck and since is not None:
        case.change(unreachable_since=None)
        case.emit(ClearTimer(timer))


def move(case: Case, push: Push) -> None:
    """Let the round enter its next status.

    Raises:
        IllegalTransition: its table has no such way.
    """
    round_ = case.round
    target = TRANSITIONS[round_.status].get(push.trigger)
    if target is None:
        raise IllegalTransition(f"{round_.round_id}: {push.trigger!r} while {round_.status}")
    case.change(status=target)
    if push.refusal is not None:
        message = f"{(push.message or '').rstrip('.')}. {push.refusal.cure}"
        case.change(reason=push.refusal.name, message=message)
    _ENTER[target](case)


def _enter_open(case: Case) -> None:
    round_ = case.round
    entry = case.index.find(round_.model_uri) if case.index else None
    assert entry is not None
    binary = entry.form == ModelForm.SAFETENSORS
    base = Base(entry.version, entry.digest, entry.size, binary)
    case.change(base=base)
    case.emit(ClearTimer(f"prepare/{round_.round_id}"))
    plan_check(case, case.at + FIRST_CHECK_S)
    _fetch_base(case, base)


def _fetch_base(case: Case, base: Base) -> None:
    case.emit(FetchModel(case.round.round_id, case.round.model_uri, base.digest))


def _enter_aggregating(case: Case) -> None:
    round_ = case.round
    assert round_.base is not None
    updates = tuple(
        SpooledUpdate(seat.accepted.spool, seat.accepted.num_samples)
        for _, seat in case.seats()
        if seat.accepted is not None
    )
    case.emit(Average(round_.round_id, round_.model_uri, round_.base.digest, updates))
    _close(case)


def _close(case: Case) -> None:
    """Stop collecting: no timers, no running tasks, nobody waiting."""
    case.emit(*(ClearTimer(key) for key in timers(case.round)))
    cancel_running(case)
    held = take_held(case)
    for arrival in held:
        refuse(case, arrival.sender, (LATE, f"the round is {case.round.status}"))
    if held:
        case.emit(DropSpools(tuple(arrival.spool for arrival in held)))


def _enter_publishing(_case: Case) -> None:
    """Nothing is to be done: sending is what ``_settle`` ends with."""


def _enter_completed(case: Case) -> None:
    publication, index = case.round.publication, case.index
    assert publication is not None
    assert index is not None
    version = publishing.listed(publication, index)
    assert version is not None
    listed = {"version": version.version, "model_topic": version.topic}
    case.change(**listed, message=None, ended_at=case.at)
    case.emit(publishing.settled(publication), DropOutgoing(case.round.round_id))


def _enter_failed(case: Case) -> None:
    _close(case)
    case.change(ended_at=case.at)


_ENTER: Final[Mapping[RoundStatus, Callable[[Case], None]]] = {
    RoundStatus.OPEN: _enter_open,
    RoundStatus.AGGREGATING: _enter_aggregating,
    RoundStatus.PUBLISHING: _enter_publishing,
    RoundStatus.COMPLETED: _enter_completed,
    RoundStatus.FAILED: _enter_failed,
}
