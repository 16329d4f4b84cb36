"""From the average to the outcome; on the coordinator's core."""

from dataclasses import replace
from typing import Any

from roost.chassis.effects import Publish
from roost.coordinator.core.effects import (
    Average,
    DropOutgoing,
    PublishModel,
    Tidy,
)
from roost.coordinator.core.events import (
    Averaged,
    IndexRead,
)
from roost.coordinator.core.facts import Keep
from roost.protocol.round.label import ModelLabel
from roost.protocol.round.messages import ModelIndex, RoundStatus
from roost.protocol.task.messages import TaskStatus

from .world import BASE, DIGEST, World, version


def published(effects: list[Any], topic: str) -> list[Publish]:
    """Return what was published on a topic."""
    return [each for each in effects if isinstance(each, Publish) and each.topic == topic]


def test_a_round_from_start_to_complete() -> None:
    """Two of three: averaged, numbered, listed, told (ROUND-015, ROUND-031, ROUND-030)."""
    world = World()
    world.open(k=2)
    assert world.state().state is RoundStatus.OPEN
    world.arrive("c")
    assert (world.state().updates, world.state().missing) == (1, ("a", "b"))
    world.arrive("a")
    (average,) = world.of(Average)
    assert [world.spools[each.spool] for each in average.updates] == ["a", "c"]
    assert average.base_digest == DIGEST
    (sent,) = world.of(PublishModel)
    assert (sent.version, sent.parent, sent.publish_id, sent.name) == (1, 0, "r", "global_model")
    outcome = world.outcome()
    assert outcome.outcome is RoundStatus.COMPLETED
    assert (outcome.model_version, outcome.model_topic) == (1, "fl/models/global_model_v1")
    assert outcome.model_digest == world.versions[1].digest
    assert (outcome.updates, outcome.samples, outcome.base_model) == (2, 20, BASE)
    assert outcome.verdicts == {"a": "accepted", "b": "missing", "c": "accepted"}
    assert list(outcome.verdicts) == ["a", "b", "c"]
    assert "round.completed" in world.notes()
    assert DropOutgoing("r") in world.effects


def test_metrics_are_averaged_with_the_same_weights() -> None:
    """Each over those who reported it (ROUND-021)."""
    world = World()
    world.open(k=2)
    one, two = world.arrival("a"), world.arrival("b")
    world.happen_update(replace(one, num_samples=10, metrics={"loss": 1.0, "own": 5.0}))
    world.happen_update(replace(two, num_samples=30, metrics={"loss": 2.0}))
    assert world.outcome().metrics == {"loss": 1.75, "own": 5.0}


def test_metrics_of_many_names_do_not_hold_up_a_model() -> None:
    """A model's label has room for 64: those stand that weigh most (ROUND-021)."""
    world = World()
    world.open(k=2)
    one, two = world.arrival("a"), world.arrival("b")
    ours = {f"ours{number:02d}": 1.0 for number in range(64)}
    theirs = {f"theirs{number:02d}": 1.0 for number in range(63)} | {"ours00": 2.0}
    world.happen_update(replace(one, num_samples=10, metrics=ours))
    world.happen_update(replace(two, num_samples=30, metrics=theirs))
    kept = {"ours00": 1.75} | dict.fromkeys(list(theirs)[:63], 1.0)
    assert world.outcome().metrics == kept
    (sent,) = world.of(PublishModel)
    assert ModelLabel(metrics=dict(sent.metrics)).metrics == kept


def test_complete_waits_for_an_index_of_this_connection() -> None:
    """An index with another digest, or of an earlier connection, does not count (ROUND-031)."""
    world = World(server_away=True)
    world.open(k=1)
    world.arrive("a")
    assert world.round().status is RoundStatus.PUBLISHING
    (sent,) = world.of(PublishModel)
    world.versions.append(version(1, "ff" * 32, "r"))
    world.index()
    assert world.round().status is RoundStatus.PUBLISHING
    world.versions[1] = version(1, sent.digest, "r")
    world.disconnect()
    world.pass_time(1.0)
    assert world.round().status is RoundStatus.PUBLISHING
    world.connect()
    assert world.round().status is RoundStatus.PUBLISHING
    world.index()
    assert world.outcome().outcome is RoundStatus.COMPLETED


def test_a_model_is_sent_again_until_it_is_listed() -> None:
    """After 2, 4, 8, 16 and then every 30 s (MODEL-037)."""
    world = World(server_away=True)
    world.open(k=1)
    world.arrive("a")
    begin, times = world.now, []
    for _ in range(200):
        count = len(world.of(PublishModel))
        world.pass_time(1.0)
        times += [world.now - begin] * (len(world.of(PublishModel)) - count)
    assert times == [2, 6, 14, 30, 60, 90, 120, 150, 180]
    assert {each.version for each in world.of(PublishModel)} == {1}
    assert world.state().state is RoundStatus.PUBLISHING
    assert "model server" in (world.state().message or "")
    world.server_away = False
    world.serve(world.of(PublishModel)[-1])
    assert (world.outcome().model_version, world.outcome().message) == (1, None)


def test_without_an_index_nothing_is_sent() -> None:
    """The number is the next one of the present connection's index (MODEL-037)."""
    world = World()
    world.open(k=1)
    world.answers = False
    world.arrive("a")
    world.disconnect()
    world.happen(Averaged(world.now, "r", "ab" * 32))
    assert world.round().status is RoundStatus.PUBLISHING
    assert not world.of(PublishModel)
    world.pass_time(40.0)
    assert not world.of(PublishModel)
    world.connect()
    world.happen(IndexRead(world.now, ModelIndex()))
    assert not world.of(PublishModel), "an index without the model has no next number"
    world.index()
    assert [each.version for each in world.of(PublishModel)] == [1]


def test_news_before_the_index_do_not_put_the_next_sending_off() -> None:
    """A broker that forgot the model tells of tasks first, then the index comes (MODEL-037)."""
    world = World(server_away=True)
    world.open(k=1)
    world.arrive("a")
    world.disconnect()
    world.connect()
    world.task("a", TaskStatus.SUCCEEDED)
    world.index()
    assert len(world.of(PublishModel)) == 1
    world.pass_time(2.0)
    assert len(world.of(PublishModel)) == 2


def test_what_should_have_been_sent_without_an_index_is_sent_with_the_next_one() -> None:
    """However long the broker was away (MODEL-037)."""
    world = World(server_away=True)
    world.open(k=1)
    world.arrive("a")
    world.disconnect()
    world.pass_time(20.0)
    assert len(world.of(PublishModel)) == 1
    world.connect()
    world.index()
    assert [each.version for each in world.of(PublishModel)] == [1, 1]


def test_a_number_that_another_took_is_replaced_by_the_next() -> None:
    """Versions stay monotonic, and one round makes one version (MODEL-037)."""
    world = World(server_away=True)
    world.open(k=1)
    world.arrive("a")
    world.versions.append(version(1, "cd" * 32, "somebody"))
    world.index()
    assert [each.version for each in world.of(PublishModel)] == [1, 2]
    world.server_away = False
    world.serve(world.of(PublishModel)[-1])
    assert (world.outcome().model_version, len(world.versions)) == (2, 3)


def test_two_rounds_publish_under_different_numbers() -> None:
    """The second does not take the number that the first was sent with (ROUND-035)."""
    world = World(server_away=True)
    world.open("r", k=1)
    world.order("s", ("a", "b"), 1)
    world.arrive("a", "r")
    world.arrive("b", "s")
    one, two = world.of(PublishModel)
    assert (one.version, two.version) == (1, 2)
    assert one.parent == two.parent == 0
    world.server_away = False
    world.serve(one)
    world.serve(two)
    assert [world.outcome(each).model_version for each in "rs"] == [1, 2]


def test_an_average_that_is_not_known_yet_is_not_tidied_away() -> None:
    """Another round's end must leave the models of those that aggregate alone."""
    world = World()
    world.open("r", k=1)
    world.order("s", ("a", "b"), 1)
    world.answers = False
    world.arrive("b", "s")
    world.answers = True
    world.arrive("a", "r")
    assert world.round("r").status is RoundStatus.COMPLETED
    assert world.of(Tidy)[-1].models is None
    world.happen(Averaged(world.now, "s", "ab" * 32))
    models = world.of(Tidy)[-1].models
    assert models is not None
    assert "ab" * 32 in models


def test_the_states_of_open_rounds_do_not_expire() -> None:
    """Those of ended ones do (ROUND-034)."""
    world = World(keep=Keep(expiry_s=77.0))
    made = world.open(k=1)
    assert {each.expiry_s for each in published(made, "fl/rounds/r/state")} == {None}
    made = world.arrive("a")
    assert published(made, "fl/rounds/r/state")[-1].expiry_s == 77.0
    assert published(made, "fl/rounds/r/complete")[-1].expiry_s == 77.0


def test_the_coordinators_state_names_what_runs() -> None:
    """And nothing that has ended."""
    world = World()
    assert world.ledger().open_rounds == ()
    world.open(k=1)
    assert world.ledger().open_rounds == ("r",)
    world.arrive("a")
    assert world.ledger().open_rounds == ()


def test_a_round_may_last_a_week_to_publish() -> None:
    """The outcome's duration is bounded, so that it can be told at all."""
    world = World(server_away=True)
    world.open(k=1)
    world.arrive("a")
    world.now += 700_000.0
    world.server_away = False
    world.serve(world.of(PublishModel)[0])
    assert world.outcome().duration_s == 604_800.0
