"""What is told about a round: its live state and its outcome."""

from collections.abc import Iterator
from typing import Final

from roost.chassis.effects import Note, Publish, note
from roost.coordinator.core.average import weighted_metrics
from roost.coordinator.core.state import Round
from roost.protocol.round.messages import RoundComplete, RoundState, RoundStatus
from roost.protocol.round.topics import ROUND_COMPLETE, ROUND_STATE

UNINVITED: Final = "(uninvited)"
MISSING: Final = "missing"
NOT_ASKED: Final = "not_asked"
_MISSING_SHOWN: Final = 50
_LONGEST_S: Final = 604_800.0


def missing(round_: Round) -> tuple[str, ...]:
    """Return who was invited and has no accepted update, in the order of the start."""
    return tuple(each for each in round_.policy.participants if each not in round_.accepted)


def metrics(round_: Round) -> dict[str, float]:
    """Return the metrics averaged over the accepted updates, in the order of the start."""
    accepted = (round_.accepted.get(each) for each in round_.policy.participants)
    return weighted_metrics((each.num_samples, each.metrics) for each in accepted if each)


def samples(round_: Round) -> int:
    """Return the weight of all accepted updates."""
    return sum(each.num_samples for each in round_.accepted.values())


def verdicts(round_: Round) -> dict[str, str]:
    """Return what became of each participant, in the order of the start."""
    known = {**round_.absent, **round_.failed, **round_.refused}
    known |= dict.fromkeys(round_.accepted, "accepted")
    said = {each: known.get(each, MISSING) for each in round_.policy.participants}
    return {**said, **({UNINVITED: f"{round_.uninvited} refused"} if round_.uninvited else {})}


def tell_state(round_: Round, at: float, expiry_s: float) -> Publish:
    """Return the live state as its retained message; it expires once the round has ended."""
    final = round_.status.final
    state = RoundState(
        round_id=round_.round_id,
        state=round_.status,
        model_uri=round_.model_uri,
        k_of_n=round_.policy.k,
        participants=len(round_.policy.participants),
        updates=len(round_.accepted),
        missing=missing(round_)[:_MISSING_SHOWN],
        failed=dict(round_.failed),
        refusals=dict(round_.refusals),
        last_refusal=round_.last_refusal,
        time_left_s=None if final else round(max(0.0, round_.deadline - at), 3),
        message=round_.message,
    )
    topic = ROUND_STATE.format(round_id=round_.round_id)
    return Publish(topic, state.encode(), retain=True, expiry_s=expiry_s if final else None)


def tell_outcome(round_: Round, expiry_s: float) -> Publish:
    """Return the outcome of a round that ended as its retained message."""
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
        updates=len(round_.accepted),
        samples=samples(round_),
        metrics=metrics(round_),
        verdicts=verdicts(round_),
        duration_s=duration(round_),
    )
    topic = ROUND_COMPLETE.format(round_id=round_.round_id)
    return Publish(topic, outcome.encode(), retain=True, expiry_s=expiry_s)


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


def updates_judged(before: Round, after: Round) -> Iterator[Note]:
    """Yield a log event for each update that one step accepted, and each kind it refused."""
    for sender, accepted in after.accepted.items():
        if sender not in before.accepted:
            yield note(
                "update.accepted",
                round_id=after.round_id,
                participant=sender,
                num_samples=accepted.num_samples,
                updates=len(after.accepted),
                k=after.policy.k,
            )
    for name, count in after.refusals.items():
        if count > before.refusals.get(name, 0):
            said = after.last_refusal
            yield note("update.refused", "warning", name, round_id=after.round_id, last=said)


def wide_event(round_: Round) -> Note:
    """Return the one log event of a round that ended."""
    completed = round_.status is RoundStatus.COMPLETED
    fields = {
        "round_id": round_.round_id,
        "base": round_.model_uri,
        "model": round_.model_topic,
        "updates": len(round_.accepted),
        "invited": len(round_.policy.participants),
        "k": round_.policy.k,
        "samples": samples(round_),
        "metrics": metrics(round_),
        "refusals": dict(round_.refusals),
        "failed": dict(round_.failed),
        "seconds": duration(round_),
        "message": round_.message,
    }
    return note(
        "round.completed" if completed else "round.failed",
        "info" if completed else "warning",
        round_.reason,
        **{name: value for name, value in fields.items() if value not in (None, "", {})},
    )
