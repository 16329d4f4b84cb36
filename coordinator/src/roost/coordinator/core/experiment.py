"""The experiment: round after round under one policy, each on the version of the one before.

Its rounds are ordered on the same topic as everybody's, so that nothing runs them but what runs
any round. A round that fails ends the experiment; a stop ends it after the running round.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from roost.chassis.effects import ClearTimer, Effect, Publish, SetTimer, note
from roost.coordinator.core.outcome import in_words
from roost.coordinator.core.state import Experiment, Round
from roost.protocol.round.messages import (
    ExperimentStart,
    ExperimentState,
    ExperimentStatus,
    RoundPolicy,
    RoundStart,
    RoundStatus,
)
from roost.protocol.round.topics import EXPERIMENT_STATE, ROUND_START
from roost.wire.ids import derive

START_AGAIN_S: Final = 5.0
_START_EXPIRY_S: Final = 60.0
_S: TypeAlias = ExperimentStatus
Judged: TypeAlias = tuple[Experiment, tuple[Effect, ...]]

TRANSITIONS: Final[Mapping[ExperimentStatus, Mapping[str, ExperimentStatus]]] = {
    _S.RUNNING: {
        "round completed, more to come": _S.RUNNING,
        "last round completed": _S.COMPLETED,
        "round failed": _S.FAILED,
        "stop ordered": _S.STOPPING,
    },
    _S.STOPPING: {"round ended": _S.STOPPED},
    _S.COMPLETED: {},
    _S.FAILED: {},
    _S.STOPPED: {},
}


def timer_key(experiment_id: str) -> str:
    """Return the key of the timer that orders a lost start again."""
    return f"experiment/{experiment_id}"


def round_of(experiment: Experiment, number: int) -> str:
    """Return the id of a round, counted from 1."""
    return derive(experiment.experiment_id, f"{number:04d}")


def current_start(experiment: Experiment) -> bytes:
    """Return the bytes of the current round's start; the same whenever they are asked for."""
    order = ExperimentStart.decode(experiment.order.encode())
    policy = {name: getattr(order, name) for name in RoundPolicy.model_fields}
    round_id = experiment.current_round or round_of(experiment, 1)
    return RoundStart(round_id=round_id, model_uri=experiment.model_uri, **policy).encode()


def order_round(experiment: Experiment, at: float) -> Judged:
    """Order the next round."""
    after = replace(experiment, current_round=round_of(experiment, experiment.completed + 1))
    return after, order_again(after, at)


def order_again(experiment: Experiment, at: float) -> tuple[Effect, ...]:
    """Order the current round, and come back in case the order is lost on its way."""
    start = Publish(ROUND_START.template, current_start(experiment), expiry_s=_START_EXPIRY_S)
    return start, SetTimer(timer_key(experiment.experiment_id), at + START_AGAIN_S)


def round_ended(experiment: Experiment, round_: Round, at: float) -> Judged:
    """Go on after the current round has ended."""
    ours = hashlib.sha256(current_start(experiment)).hexdigest() == round_.start_sha256
    if round_.status is not RoundStatus.COMPLETED or not ours or round_.model_topic is None:
        why = in_words(round_) if ours else "its id was used by another start"
        status = _S.STOPPED if experiment.status is _S.STOPPING else _S.FAILED
        return _end(experiment, status, f"round {round_.round_id}: {why}")
    after = replace(experiment, completed=experiment.completed + 1, model_uri=round_.model_topic)
    if after.status is _S.STOPPING:
        return _end(after, _S.STOPPED, after.message)
    if after.completed == after.rounds:
        return _end(after, _S.COMPLETED, None)
    return order_round(after, at)


def fail(experiment: Experiment, message: str) -> Judged:
    """End an experiment that cannot be carried out."""
    return _end(experiment, _S.FAILED, message)


def stop(experiment: Experiment, reason: str) -> Experiment:
    """Let the experiment end after its running round."""
    if experiment.status is not _S.RUNNING:
        return experiment
    return replace(experiment, status=_S.STOPPING, message=reason)


def _end(experiment: Experiment, status: ExperimentStatus, message: str | None) -> Judged:
    ended = replace(experiment, status=status, message=message)
    said = note(
        f"experiment.{status}",
        "warning" if status is _S.FAILED else "info",
        experiment_id=ended.experiment_id,
        rounds=ended.completed,
        model=ended.model_uri,
        **({"message": message} if message else {}),
    )
    return ended, (ClearTimer(timer_key(ended.experiment_id)), said)


def tell(experiment: Experiment, expiry_s: float) -> Publish:
    """Return the retained state; it expires once the experiment has ended."""
    state = ExperimentState(
        experiment_id=experiment.experiment_id,
        state=experiment.status,
        rounds=experiment.rounds,
        rounds_completed=experiment.completed,
        current_round=experiment.current_round,
        model_topic=experiment.model_uri or None,
        message=experiment.message,
    )
    topic = EXPERIMENT_STATE.format(experiment_id=experiment.experiment_id)
    expiry = expiry_s if experiment.status.final else None
    return Publish(topic, state.encode(), retain=True, expiry_s=expiry)
