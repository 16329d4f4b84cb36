"""Experiments and rollbacks, on the coordinator's core."""

from dataclasses import replace
from typing import Any

import pytest
from roost.chassis.core import TimerFired
from roost.chassis.effects import Publish
from roost.coordinator.core.effects import FetchModel, PublishModel
from roost.coordinator.core.events import (
    BaseRead,
    BaseUnavailable,
    ExperimentOrdered,
    ExperimentStopOrdered,
    OrderRefused,
    RollbackOrdered,
)
from roost.coordinator.core.experiment import TRANSITIONS
from roost.protocol.round.messages import (
    ExperimentStart,
    ExperimentStatus,
    Rollback,
    RoundStart,
    RoundStatus,
)
from roost.wire.refusal import RETAINED_ORDER

from .world import BASE, IMAGE, World, sha, version

START = "fl/rounds/start"


def order(**more: Any) -> ExperimentStart:
    """Return an order of three rounds."""
    fields: dict[str, Any] = {
        "experiment_id": "e",
        "rounds": 3,
        "model_uri": BASE,
        "task_wasm_image": IMAGE,
        "participants": ("a", "b"),
        "k_of_n": 1,
        "hyperparams": {"lr": 0.1},
        "timeout_s": 30.0,
        **more,
    }
    return ExperimentStart(**fields)


def begin(world: World, **more: Any) -> list[Any]:
    """Order an experiment."""
    ordered = order(**more)
    payload = ordered.encode().decode()
    return world.happen(ExperimentOrdered(world.now, ordered, payload, sha(payload)))


def lively() -> World:
    """Return a world that is connected and knows a, b and version 0."""
    world = World()
    world.connect()
    world.see("a", "b")
    world.index()
    return world


def deliver(world: World, effects: list[Any]) -> list[RoundStart]:
    """Let the starts that were published come back from the broker."""
    starts = [each for each in effects if isinstance(each, Publish) and each.topic == START]
    ordered = [RoundStart.decode(each.payload) for each in starts]
    for start in ordered:
        world.order_as(start)
    return ordered


def test_rounds_in_a_row_each_on_the_version_before() -> None:
    """Ids are derived, the base is the version just made (EXP-001)."""
    world = lively()
    effects = begin(world)
    for number in (1, 2, 3):
        (start,) = deliver(world, effects)
        assert start.round_id == f"e:{number:04d}"
        assert start.model_uri == f"fl/models/global_model_v{number - 1}"
        assert (start.participants, start.k_of_n, start.hyperparams) == (("a", "b"), 1, {"lr": 0.1})
        assert world.experiment("e").current_round == start.round_id
        assert world.ledger().running_experiments == ("e",)
        update = world.arrival("a", start.round_id)
        effects = world.happen_update(replace(update, base_model_uri=start.model_uri))
        assert world.experiment("e").rounds_completed == number
    assert not deliver(world, effects)
    state = world.experiment("e")
    assert (state.state, state.model_topic) == (
        ExperimentStatus.COMPLETED,
        "fl/models/global_model_v3",
    )
    assert world.ledger().running_experiments == ()
    assert "experiment/e" not in world.timers


def test_a_failed_round_ends_the_experiment() -> None:
    """The state names it (EXP-003)."""
    world = lively()
    deliver(world, begin(world))
    world.pass_time(30.0)
    state = world.experiment("e")
    assert (state.state, state.rounds_completed) == (ExperimentStatus.FAILED, 0)
    assert state.message == "round e:0001: failed, timed_out"


def test_a_stop_ends_it_after_the_running_round() -> None:
    """The round goes on to its end (EXP-004)."""
    world = lively()
    deliver(world, begin(world))
    world.happen(ExperimentStopOrdered(world.now, "e", "enough"))
    assert world.experiment("e").state is ExperimentStatus.STOPPING
    before = world.experiment("e")
    world.happen(ExperimentStopOrdered(world.now, "e", "again"))
    assert world.experiment("e") == before
    effects = world.arrive("a", "e:0001")
    assert not deliver(world, effects)
    state = world.experiment("e")
    assert (state.state, state.rounds_completed, state.message) == (
        ExperimentStatus.STOPPED,
        1,
        "enough",
    )
    world.happen(ExperimentStopOrdered(world.now, "e", "too late"))
    assert world.experiment("e") == state


def test_a_stop_and_a_failed_round() -> None:
    """It was stopped all the same."""
    world = lively()
    deliver(world, begin(world))
    world.happen(ExperimentStopOrdered(world.now, "e", "enough"))
    world.pass_time(30.0)
    assert world.experiment("e").state is ExperimentStatus.STOPPED


def test_a_start_that_was_lost_is_ordered_again() -> None:
    """Every 5 s, with the same bytes, until the round is known (EXP-002)."""
    world = lively()
    (first,) = [each for each in begin(world) if isinstance(each, Publish) and each.topic == START]
    again = [each for each in world.pass_time(11.0) if isinstance(each, Publish)]
    assert [each.payload for each in again if each.topic == START] == [first.payload] * 2
    world.order_as(RoundStart.decode(first.payload))
    assert not deliver(world, world.pass_time(2.9))
    world.arrive("a", "e:0001")
    assert world.experiment("e").rounds_completed == 1


def test_an_id_that_somebody_used_ends_the_experiment() -> None:
    """It never counts a round that is not its own."""
    world = lively()
    world.order("e:0001", ("a", "b"), 1)
    world.arrive("a", "e:0001")
    begin(world)
    world.pass_time(5.0)
    state = world.experiment("e")
    assert (state.state, state.rounds_completed) == (ExperimentStatus.FAILED, 0)
    assert "used by another start" in (state.message or "")


def test_the_same_order_again_tells_the_state() -> None:
    """Other bytes are refused, and so is a policy that cannot be carried out (EXP-005)."""
    world = lively()
    begin(world)
    told = len(world.told("fl/experiments/e/state"))
    made = begin(world)
    assert world.notes(made) == ["experiment.repeated"]
    assert len(world.told("fl/experiments/e/state")) == told + 1
    begin(world, rounds=4)
    assert world.experiment("e").rounds == 3
    begin(world, experiment_id="f", k_of_n=3)
    assert world.experiment("f").state is ExperimentStatus.FAILED
    assert "k_of_n is 3" in (world.experiment("f").message or "")
    world.happen(ExperimentStopOrdered(world.now, "nobody", "x"))
    assert world.ledger().refusals == {"bad_experiment": 3}


def test_timers_of_ended_experiments_change_nothing() -> None:
    """Nor do those of running ones whose round runs."""
    world = lively()
    deliver(world, begin(world))
    made = world.pass_time(5.0)
    assert "e:0001" not in [each.round_id for each in deliver(world, made)][1:]
    world.pass_time(30.0)
    state = world.experiment("e")
    world.happen(TimerFired(world.now, "experiment/e"))
    world.happen(TimerFired(world.now, "experiment/nobody"))
    assert world.experiment("e") == state


def test_ended_experiments_are_kept_within_bounds() -> None:
    """The oldest go."""
    world = lively()
    for number in range(103):
        begin(world, experiment_id=f"e{number}", k_of_n=3)
    kept = world.states.all("experiment")
    assert len(kept) == 100
    assert "e0" not in kept


def test_the_table_of_experiments_is_whole() -> None:
    """Every state is in it, and those that are final lead nowhere."""
    assert set(TRANSITIONS) == set(ExperimentStatus)
    assert [each for each, row in TRANSITIONS.items() if not row] == [
        each for each in ExperimentStatus if each.final
    ]


def roll_back(world: World, number: int, **more: Any) -> list[Any]:
    """Order a rollback."""
    return world.happen(RollbackOrdered(world.now, Rollback(version=number, **more)))


def test_a_rollback_makes_a_new_version_with_the_old_content() -> None:
    """Its parent is the old one (MODEL-040)."""
    world = lively()
    world.versions += [version(1, "aa" * 32, "r1"), version(2, "bb" * 32, "r2")]
    world.index()
    roll_back(world, 1)
    (sent,) = world.of(PublishModel)
    assert (sent.version, sent.parent, sent.digest) == (3, 1, "aa" * 32)
    assert sent.publish_id == "rollback:v1-after-v2"
    assert world.versions[-1].digest == "aa" * 32
    assert "rollback.completed" in world.notes()
    assert not world.states.all("rollback")
    assert not world.timers
    assert world.notes(roll_back(world, 1)) == ["rollback.unneeded"], "it is the latest already"
    roll_back(world, 0, rollback_id="mine")
    assert world.versions[-1].publish_id == "rollback:mine"
    world.versions.append(version(5, "cc" * 32, "r5"))
    world.index()
    assert world.notes(roll_back(world, 0, rollback_id="mine")) == ["rollback.unneeded"]


@pytest.mark.parametrize("number", [7, 1])
def test_a_version_that_is_not_listed_is_refused(number: int) -> None:
    """The message names those that are (MODEL-040)."""
    world = lively()
    roll_back(world, number)
    assert world.ledger().refusals == {"unknown_version": 1}
    assert "there are 0" in (world.ledger().last_refusal or "")
    roll_back(world, number, name="other")
    assert "there are none" in (world.ledger().last_refusal or "")


def test_a_rollback_is_sent_again_until_it_is_listed() -> None:
    """As any model is; the same order meanwhile changes nothing."""
    world = lively()
    world.versions.append(version(1, "aa" * 32, "r1"))
    world.index()
    world.server_away = True
    roll_back(world, 0)
    assert world.notes(roll_back(world, 0)) == ["rollback.unneeded"]
    world.pass_time(10.0)
    assert len(world.of(PublishModel)) == 3
    world.order("r", ("a", "b"), 1)
    world.arrive("a")
    assert world.of(PublishModel)[-1].version == 3, "2 is the rollback's"
    world.server_away = False
    world.serve(world.of(PublishModel)[0])
    world.serve(world.of(PublishModel)[-1])
    assert [each.version for each in world.versions] == [0, 1, 2, 3]
    assert world.outcome().outcome is RoundStatus.COMPLETED


def test_a_rollback_whose_content_is_gone_is_refused() -> None:
    """And leaves nothing behind."""
    world = lively()
    world.versions.append(version(1, "aa" * 32, "r1"))
    world.index()
    world.hold_base = True
    roll_back(world, 0)
    world.index()
    world.pass_time(40.0)
    assert not world.of(PublishModel), "it is not fetched yet"
    (fetch,) = world.of(FetchModel)
    world.happen(BaseUnavailable(world.now, fetch.for_id, "nothing there"))
    assert world.ledger().refusals == {"unknown_version": 1}
    assert not world.states.all("rollback")
    world.happen(BaseRead(world.now, fetch.for_id, "s", "d", "w"))
    assert not world.of(PublishModel)


def test_refused_orders_are_counted_on_the_coordinators_state() -> None:
    """Nothing of it is hidden."""
    world = lively()
    world.happen(OrderRefused(world.now, RETAINED_ORDER, "fl/rounds/start is retained"))
    world.happen(OrderRefused(world.now, RETAINED_ORDER, "fl/rounds/start is retained"))
    assert world.ledger().refusals == {"retained_order": 2}
    assert "fl/rounds/start is retained" in (world.ledger().last_refusal or "")
    assert world.notes().count("order.refused") == 2
