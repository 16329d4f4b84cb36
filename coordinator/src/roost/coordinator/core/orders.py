"""Starts of rounds: accepted once, refused with a reason that everyone can read."""

from dataclasses import replace

from roost.chassis.effects import note
from roost.coordinator.core import round as one
from roost.coordinator.core import rounds
from roost.coordinator.core.draft import Draft
from roost.coordinator.core.events import RoundOrdered, RoundUnreadable
from roost.coordinator.core.facts import Keep
from roost.coordinator.core.judge import Judged
from roost.coordinator.core.ledger import count_refusal, show_running
from roost.coordinator.core.outcome import in_words, tell_outcome
from roost.coordinator.core.policy import policy_problem
from roost.coordinator.core.state import Past, Policy, Round, Start
from roost.protocol.round.messages import RoundStatus
from roost.protocol.round.refusals import BAD_POLICY, ROUND_REUSED


def round_ordered(draft: Draft, event: RoundOrdered, keep: Keep) -> None:
    """Begin a round, unless its id is known."""
    start, at = event.start, event.at
    if _is_known(draft, start.round_id, event.sha256, at, keep):
        return
    policy, status = Policy.of(start), RoundStatus.PREPARING
    round_ = Round(start.round_id, event.sha256, start.model_uri, policy, status, at)
    problem = policy_problem(start, start.round_id)
    if problem is not None:
        judged = one.reject(round_, BAD_POLICY, problem, at)
    else:
        draft.put("start", start.round_id, Start(event.payload))
        draft.emit(note("round.started", round_id=start.round_id, base=start.model_uri))
        judged = one.begin(round_, rounds.facts(draft, round_), at)
    _take_over_new(draft, judged, at, keep)


def round_unreadable(draft: Draft, event: RoundUnreadable, keep: Keep) -> None:
    """Fail a round of which only the id could be read."""
    if _is_known(draft, event.round_id, event.sha256, event.at, keep):
        return
    status = RoundStatus.PREPARING
    round_ = Round(event.round_id, event.sha256, "", Policy(), status, event.at)
    judged = one.reject(round_, event.refusal, event.detail, event.at)
    _take_over_new(draft, judged, event.at, keep)


def _take_over_new(draft: Draft, judged: Judged, at: float, keep: Keep) -> None:
    rounds.take_over(draft, None, judged, at, keep)
    show_running(draft)


def _is_known(draft: Draft, round_id: str, sha256: str, at: float, keep: Keep) -> bool:
    """Answer a start whose id was used before: the first one stands."""
    round_: Round | None = draft.get("round", round_id)
    past: Past | None = draft.get("past", round_id)
    if round_ is not None:
        first, became = round_.start_sha256, in_words(round_)
    elif past is not None:
        first, became = past.start_sha256, past.outcome
    else:
        return False
    if first != sha256:
        _refuse_other(draft, round_id, became, at, keep)
        return True
    draft.emit(note("round.start_repeated", round_id=round_id, became=became))
    if round_ is not None and round_.status.final:
        # Whoever started it again and watches is told what became of it.
        draft.emit(tell_outcome(round_, keep.expiry_s))
    return True


def _refuse_other(draft: Draft, round_id: str, became: str, at: float, keep: Keep) -> None:
    detail = f"round '{round_id}' was started before with other bytes, it {became}"
    count_refusal(draft, ROUND_REUSED, detail)
    round_: Round | None = draft.get("round", round_id)
    if round_ is not None:
        name = ROUND_REUSED.name
        refusals = {**round_.refusals, name: round_.refusals.get(name, 0) + 1}
        after = replace(round_, refusals=refusals, last_refusal=f"{name}: {detail}")
        rounds.take_over(draft, round_, (after, ()), at, keep)
