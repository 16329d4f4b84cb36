"""Whose versions they are: a coordinator whose state is gone asks before it goes on."""

from dataclasses import replace
from typing import Any

import pytest
from roost.chassis.effects import Publish
from roost.coordinator.core.effects import PublishModel
from roost.coordinator.core.events import (
    AdoptionOrdered,
    ExperimentOrdered,
    RollbackOrdered,
)
from roost.coordinator.core.facts import Keep
from roost.protocol.round.messages import (
    Adopt,
    ExperimentStart,
    ExperimentStatus,
    ModelIndex,
    ModelLine,
    Rollback,
    RoundStart,
    RoundStatus,
)

from .world import IMAGE, World, sha, version

V7 = "fl/models/global_model_v7"


def stateless() -> World:
    """Return a new coordinator's world, in which the index knows versions 0 to 7."""
    world = World()
    world.versions += [version(each, f"{each:02d}" * 32, f"r-{each}") for each in range(1, 8)]
    world.connect()
    world.see("a", "b", "c")
    world.index()
    return world


def adopt(world: World, number: int = 7, name: str = "global_model") -> list[Any]:
    """Order to go on from a version."""
    return world.happen(AdoptionOrdered(world.now, Adopt(name=name, version=number)))


def test_without_its_state_a_coordinator_starts_no_round() -> None:
    """The outcome names both ways on, and nothing is published (MODEL-045)."""
    world = stateless()
    assert world.ledger().unadopted == ("global_model",)
    world.order(model_uri=V7)
    outcome = world.outcome()
    assert (outcome.outcome, outcome.reason) == (RoundStatus.FAILED, "unknown_lineage")
    assert outcome.message == (
        "global_model is at version 7, made by rounds that this coordinator does not know: its own "
        "state is gone, or the model is another coordinator's. Go on from it with `roost model "
        "adopt NAME`, or begin a new model with `roost model init --name NEW`; then use a new "
        "round_id."
    )
    assert outcome.verdicts == dict.fromkeys("abc", "not_asked")
    world.order("old", model_uri="fl/models/global_model_v0")
    assert world.outcome("old").reason == "unknown_lineage", "an old version is no way round it"
    assert not world.of(PublishModel)


def test_a_start_before_the_first_index_waits_for_it() -> None:
    """Then it is refused like any other (MODEL-045)."""
    world = stateless()
    early = World(versions=world.versions)
    early.order(model_uri=V7)
    early.connect()
    early.see("a", "b", "c")
    assert early.round().status is RoundStatus.PREPARING
    early.index()
    assert early.outcome().reason == "unknown_lineage"


def test_an_adopted_model_goes_on_where_it_was() -> None:
    """The next version is 8, its parent 7; version 7 stays what it was (MODEL-046)."""
    world = stateless()
    before = world.versions[7]
    assert "model.adopted" in world.notes(adopt(world))
    assert world.ledger().unadopted == ()
    world.order(model_uri=V7, k=1)
    world.happen_update(replace(world.arrival("a"), base_model_uri=V7))
    assert (world.outcome().model_version, world.versions[8].publish_id) == (8, "r")
    assert world.versions[7] == before
    assert world.notes(adopt(world, 8)) == ["model.known"]


@pytest.mark.parametrize(
    ("number", "name", "says"),
    [
        (6, "global_model", "its latest version is 7"),
        (8, "global_model", "its latest version is 7"),
        (7, "nobodys", "the index lists no such model"),
    ],
)
def test_only_what_the_index_lists_is_adopted(number: int, name: str, says: str) -> None:
    """Whoever orders it must have seen it (MODEL-046)."""
    world = stateless()
    adopt(world, number, name)
    assert world.ledger().refusals == {"unknown_version": 1}
    assert says in (world.ledger().last_refusal or "")
    assert world.ledger().unadopted == ("global_model",)


def test_nothing_is_adopted_without_an_index() -> None:
    """An old one may be wrong by now (MODEL-046)."""
    world = stateless()
    world.disconnect()
    adopt(world)
    assert "no index came yet" in (world.ledger().last_refusal or "")


def test_a_new_lineage_needs_nothing() -> None:
    """Version 0 of a new model, beside the unknown one, just works (MODEL-045)."""
    world = stateless()
    lines = dict(world.current_index().models)
    lines["anew"] = ModelLine(latest=0, versions=(version(0, name="anew"),))
    world.happen_index(ModelIndex(models=lines))
    assert world.ledger().unadopted == ("global_model",)
    world.order(model_uri="fl/models/anew_v0", k=1)
    assert world.round().status is RoundStatus.OPEN


def test_a_model_that_was_seen_at_version_0_is_known_for_ever() -> None:
    """Its later versions are this coordinator's, whoever published them (MODEL-045)."""
    world = World()
    world.connect()
    world.see("a", "b", "c")
    world.index()
    world.versions.append(version(1, "cd" * 32, "by-hand"))
    world.index()
    world.order(model_uri="fl/models/global_model_v1")
    assert world.round().status is RoundStatus.OPEN


@pytest.mark.parametrize("rounds", [1, 100])
def test_a_model_with_a_version_made_here_is_known(rounds: int) -> None:
    """As a coordinator of before this rule has it in its state, in full or as an id (MODEL-045)."""
    world = World(keep=Keep(rounds=rounds))
    world.open("r-1", k=1)
    world.arrive("a", "r-1")
    world.order("r-2", k=1)
    world.arrive("a", "r-2")
    world.states.put(("lineage", "global_model"), None)
    world.index()
    world.order("s", model_uri="fl/models/global_model_v2")
    assert world.round("s").status is RoundStatus.OPEN


def test_a_rollback_of_an_unknown_lineage_is_refused() -> None:
    """It would number a version (MODEL-045)."""
    world = stateless()
    world.happen(RollbackOrdered(world.now, Rollback(version=3)))
    assert world.ledger().refusals == {"unknown_lineage": 1}
    assert not world.of(PublishModel)
    adopt(world)
    world.happen(RollbackOrdered(world.now, Rollback(version=3)))
    assert world.versions[8].digest == world.versions[3].digest


def test_an_experiment_on_an_unknown_lineage_fails_with_its_first_round() -> None:
    """And says so (MODEL-045)."""
    world = stateless()
    order = ExperimentStart(
        experiment_id="e",
        rounds=2,
        model_uri=V7,
        task_wasm_image=IMAGE,
        participants=("a",),
        k_of_n=1,
    )
    payload = order.encode().decode()
    made = world.happen(ExperimentOrdered(world.now, order, payload, sha(payload)))
    (start,) = [
        each for each in made if isinstance(each, Publish) and each.topic == "fl/rounds/start"
    ]
    world.order_as(RoundStart.decode(start.payload))
    assert world.experiment("e").state is ExperimentStatus.FAILED
    assert world.experiment("e").message == "round e:0001: failed, unknown_lineage"
