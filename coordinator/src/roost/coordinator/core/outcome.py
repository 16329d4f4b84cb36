"""What is told about a round: its live state and its outcome."""

from itertools import islice
from typing import Final

from roost.chassis.effects import Note, Publish, note
from roost.coordinator.core.average import weighted_metrics
from roost.coordinator.core.case import Case
from roost.coordinator.core.state import Outcome, Round
from roost.coordinator.core.verdicts import verdicts
from roost.protocol.round.messages import RoundComplete, RoundState, RoundStatus
from roost.protocol.round.topics import ROUND_COMPLETE, ROUND_STATE

MISSING_SHOWN: Final = 50
_LONGEST_S: Final = 604_800.0


def metrics(case: Case) -> dict[str, float]:
    """Return the metrics averaged over the accepted updates, in the order of the start."""
    accepted = (seat.accepted for _, seat in case.seats() if seat.accepted is not None)
    return weighted_metrics((each.num_samples, each.metrics) for each in accepted)


def samples(case: Case) -> int:
    """Return the weight of all accepted updates."""
    return sum(seat.accepted.num_samples for _, seat in case.seats() if seat.accepted)


def tell_state(case: Case, expiry_s: float) -> Publish:
    """Return the live state as its retained message; it expires once the round has ended."""
    round_ = case.round
    final = round_.status.final
    missing = tuple(who for who, _ in islice(case.missing(), MISSING_SHOWN))
    state = RoundState(
        round_id=round_.round_id,
        state=round_.status,
        model_uri=round_.model_uri,
        k_of_n=round_.policy.k,
        participants=round_.invited,
        updates=round_.updates,
        missing=missing,
        offline=tuple(who for who in missing if case.is_offline(who)),
        failed=first_failed(case),
        failures=round_.failures,
        refusals=dict(round_.refusals),
        last_refusal=round_.last_refusal,
        time_left_s=None if final else round(max(0.0, round_.deadline - case.at), 3),
        message=round_.message,
    )
    topic = ROUND_STATE.format(round_id=round_.round_id)
    return Publish(topic, state.encode(), retain=True, expiry_s=expiry_s if final else None)


def first_failed(case: Case) -> dict[str, str]:
    """Return why the first tasks failed, by participant, as long as that is known."""
    seats = ((who, case.seat(who)) for who in case.round.first_failed)
    return {who: seat.failed for who, seat in seats if seat is not None and seat.failed is not None}


def make_outcome(case: Case) -> Outcome:
    """Return the outcome of a round that ended."""
    round_ = case.round
    completed = round_.status is RoundStatus.COMPLETED
    publication = round_.publication
    outcome = RoundComplete(
        round_id=round_.round_id,
        outcome=round_.status,
        reason=round_.reason,
        message=round_.message,
        model_version=round_.version,
        model_topic=round_.model_topic,
        model_digest=publication.digest if completed and publication else None,
        base_model=round_.model_uri or None,
        updates=round_.updates,
        samples=samples(case),
        metrics=metrics(case),
        verdicts=verdicts(case),
        duration_s=duration(round_),
    )
    return Outcome(outcome.encode().decode())


def tell_outcome(round_id: str, outcome: Outcome, expiry_s: float) -> Publish:
    """Return an outcome as its retained message."""
    topic = ROUND_COMPLETE.format(round_id=round_id)
    return Publish(topic, outcome.payload.encode(), retain=True, expiry_s=expiry_s)


def duration(round_: Round) -> float:
    """Return the seconds from receipt to the end; 0 while it runs."""
    lasted = (round_.ended_at or round_.started_at) - round_.started_at
    return round(min(_LONGEST_S, max(0.0, lasted)), 3)


def in_words(round_: Round) -> str:
    """Say in a few words what became of a round."""
    if round_.status is RoundStatus.COMPLETED:
        return f"completed, {round_.model_topic}"
    if round_.status is RoundStatus.FAILED:
        return f"failed, {round_.reason}"
    return str(round_.status)


def wide_event(case: Case) -> Note:
    """Return the one log event of a round that ended."""
    round_ = case.round
    completed = round_.status is RoundStatus.COMPLETED
    fields = {
        "round_id": round_.round_id,
        "base": round_.model_uri,
        "model": round_.model_topic,
        "updates": round_.updates,
        "invited": round_.invited,
        "k": round_.policy.k,
        "samples": samples(case),
        "metrics": metrics(case),
        "refusals": dict(round_.refusals),
        "failures": round_.failures or None,
        "failed": first_failed(case),
        "seconds": duration(round_),
        "message": round_.message,
    }
    return note(
        "round.completed" if completed else "round.failed",
        "info" if completed else "warning",
        round_.reason,
        **{name: value for name, value in fields.items() if value not in (None, "", {})},
    )
