"""Starts of rounds: accepted once, refused with a reason that everyone can read."""

from roost.chassis.effects import note
from roost.coordinator.core import round as one
from roost.coordinator.core import rounds
from roost.coordinator.core.case import Case
from roost.coordinator.core.draft import Draft
from roost.coordinator.core.events import RoundOrdered, RoundUnreadable
from roost.coordinator.core.facts import Keep
from roost.coordinator.core.judge import count_refusal as count_on_round
from roost.coordinator.core.ledger import count_refusal, show_running
from roost.coordinator.core.outcome import in_words, tell_outcome
from roost.coordinator.core.policy import policy_problem
from roost.coordinator.core.state import Outcome, Past, Policy, Round, Start
from roost.protocol.round.messages import RoundStatus
from roost.protocol.round.refusals import BAD_POLICY, ROUND_REUSED


def round_ordered(draft: Draft, event: RoundOrdered, keep: Keep) -> None:
    """Begin a round, unless its id is known."""
    start, at = event.start, event.at
    if _is_known(draft, start.round_id, event.sha256, at, keep):
        return
    policy, status = Policy.of(start), RoundStatus.PREPARING
    round_ = Round(start.round_id, event.sha256, start.model_uri, policy, status, at)
    case = Case(draft, round_, at)
    case.seat_everyone(start.participants)
    problem = policy_problem(start, start.round_id)
    if problem is not None:
        one.reject(case, BAD_POLICY, problem)
    else:
        draft.put("start", start.round_id, Start(event.payload))
        draft.emit(note("round.started", round_id=start.round_id, base=start.model_uri))
        one.begin(case)
    _take_over_new(draft, case, keep)


def round_unreadable(draft: Draft, event: RoundUnreadable, keep: Keep) -> None:
    """Fail a round of which only the id could be read."""
    if _is_known(draft, event.round_id, event.sha256, event.at, keep):
        return
    status = RoundStatus.PREPARING
    round_ = Round(event.round_id, event.sha256, "", Policy(), status, event.at)
    case = Case(draft, round_, event.at)
    case.seat_everyone(())
    one.reject(case, event.refusal, event.detail)
    _take_over_new(draft, case, keep)


def _take_over_new(draft: Draft, case: Case, keep: Keep) -> None:
    rounds.take_over(draft, None, case, keep)
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
    outcome: Outcome | None = draft.get("outcome", round_id)
    if outcome is not None:
        # Whoever started it again and watches is told what became of it.
        draft.emit(tell_outcome(round_id, outcome, keep.expiry_s))
    return True


def _refuse_other(draft: Draft, round_id: str, became: str, at: float, keep: Keep) -> None:
    detail = f"round '{round_id}' was started before with other bytes, it {became}"
    count_refusal(draft, ROUND_REUSED, detail)
    round_: Round | None = draft.get("round", round_id)
    if round_ is not None:
        case = Case(draft, round_, at)
        count_on_round(case, ROUND_REUSED, f"{ROUND_REUSED.name}: {detail}")
        rounds.take_over(draft, round_, case, keep)
