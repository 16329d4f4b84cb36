"""The round: preparing → open → aggregating → publishing → completed, or failed.

``step`` takes what happened into the round and then lets it go as far as the facts allow. Where
it may go is the table ``TRANSITIONS`` of ``guards``, from which the diagram in specs/ is drawn; a
guard per status says when. Time comes in events alone, and every wait has a timer.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from roost.chassis.core import Connected, TimerFired
from roost.chassis.effects import ClearTimer, Effect, SetTimer
from roost.coordinator.core import publishing
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
from roost.coordinator.core.facts import Facts
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
    Judged,
    judge_offer,
    judge_waiting,
    receive,
    refuse,
    refuse_unreadable,
)
from roost.coordinator.core.outcome import metrics
from roost.coordinator.core.state import Base, Publication, Round
from roost.coordinator.core.tasks import (
    FIRST_CHECK_S,
    absences,
    ask_again,
    cancel_running,
    check_timer,
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


def begin(round_: Round, facts: Facts, at: float) -> Judged:
    """Let a new round go as far as it can at once."""
    effects = (
        SetTimer(f"deadline/{round_.round_id}", round_.deadline),
        *_await_connection(round_, facts, at),
    )
    return _settle(round_, effects, facts, at)


def reject(round_: Round, refusal: Refusal, message: str, at: float) -> Judged:
    """End a new round at once: its policy cannot be carried out."""
    return _move(round_, Push(Trigger.IMPOSSIBLE, refusal, message), Facts(), at)


def step(round_: Round, event: RoundEvent, facts: Facts) -> Judged:
    """Return the round after an event, and what is to be done.

    What comes too late, twice or from a stranger changes counters alone.
    """
    after, effects = _take_in(round_, event, facts)
    return _settle(after, effects, facts, event.at)


def _take_in(round_: Round, event: RoundEvent, facts: Facts) -> Judged:
    handler = _WHENEVER.get(type(event))
    if handler is None and not round_.status.final:
        handler = _WHILE_RUNNING.get(type(event))
    return handler(round_, event, facts) if handler else (round_, ())


def _arrived(round_: Round, event: UpdateArrived, facts: Facts) -> Judged:
    return receive(round_, event.arrival, facts)


def _offered(round_: Round, event: UpdateOffered, facts: Facts) -> Judged:
    problem = judge_offer(round_, event.sender, event.manifest, facts)
    if problem is not None:
        return refuse(round_, event.sender, problem), ()
    return round_, (FetchUpdate(round_.round_id, event.sender, event.manifest),)


def _unreadable(round_: Round, event: UpdateUnreadable, facts: Facts) -> Judged:
    problem = (event.refusal, event.detail)
    return refuse_unreadable(round_, event.sender, problem, facts), ()


def _task_changed(round_: Round, event: TaskChanged, _facts: Facts) -> Judged:
    return take_in(round_, event)


def _connected(round_: Round, event: Connected, facts: Facts) -> Judged:
    return round_, _await_connection(round_, facts, event.at)


def _await_connection(round_: Round, facts: Facts, at: float) -> tuple[Effect, ...]:
    """Come back when the connection has lasted long enough to miss something on it."""
    if round_.status is not RoundStatus.PREPARING or facts.connected_at is None:
        return ()
    presences = facts.connected_at + PRESENCES_S
    index = max(facts.connected_at, round_.started_at) + INDEX_S
    return tuple(
        SetTimer(f"prepare/{round_.round_id}", time)
        for time in sorted(time for time in (presences, index) if time > at)[:1]
    )


def _timer_fired(round_: Round, event: TimerFired, facts: Facts) -> Judged:
    at, kind = event.at, event.key.partition("/")[0]
    match kind:
        case "prepare":
            return round_, _await_connection(round_, facts, at)
        case "check" if round_.status is RoundStatus.OPEN:
            return ask_again(round_, facts, at)
        case "base" if round_.base and round_.base.shapes is None:
            return round_, (_fetch_base(round_, round_.base),)
        case "publish" if round_.publication and round_.status is RoundStatus.PUBLISHING:
            sent, effects = publishing.pursue(round_.publication, facts, at, again=True)
            return replace(round_, publication=sent), effects
        case _:
            return round_, ()


def _base_read(round_: Round, event: BaseRead, facts: Facts) -> Judged:
    if round_.base is None or round_.base.shapes is not None:
        return round_, ()
    base = replace(round_.base, shapes=event.shapes, dtypes=event.dtypes, summary=event.summary)
    return judge_waiting(replace(round_, base=base, message=None), facts)


def _base_unavailable(round_: Round, event: BaseUnavailable, _facts: Facts) -> Judged:
    timer = SetTimer(f"base/{round_.round_id}", event.at + BASE_RETRY_S)
    return replace(round_, message=f"waits for its base model: {event.detail}"), (timer,)


def _averaged(round_: Round, event: Averaged, _facts: Facts) -> Judged:
    name = MODEL.match(round_.model_uri)
    if round_.status is not RoundStatus.AGGREGATING or round_.base is None or name is None:
        return round_, ()
    publication = Publication(
        round_.round_id,
        name["name"],
        event.digest,
        round_.base.binary,
        round_.base.version,
        metrics(round_),
    )
    return replace(round_, publication=publication), ()


def _average_failed(round_: Round, event: AverageFailed, _facts: Facts) -> Judged:
    if round_.status is not RoundStatus.AGGREGATING:
        return round_, ()
    return replace(round_, reason=event.refusal.name, message=event.detail), ()


_Handlers: TypeAlias = Mapping[type[Any], Callable[[Round, Any, Facts], Judged]]
_WHENEVER: Final[_Handlers] = {
    UpdateArrived: _arrived,
    UpdateOffered: _offered,
    UpdateUnreadable: _unreadable,
    TaskChanged: _task_changed,
}
_WHILE_RUNNING: Final[_Handlers] = {
    Connected: _connected,
    TimerFired: _timer_fired,
    BaseRead: _base_read,
    BaseUnavailable: _base_unavailable,
    Averaged: _averaged,
    AverageFailed: _average_failed,
}


def _settle(round_: Round, effects: tuple[Effect, ...], facts: Facts, at: float) -> Judged:
    """Push the round on until no guard opens any more."""
    while True:
        round_, more = _watch_quorum(round_, facts, at)
        effects = (*effects, *more)
        push = GUARDS[round_.status](round_, facts, at)
        if push is None:
            break
        round_, more = _move(round_, push, facts, at)
        effects = (*effects, *more)
    if round_.status is RoundStatus.PUBLISHING and round_.publication:
        sent, more = publishing.pursue(round_.publication, facts, at, again=False)
        return replace(round_, publication=sent), (*effects, *more)
    return round_, effects


def _watch_quorum(round_: Round, facts: Facts, at: float) -> Judged:
    """Note since when the quorum is out of reach; an update may be on its way."""
    since, timer = round_.unreachable_since, f"grace/{round_.round_id}"
    is_stuck = round_.status is RoundStatus.OPEN and stuck(round_, facts)
    if is_stuck and since is None:
        return replace(round_, unreachable_since=at), (SetTimer(timer, at + GRACE_S),)
    if not is_stuck and since is not None:
        return replace(round_, unreachable_since=None), (ClearTimer(timer),)
    return round_, ()


def _move(round_: Round, push: Push, facts: Facts, at: float) -> Judged:
    target = TRANSITIONS[round_.status].get(push.trigger)
    if target is None:
        raise IllegalTransition(f"{round_.round_id}: {push.trigger!r} while {round_.status}")
    round_ = replace(round_, status=target)
    if push.refusal is not None:
        message = f"{(push.message or '').rstrip('.')}. {push.refusal.cure}"
        round_ = replace(round_, reason=push.refusal.name, message=message)
    return _ENTER[target](round_, facts, at)


def _enter_open(round_: Round, facts: Facts, at: float) -> Judged:
    entry = facts.index.find(round_.model_uri) if facts.index else None
    assert entry is not None
    binary = entry.form == ModelForm.SAFETENSORS
    base = Base(entry.version, entry.digest, entry.size, binary)
    effects = (
        ClearTimer(f"prepare/{round_.round_id}"),
        SetTimer(check_timer(round_), at + FIRST_CHECK_S),
        _fetch_base(round_, base),
    )
    return replace(round_, base=base), effects


def _fetch_base(round_: Round, base: Base) -> FetchModel:
    return FetchModel(round_.round_id, round_.model_uri, base.digest)


def _enter_aggregating(round_: Round, facts: Facts, _at: float) -> Judged:
    assert round_.base is not None
    updates = tuple(
        SpooledUpdate(round_.accepted[each].spool, round_.accepted[each].num_samples)
        for each in round_.policy.participants
        if each in round_.accepted
    )
    average = Average(round_.round_id, round_.model_uri, round_.base.digest, updates)
    round_, dropped = _close(round_, facts)
    return round_, (average, *dropped)


def _close(round_: Round, facts: Facts) -> Judged:
    """Stop collecting: no timers, no running tasks, nobody waiting."""
    effects: list[Effect] = [ClearTimer(key) for key in timers(round_)]
    effects.extend(cancel_running(round_, facts))
    waiting = round_.waiting
    round_ = replace(round_, waiting=())
    for arrival in waiting:
        round_ = refuse(round_, arrival.sender, (LATE, f"the round is {round_.status}"))
    if waiting:
        effects.append(DropSpools(tuple(arrival.spool for arrival in waiting)))
    return round_, tuple(effects)


def _enter_publishing(round_: Round, _facts: Facts, _at: float) -> Judged:
    return round_, ()


def _enter_completed(round_: Round, facts: Facts, at: float) -> Judged:
    assert round_.publication is not None
    assert facts.index is not None
    version = publishing.listed(round_.publication, facts.index)
    assert version is not None
    done = replace(round_, version=version.version, model_topic=version.topic, ended_at=at)
    return done, (publishing.settled(round_.publication), DropOutgoing(round_.round_id))


def _enter_failed(round_: Round, facts: Facts, at: float) -> Judged:
    round_, effects = _close(round_, facts)
    return replace(round_, absent=absences(round_, facts), ended_at=at), effects


_ENTER: Final[Mapping[RoundStatus, Callable[[Round, Facts, float], Judged]]] = {
    RoundStatus.OPEN: _enter_open,
    RoundStatus.AGGREGATING: _enter_aggregating,
    RoundStatus.PUBLISHING: _enter_publishing,
    RoundStatus.COMPLETED: _enter_completed,
    RoundStatus.FAILED: _enter_failed,
}
