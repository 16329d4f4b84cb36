"""Rounds of a fleet in which everyone has to take part, and what must come of them."""

from typing import Final

from roost.chassis.effects import Publish
from roost.protocol.round import topics
from roost.protocol.round.messages import ModelVersion, RoundComplete, RoundStart, RoundStatus
from roost.protocol.round.model import digest

from .fleet import OPERATOR, Fleet, base_model
from .leftovers import leftovers
from .processes import DEADLINE_S, PROPLETS

TIMEOUT_S: Final = 40.0


def publish_base(fleet: Fleet, name: str, size: str) -> None:
    """Publish version 0 of a model; its tensors depend on the size alone."""
    operator = fleet.operator
    operator.publish_model(base_model(name, size))
    fleet.until(lambda: operator.versions(name) == [0], f"version 0 of {name} is listed")
    operator.withdraw_model()


def start(
    fleet: Fleet,
    round_id: str,
    model_uri: str,
    size: str,
    *,
    epochs: int = 1,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Start a round. The seed is given, so the guests of all rounds on one base do the same."""
    order = RoundStart(
        round_id=round_id,
        model_uri=model_uri,
        task_wasm_image=f"blob:{OPERATOR}/{fleet.operator.image.sha256}",
        participants=PROPLETS,
        hyperparams={"epochs": epochs, "lr": 0.1, "batch_size": 2, "seed": 7, "dataset": size},
        k_of_n=len(PROPLETS),
        timeout_s=timeout_s,
    )
    fleet.operator.send(Publish(topics.ROUND_START.format(), order.encode()))


def await_outcome(fleet: Fleet, round_id: str, deadline_s: float = DEADLINE_S) -> RoundComplete:
    """Wait for the end of a round."""
    return fleet.until(
        lambda: fleet.operator.outcome(round_id), f"round {round_id} ends", deadline_s
    )


def await_rest(fleet: Fleet, deadline_s: float = DEADLINE_S, **more: bool) -> None:
    """Wait until nothing is left behind."""
    left = ["never looked"]

    def look() -> bool:
        left[:] = leftovers(fleet, **more)
        return not left

    try:
        fleet.until(look, "nothing is left behind", deadline_s)
    except AssertionError as error:
        raise AssertionError("\n".join(["left behind:", *left, str(error)])) from None


def check_round(fleet: Fleet, outcome: RoundComplete, wanted: RoundComplete) -> None:
    """Hold a round with kills against one without: same updates, one version, the same tensors."""
    assert outcome.outcome is RoundStatus.COMPLETED, outcome
    assert outcome.verdicts == dict.fromkeys(PROPLETS, "accepted")
    same = ("updates", "samples", "metrics", "model_digest")
    assert {n: getattr(outcome, n) for n in same} == {n: getattr(wanted, n) for n in same}
    assert outcome.model_topic is not None
    assert digest(fleet.operator.model(outcome.model_topic).tensors) == wanted.model_digest
    # A broker that came back with an older index tells that one first.
    made = fleet.until(lambda: line_of(fleet, outcome), f"{outcome.model_topic} is the latest")
    assert [each.version for each in made] == list(range(len(made)))
    assert [each.publish_id for each in made].count(outcome.round_id) == 1
    assert made[-1].digest == wanted.model_digest


def line_of(fleet: Fleet, outcome: RoundComplete) -> tuple[ModelVersion, ...]:
    """Return the versions of a round's model once its own is the latest, else none."""
    ids = topics.MODEL.match(outcome.model_topic or "")
    line = fleet.operator.index().models.get(ids["name"]) if ids else None
    is_latest = line is not None and line.versions[-1].topic == outcome.model_topic
    return line.versions if line is not None and is_latest else ()
