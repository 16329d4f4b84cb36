"""All rounds together: what is told of them, and how long they are kept."""

from dataclasses import dataclass
from typing import Final

from roost.chassis.effects import ClearTimer, Publish, SetTimer
from roost.coordinator.core import experiments
from roost.coordinator.core import round as one
from roost.coordinator.core.case import Case
from roost.coordinator.core.draft import Draft
from roost.coordinator.core.effects import Tidy
from roost.coordinator.core.events import RoundEvent
from roost.coordinator.core.facts import Keep
from roost.coordinator.core.ledger import show_running
from roost.coordinator.core.outcome import (
    in_words,
    make_outcome,
    tell_outcome,
    tell_state,
    wide_event,
)
from roost.coordinator.core.publishing import publications
from roost.coordinator.core.seats import Roster, seat_id
from roost.coordinator.core.state import Past, Round
from roost.protocol.round.messages import RoundStatus
from roost.protocol.round.topics import ROUND_COMPLETE, ROUND_STATE

TELL_EVERY_S: Final = 0.2
TELL_TIMER: Final = "state"
SMALL: Final = 20
_MODELS_KEPT = 3


@dataclass(frozen=True, slots=True)
class Told:
    """When a round's state was last told, and whether there is more to tell."""

    at: float
    more: bool = False


def step_one(draft: Draft, round_id: str, event: RoundEvent, keep: Keep) -> None:
    """Let an event happen to one round, if there is such a round."""
    before: Round | None = draft.get("round", round_id)
    if before is not None:
        case = Case(draft, before, event.at)
        one.step(case, event)
        take_over(draft, before, case, keep)


def step_all(draft: Draft, event: RoundEvent, keep: Keep, only: RoundStatus | None = None) -> None:
    """Let an event happen to every round that runs."""
    for round_ in running(draft):
        if only in (None, round_.status):
            step_one(draft, round_.round_id, event, keep)


def running(draft: Draft) -> list[Round]:
    """Return the rounds that have not ended, oldest first."""
    return [each for each in draft.all("round").values() if not each.status.final]


def take_over(draft: Draft, before: Round | None, case: Case, keep: Keep) -> None:
    """Put a round's new state and tell everyone what changed."""
    after = case.round
    if after == before:
        return
    draft.put("round", after.round_id, after)
    moved = before is None or before.status is not after.status
    _tell(draft, case, keep, now=moved or after.invited <= SMALL)
    if after.status.final and moved:
        _finish(draft, case, keep)


def _tell(draft: Draft, case: Case, keep: Keep, *, now: bool) -> None:
    """Tell a round's state at once, or soon if it was told just before."""
    round_id = case.round.round_id
    told: Told | None = draft.get("told", round_id)
    timer = f"{TELL_TIMER}/{round_id}"
    if now or told is None or case.at >= told.at + TELL_EVERY_S:
        draft.put("told", round_id, Told(case.at))
        draft.emit(tell_state(case, keep.expiry_s))
        if told is not None and told.more:
            draft.emit(ClearTimer(timer))
    elif not told.more:
        draft.put("told", round_id, Told(told.at, more=True))
        draft.emit(SetTimer(timer, told.at + TELL_EVERY_S))


def tell_rest(draft: Draft, round_id: str, at: float, keep: Keep) -> None:
    """Tell what changed since the state was last told."""
    round_: Round | None = draft.get("round", round_id)
    if round_ is not None:
        draft.put("told", round_id, Told(at))
        draft.emit(tell_state(Case(draft, round_, at), keep.expiry_s))


def tell_sight(draft: Draft, who: str, at: float, keep: Keep) -> None:
    """Tell the rounds' states that wait for a proplet that came or went."""
    for round_ in running(draft):
        case = Case(draft, round_, at)
        seat = case.seat(who)
        if round_.collecting and seat is not None and seat.accepted is None:
            _tell(draft, case, keep, now=round_.invited <= SMALL)


def _finish(draft: Draft, case: Case, keep: Keep) -> None:
    round_id = case.round.round_id
    outcome = make_outcome(case)
    draft.put("outcome", round_id, outcome)
    draft.emit(tell_outcome(round_id, outcome, keep.expiry_s), wide_event(case))
    draft.put("start", round_id, None)
    draft.put("roll", round_id, None)
    for who in case.roster:
        draft.put("task", seat_id(round_id, who), None)
    experiments.round_ended(draft, case.round, case.at, keep)
    show_running(draft)
    _forget_old(draft, keep)
    tidy(draft, case.at, keep)


def _ended(draft: Draft) -> list[Round]:
    """Return the rounds that have ended, the latest first."""
    ended = [each for each in draft.all("round").values() if each.status.final]
    ended.reverse()
    return sorted(ended, key=lambda each: each.ended_at or 0.0, reverse=True)


def _forget_old(draft: Draft, keep: Keep) -> None:
    """Keep of older rounds the outcome, and of the oldest only what tells their id again."""
    ended = _ended(draft)
    for round_ in ended[min(keep.spools, keep.rounds) :]:
        _forget_seats(draft, round_.round_id)
    for round_ in ended[keep.rounds :]:
        round_id = round_.round_id
        for kind in ("round", "outcome", "told"):
            draft.put(kind, round_id, None)
        draft.put("past", round_id, Past(round_.start_sha256, in_words(round_)))
        draft.emit(ClearTimer(f"{TELL_TIMER}/{round_id}"))
        for topic in (ROUND_STATE, ROUND_COMPLETE):
            draft.emit(Publish(topic.format(round_id=round_id), retain=True))


def _forget_seats(draft: Draft, round_id: str) -> None:
    roster: Roster | None = draft.get("roster", round_id)
    for who in roster.participants if roster else ():
        draft.put("seat", seat_id(round_id, who), None)
    draft.put("roster", round_id, None)


def tidy(draft: Draft, at: float, keep: Keep, *, killed: bool = False) -> None:
    """Delete the files that nothing needs any more.

    While a round is aggregating, its average may be on disk already under a digest that is not
    known here yet; then models are left to the next time, which is that round's end at latest.

    Args:
        draft: What is known.
        at: Epoch seconds; what is newer stays.
        keep: How much of the past stays.
        killed: Whether a process may have been killed between writing an update and taking it in.
    """
    ended, open_ = _ended(draft), running(draft)
    models = [each.base.digest for each in open_ if each.base]
    models += [each.digest for each in publications(draft)]
    models += [each.publication.digest for each in ended[:_MODELS_KEPT] if each.publication]
    rounds = [each.round_id for each in (*open_, *ended[: keep.spools])]
    unknown = any(each.status is RoundStatus.AGGREGATING for each in open_)
    kept = None if unknown else tuple(dict.fromkeys(models))
    draft.emit(Tidy(tuple(rounds), kept, at, _spools(draft) if killed else None))


def _spools(draft: Draft) -> tuple[str, ...]:
    """Return the files of all updates that count or wait."""
    seats = draft.all("seat").values()
    updates = [each for seat in seats for each in (seat.accepted, seat.held) if each is not None]
    return tuple(each.spool for each in updates)
