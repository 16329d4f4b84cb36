"""Judging updates: each is accepted once, or refused with its own reason and counted."""

from dataclasses import replace
from typing import TypeAlias

from roost.chassis.effects import Effect
from roost.coordinator.core.effects import DropSpools
from roost.coordinator.core.facts import Facts
from roost.coordinator.core.state import Accepted, Arrival, Base, Round
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
Judged: TypeAlias = tuple[Round, tuple[Effect, ...]]

_SPARE_BYTES = 1_048_576
# A 32-bit number takes 4 bytes in the base's file and up to some 20 as JSON text.
_TEXT_FACTOR = 8


def receive(round_: Round, arrival: Arrival, facts: Facts) -> Judged:
    """Judge an update; if only its shape is in question, it waits until the base was read."""
    problem = _standing(round_, arrival.sender, facts) or _content(round_, arrival)
    if problem is None and (round_.base is None or round_.base.shapes is None):
        if all(each.sender != arrival.sender for each in round_.waiting):
            return replace(round_, waiting=(*round_.waiting, arrival)), ()
        problem = DUPLICATE, "another one waits to be judged"
    return _accept(round_, arrival, problem)


def _accept(round_: Round, arrival: Arrival, problem: Problem | None) -> Judged:
    """Accept an update that lies in the spool, or refuse it and drop its file."""
    problem = problem or _shape(round_, arrival)
    if problem is not None:
        return refuse(round_, arrival.sender, problem), (DropSpools((arrival.spool,)),)
    accepted = Accepted(arrival.spool, arrival.num_samples, arrival.metrics)
    return replace(round_, accepted={**round_.accepted, arrival.sender: accepted}), ()


def judge_waiting(round_: Round, facts: Facts) -> Judged:
    """Judge the updates that waited, in the order in which they came."""
    waiting, effects = round_.waiting, list[Effect]()
    round_ = replace(round_, waiting=())
    for arrival in waiting:
        round_, more = _accept(round_, arrival, _standing(round_, arrival.sender, facts))
        effects.extend(more)
    return round_, tuple(effects)


def judge_offer(round_: Round, sender: str, manifest: Manifest, facts: Facts) -> Problem | None:
    """Say why a large update is not worth fetching, or None."""
    problem = _standing(round_, sender, facts)
    if problem is None and round_.base and manifest.size > _largest(round_.base):
        limit = _largest(round_.base)
        problem = UPDATE_TOO_LARGE, f"{manifest.size} bytes, for this base {limit} are allowed"
    return problem


def refuse(round_: Round, sender: str, problem: Problem) -> Round:
    """Count a refused update and remember it for the outcome."""
    refusal, detail = problem
    count = round_.refusals.get(refusal.name, 0) + 1
    invited = sender in round_.policy.participants
    remember = invited and sender not in round_.accepted and round_.ended_at is None
    return replace(
        round_,
        refusals={**round_.refusals, refusal.name: count},
        refused={**round_.refused, sender: refusal.name} if remember else round_.refused,
        uninvited=round_.uninvited + (not invited),
        last_refusal=f"{sender}: {refusal.name} ({refusal.code}): {detail}",
    )


def refuse_unreadable(round_: Round, sender: str, problem: Problem, facts: Facts) -> Round:
    """Refuse an update of which nothing is kept; who sent it and when goes before the content."""
    return refuse(round_, sender, _standing(round_, sender, facts) or problem)


def _standing(round_: Round, sender: str, facts: Facts) -> Problem | None:
    """Say why nothing from this sender can be accepted now."""
    if sender not in round_.policy.participants:
        return NOT_INVITED, f"'{sender}' is not in the start's participants"
    if sender in round_.accepted:
        return DUPLICATE, "its first update was accepted"
    if not round_.collecting or len(round_.accepted) >= round_.policy.k:
        return LATE, f"the round is {round_.status}"
    task = facts.tasks.get(sender)
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
