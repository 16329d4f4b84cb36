"""All experiments together: their orders, stops, timers and retained states."""

from roost.chassis.effects import note
from roost.coordinator.core import experiment as one
from roost.coordinator.core.draft import Draft
from roost.coordinator.core.events import ExperimentOrdered, ExperimentStopOrdered
from roost.coordinator.core.facts import Keep
from roost.coordinator.core.ledger import count_refusal, show_running
from roost.coordinator.core.policy import policy_problem
from roost.coordinator.core.state import Experiment, Round
from roost.protocol.round.messages import ExperimentStatus
from roost.protocol.round.refusals import BAD_EXPERIMENT

_KEPT = 100


def ordered(draft: Draft, event: ExperimentOrdered, keep: Keep) -> None:
    """Begin an experiment, unless its id is known or its policy cannot be carried out."""
    order = event.order
    known: Experiment | None = draft.get("experiment", order.experiment_id)
    if known is not None:
        _answer_known(draft, known, event.sha256, keep)
        return
    experiment = Experiment(
        order.experiment_id,
        event.sha256,
        event.payload,
        order.rounds,
        ExperimentStatus.RUNNING,
        order.model_uri,
    )
    problem = policy_problem(order, one.round_of(experiment, order.rounds))
    if problem is not None:
        detail = f"experiment '{order.experiment_id}': {problem}"
        count_refusal(draft, BAD_EXPERIMENT, detail)
        judged = one.fail(experiment, problem)
    else:
        judged = one.order_round(experiment, event.at)
        draft.emit(note("experiment.started", experiment_id=order.experiment_id))
    _take_over(draft, judged, keep)


def _answer_known(draft: Draft, known: Experiment, sha256: str, keep: Keep) -> None:
    became = f"{known.status} after {known.completed} of {known.rounds} rounds"
    if known.order_sha256 != sha256:
        detail = f"experiment '{known.experiment_id}' was ordered with other bytes, it {became}"
        count_refusal(draft, BAD_EXPERIMENT, detail)
        return
    draft.emit(note("experiment.repeated", experiment_id=known.experiment_id, became=became))
    draft.emit(one.tell(known, keep.expiry_s))


def stop_ordered(draft: Draft, event: ExperimentStopOrdered, keep: Keep) -> None:
    """Let an experiment end after its running round."""
    known: Experiment | None = draft.get("experiment", event.experiment_id)
    if known is None:
        count_refusal(draft, BAD_EXPERIMENT, f"no experiment '{event.experiment_id}' to stop")
    elif not known.status.final:
        _take_over(draft, (one.stop(known, event.reason), ()), keep)


def round_ended(draft: Draft, round_: Round, at: float, keep: Keep) -> None:
    """Go on with the experiment whose current round this was, if it was one's."""
    experiment_id = round_.round_id.rpartition(":")[0]
    known: Experiment | None = draft.get("experiment", experiment_id)
    if known and not known.status.final and known.current_round == round_.round_id:
        _take_over(draft, one.round_ended(known, round_, at), keep)


def timer_fired(draft: Draft, experiment_id: str, at: float, keep: Keep) -> None:
    """Order the current round again if its start never arrived."""
    known: Experiment | None = draft.get("experiment", experiment_id)
    if known is None or known.status.final or known.current_round is None:
        return
    round_: Round | None = draft.get("round", known.current_round)
    if round_ is None:
        draft.emit(*one.order_again(known, at))
    elif round_.status.final:
        # It had ended before the experiment ordered it: somebody used its id.
        round_ended(draft, round_, at, keep)


def _take_over(draft: Draft, judged: one.Judged, keep: Keep) -> None:
    after, effects = judged
    draft.put("experiment", after.experiment_id, after)
    draft.emit(*effects, one.tell(after, keep.expiry_s))
    show_running(draft)
    ended = [each for each in draft.all("experiment").values() if each.status.final]
    for old in ended[: max(0, len(ended) - _KEPT)]:
        draft.put("experiment", old.experiment_id, None)
