"""Judging updates: each is accepted once, or refused with its own reason and counted."""

from typing import TypeAlias

from roost.chassis.effects import note
from roost.coordinator.core.case import Case
from roost.coordinator.core.effects import DropSpools
from roost.coordinator.core.seats import Accepted, Arrival
from roost.coordinator.core.state import Base, Round
from roost.protocol.round.refusals import (
    BAD_SAMPLES,
    DUPLICATE,
    LATE,
    NOT_INVITED,
    OTHER_LAUNCH,
    UPDATE_TOO_LARGE,
    WRONG_BASE,
    WRONG_ROUND,
    WRONG_SHAPE,
)
from roost.wire.blob import Manifest
from roost.wire.refusal import Refusal

Problem: TypeAlias = tuple[Refusal, str]

_SPARE_BYTES = 1_048_576
# A 32-bit number takes 4 bytes in the base's file and up to some 20 as JSON text.
_TEXT_FACTOR = 8


def receive(case: Case, arrival: Arrival) -> None:
    """Judge an update; if only its shape is in question, it waits until the base was read."""
    who, base = arrival.sender, case.round.base
    problem = _standing(case, who) or _content(case.round, arrival)
    if problem is None and (base is None or base.shapes is None):
        seat = case.seat(who)
        if seat is not None and seat.held is None:
            case.note_seat(who, held=arrival, turn=case.round.held)
            return
        problem = DUPLICATE, "another one waits to be judged"
    _accept(case, arrival, problem)


def _accept(case: Case, arrival: Arrival, problem: Problem | None) -> None:
    """Accept an update that lies in the spool, or refuse it and drop its file."""
    problem = problem or _shape(case.round, arrival)
    if problem is not None:
        refuse(case, arrival.sender, problem)
        case.emit(DropSpools((arrival.spool,)))
        return
    accepted = Accepted(arrival.spool, arrival.num_samples, arrival.metrics)
    case.note_seat(arrival.sender, accepted=accepted)
    case.emit(
        note(
            "update.accepted",
            round_id=case.round.round_id,
            participant=arrival.sender,
            num_samples=arrival.num_samples,
            updates=case.round.updates,
            k=case.round.policy.k,
        )
    )


def judge_held(case: Case) -> None:
    """Judge the updates that waited, in the order in which they came."""
    for arrival in take_held(case):
        _accept(case, arrival, _standing(case, arrival.sender))


def take_held(case: Case) -> list[Arrival]:
    """Return the updates that wait, in the order in which they came; they wait no longer."""
    if not case.round.held:
        return []
    held = [(seat.turn, seat.held) for _, seat in case.seats() if seat.held is not None]
    for _, arrival in held:
        case.note_seat(arrival.sender, held=None)
    return [arrival for _, arrival in sorted(held, key=lambda each: each[0])]


def judge_offer(case: Case, sender: str, manifest: Manifest) -> Problem | None:
    """Say why a large update is not worth fetching, or None."""
    problem, base = _standing(case, sender), case.round.base
    if problem is None and base and manifest.size > _largest(base):
        limit = _largest(base)
        problem = UPDATE_TOO_LARGE, f"{manifest.size} bytes, for this base {limit} are allowed"
    return problem


def refuse(case: Case, sender: str, problem: Problem) -> None:
    """Count a refused update and remember it for the outcome."""
    refusal, detail = problem
    seat, round_ = case.seat(sender), case.round
    if seat is not None and seat.accepted is None and round_.ended_at is None:
        case.note_seat(sender, refused=refusal.name)
    case.change(uninvited=round_.uninvited + (seat is None and case.known))
    count_refusal(case, refusal, f"{sender}: {refusal.name} ({refusal.code}): {detail}")


def count_refusal(case: Case, refusal: Refusal, said: str) -> None:
    """Count a refusal on the round, show it and log it."""
    round_ = case.round
    count = round_.refusals.get(refusal.name, 0) + 1
    case.change(refusals={**round_.refusals, refusal.name: count}, last_refusal=said)
    case.emit(note("update.refused", "warning", refusal.name, round_id=round_.round_id, last=said))


def refuse_unreadable(case: Case, sender: str, problem: Problem) -> None:
    """Refuse an update of which nothing is kept; who sent it and when goes before the content."""
    refuse(case, sender, _standing(case, sender) or problem)


def _standing(case: Case, sender: str) -> Problem | None:
    """Say why nothing from this sender can be accepted now."""
    seat, round_ = case.seat(sender), case.round
    if seat is None and case.known:
        return NOT_INVITED, f"'{sender}' is not in the start's participants"
    if seat is not None and seat.accepted is not None:
        return DUPLICATE, "its first update was accepted"
    if not round_.collecting or round_.updates >= round_.policy.k:
        return LATE, f"the round is {round_.status}"
    task = case.task(sender)
    if task is not None and task.start_sha256 != round_.start_sha256:
        return OTHER_LAUNCH, "its task was launched by a start with other bytes"
    return None


def _content(round_: Round, arrival: Arrival) -> Problem | None:
    """Say what is wrong with what the update says."""
    cap = round_.policy.max_samples
    if arrival.round_id != round_.round_id:
        return WRONG_ROUND, f"it says round '{arrival.round_id}'"
    if arrival.base_model_uri != round_.model_uri:
        return WRONG_BASE, f"it says {arrival.base_model_uri}, the round has {round_.model_uri}"
    if not 0 < arrival.num_samples <= cap:
        return BAD_SAMPLES, f"num_samples is {arrival.num_samples}, allowed are 1 to {cap}"
    return None


def _shape(round_: Round, arrival: Arrival) -> Problem | None:
    """Say how the update's tensors differ from those of the base, which was read."""
    base = round_.base
    assert base is not None
    if arrival.shapes != base.shapes:
        return WRONG_SHAPE, f"it has {arrival.summary}, the base {base.summary}"
    if base.binary and arrival.dtypes not in (None, base.dtypes):
        return WRONG_SHAPE, f"it has types {arrival.summary}, the base {base.summary}"
    return None


def _largest(base: Base) -> int:
    return _TEXT_FACTOR * base.size + _SPARE_BYTES
