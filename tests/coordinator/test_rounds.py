"""The rows of the round protocol, one by one, on the coordinator's core."""

from dataclasses import replace
from typing import Any

import pytest
from roost.chassis.core import TimerFired
from roost.chassis.effects import Note, Publish
from roost.coordinator.core.effects import (
    Average,
    DropOutgoing,
    DropSpools,
    FetchModel,
    FetchUpdate,
    PublishModel,
    Tidy,
)
from roost.coordinator.core.errors import IllegalTransition
from roost.coordinator.core.events import (
    Averaged,
    AverageFailed,
    BaseRead,
    BaseUnavailable,
    IndexRead,
    RoundUnreadable,
    UpdateOffered,
    UpdateUnreadable,
)
from roost.coordinator.core.guards import TRANSITIONS, Push, Trigger
from roost.coordinator.core.round import _move
from roost.coordinator.core.state import Facts, Keep
from roost.protocol.round.messages import ModelIndex, RoundStatus
from roost.protocol.round.refusals import (
    AVERAGE_FAILED,
    BAD_UPDATE,
    BLOB_UNAVAILABLE,
    NOT_FINITE,
)
from roost.protocol.task.messages import TaskStatus
from roost.wire.blob import Manifest
from roost.wire.refusal import MALFORMED

from .world import BASE, DIGEST, World, sha, version

START = "fl/rounds/start"


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
    world.server_away = False
    world.serve(world.of(PublishModel)[-1])
    assert world.outcome().model_version == 1


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


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"who": ()}, "participants is empty"),
        ({"k": 4}, "k_of_n is 4, but only 3"),
        ({"who": ("a", "b", "a")}, "names a more than once"),
        ({"k": 1, "min_updates": 2}, "min_updates is 2"),
    ],
)
def test_an_impossible_policy_fails_at_once(order: dict[str, Any], says: str) -> None:
    """The outcome says what is wrong (ROUND-002)."""
    world = World()
    world.connect()
    world.see("a", "b", "c")
    world.index()
    world.order(**order)
    outcome = world.outcome()
    assert (outcome.outcome, outcome.reason) == (RoundStatus.FAILED, "bad_policy")
    assert says in (outcome.message or "")
    assert not world.timers


def test_an_unreadable_start_fails_its_round() -> None:
    """Its sender finds the reason on the outcome (ROUND-004)."""
    world = World()
    world.connect()
    event = RoundUnreadable(world.now, "r", "aa" * 32, MALFORMED, "field 'k_of_n' is missing")
    world.happen(event)
    outcome = world.outcome()
    assert (outcome.reason, outcome.base_model) == ("malformed", None)
    assert "k_of_n" in (outcome.message or "")
    again = world.happen(event)
    assert world.notes(again) == ["round.start_repeated"]
    world.order()
    assert world.outcome().reason == "malformed", "the first stands"


def test_a_model_that_no_index_lists_fails_after_ten_seconds() -> None:
    """Of connection, since the start; the message names the latest ones (ROUND-006)."""
    world = World()
    world.connect()
    world.see("a", "b", "c")
    world.pass_time(100.0)
    world.index()
    world.order(model_uri="fl/models/other_v1")
    world.pass_time(9.0)
    world.disconnect()
    world.pass_time(5.0)
    world.connect()
    world.index()
    world.pass_time(9.9)
    assert world.state().state is RoundStatus.PREPARING
    world.pass_time(0.1)
    outcome = world.outcome()
    assert outcome.reason == "unknown_model"
    assert "fl/models/global_model_v0" in (outcome.message or "")


def test_a_model_that_is_listed_in_time_opens_the_round() -> None:
    """A start may overtake its model's publication."""
    world = World(versions=[])
    world.connect()
    world.see("a", "b", "c")
    world.order()
    world.pass_time(9.0)
    assert world.state().state is RoundStatus.PREPARING
    world.versions.append(version(0))
    world.index()
    assert world.state().state is RoundStatus.OPEN


def test_a_participant_never_seen_fails_the_round_and_names_the_known() -> None:
    """After 2 s of connection; offline proplets are known (ROUND-007)."""
    world = World()
    world.connect()
    world.see("a", "b")
    world.index()
    world.order(who=("a", "zebra"))
    world.pass_time(1.9)
    assert world.state().state is RoundStatus.PREPARING
    world.pass_time(0.2)
    assert world.outcome().reason == "unknown_participant"
    assert "never seen: zebra; known are: a, b" in (world.outcome().message or "")
    world.order("later", who=("a", "yak"))
    assert world.outcome("later").reason == "unknown_participant", "at once: presences had time"


def test_a_participant_seen_in_time_opens_the_round() -> None:
    """Presences come one by one after a connect."""
    world = World()
    world.connect()
    world.index()
    world.order(who=("a", "b"))
    world.see("a", "a")
    assert world.state().state is RoundStatus.PREPARING
    world.see("b")
    assert world.state().state is RoundStatus.OPEN


def test_many_unknown_names_are_not_all_told() -> None:
    """Messages stay short."""
    world = World()
    world.connect()
    world.pass_time(5.0)
    world.order(who=[f"p{n}" for n in range(30)])
    assert "and 10 more; known are: none" in (world.outcome().message or "")


def test_no_connection_judges_nothing_but_time() -> None:
    """Without a broker a start waits; its time runs all the same (ROUND-005)."""
    world = World()
    world.order(timeout_s=30.0)
    world.pass_time(29.0)
    assert world.state().state is RoundStatus.PREPARING
    world.pass_time(1.0)
    assert world.outcome().reason == "timed_out"


REFUSALS = [
    ({"num_samples": 0}, "bad_samples"),
    ({"num_samples": -1}, "bad_samples"),
    ({"num_samples": 1001}, "bad_samples"),
    ({"round_id": "s"}, "wrong_round"),
    ({"base_model_uri": "fl/models/global_model_v1"}, "wrong_base"),
    ({"shapes": "x"}, "wrong_shape"),
    ({"dtypes": "x"}, "wrong_shape"),
]


@pytest.mark.parametrize(("fault", "reason"), REFUSALS)
def test_a_wrong_update_is_refused_with_its_reason(fault: dict[str, Any], reason: str) -> None:
    """Counted, named in the outcome, its file dropped; another may follow (ROUND-012)."""
    world = World()
    world.open(k=1, max_samples=1000)
    made = world.arrive("a", **fault)
    assert world.state().refusals == {reason: 1}
    assert (world.state().last_refusal or "").startswith(f"a: {reason} (")
    assert [each for each in made if isinstance(each, DropSpools)]
    assert world.round().status is RoundStatus.OPEN
    world.arrive("b")
    assert world.outcome().verdicts == {"a": reason, "b": "accepted", "c": "missing"}


def test_the_cap_on_samples_is_inclusive() -> None:
    """1 to max_samples."""
    for samples in (1, 1000):
        world = World()
        world.open(k=1, max_samples=1000)
        world.happen_update(replace(world.arrival("a"), num_samples=samples))
        assert world.outcome().samples == samples


def test_json_numbers_have_no_type_to_be_wrong() -> None:
    """A JSON update may answer a binary base, a binary one of any type a JSON base (UPDATE-004)."""
    world = World()
    world.open(k=1)
    world.happen_update(replace(world.arrival("a"), dtypes=None))
    assert world.outcome().outcome is RoundStatus.COMPLETED
    world = World(versions=[version(0).model_copy(update={"form": "json"})])
    world.open(k=1)
    world.happen_update(replace(world.arrival("a"), dtypes="others"))
    assert world.outcome().outcome is RoundStatus.COMPLETED


def test_strangers_and_duplicates_do_not_count() -> None:
    """The quorum is unaffected (ROUND-011)."""
    world = World()
    world.open(k=2)
    world.arrive("stranger")
    world.arrive("stranger", num_samples=0)
    world.arrive("a")
    world.arrive("a")
    assert world.state().refusals == {"not_invited": 2, "duplicate": 1}
    assert world.state().updates == 1
    world.arrive("b")
    assert world.outcome().verdicts == {
        "a": "accepted",
        "b": "accepted",
        "c": "missing",
        "(uninvited)": "2 refused",
    }


def test_what_comes_after_the_close_is_late() -> None:
    """It is counted on the state; the outcome that was told stands (ROUND-011)."""
    world = World(server_away=True)
    world.open(k=1)
    world.arrive("a")
    world.arrive("b")
    world.server_away = False
    world.serve(world.of(PublishModel)[0])
    assert world.outcome().verdicts["b"] == "late"
    told = world.told("fl/rounds/r/complete")
    world.arrive("c")
    world.arrive("a")
    assert world.state().refusals == {"late": 2, "duplicate": 1}
    assert world.told("fl/rounds/r/complete") == told


def test_what_comes_after_a_failure_is_late() -> None:
    """Although the quorum has room for it."""
    world = World()
    world.open(k=2, timeout_s=5.0)
    world.pass_time(5.0)
    world.arrive("a")
    assert (world.state().updates, world.state().refusals) == (0, {"late": 1})


def test_an_update_of_a_round_that_nobody_started_is_dropped() -> None:
    """And counted on the coordinator's own state (ROUND-011)."""
    world = World()
    world.connect()
    made = world.arrive("a", "nowhere")
    assert [each for each in made if isinstance(each, DropSpools)]
    world.happen(UpdateUnreadable(world.now, "nowhere", "a", BAD_UPDATE, "x"))
    assert world.ledger().refusals == {"unknown_round": 2}


def test_updates_wait_until_the_base_was_read() -> None:
    """Then they are judged in the order of their coming (ROUND-013)."""
    world = World(hold_base=True)
    world.open(k=2)
    world.arrive("b", shapes="x")
    world.arrive("c")
    made = world.arrive("c")
    assert world.state().refusals == {"duplicate": 1}
    assert [each for each in made if isinstance(each, DropSpools)]
    world.arrive("stranger")
    world.arrive("a")
    assert world.state().updates == 0
    world.read_bases()
    assert world.outcome().verdicts == {
        "a": "accepted",
        "b": "wrong_shape",
        "c": "accepted",
        "(uninvited)": "1 refused",
    }


def test_of_more_updates_than_needed_the_first_that_waited_count() -> None:
    """The others are late: the quorum closes the round in between (ROUND-013)."""
    world = World(hold_base=True)
    world.open(k=2)
    for each in ("c", "a", "b"):
        world.arrive(each)
    world.read_bases()
    assert world.outcome().updates == 2
    assert world.outcome().verdicts == {"a": "accepted", "b": "late", "c": "accepted"}


def test_updates_that_wait_when_the_time_is_up_are_late() -> None:
    """Their files are dropped."""
    world = World(hold_base=True)
    world.open(k=1, timeout_s=5.0)
    world.arrive("a")
    world.pass_time(5.0)
    assert world.outcome().reason == "timed_out"
    assert world.outcome().verdicts["a"] == "late"
    assert len(world.of(DropSpools)) == 1
    world.read_bases()
    assert world.round().status is RoundStatus.FAILED


def test_a_base_that_cannot_be_read_is_asked_for_again() -> None:
    """Every 2 s; the state says what it waits for."""
    world = World(hold_base=True)
    world.open(k=1, timeout_s=9.0)
    world.happen(BaseUnavailable(world.now, "r", "nothing on the topic"))
    assert "nothing on the topic" in (world.state().message or "")
    world.pass_time(2.0)
    assert len(world.of(FetchModel)) == 2
    world.read_bases()
    assert world.state().message is None
    world.happen(BaseUnavailable(world.now, "r", "late news"))
    world.pass_time(2.0)
    assert len(world.of(FetchModel)) == 2, "it is there already"
    world.happen(BaseRead(world.now, "r", "other", "other", "other"))
    world.arrive("a")
    assert world.outcome().outcome is RoundStatus.COMPLETED


def test_a_timeout_names_what_was_waited_for() -> None:
    """The base's trouble is in the message."""
    world = World(hold_base=True)
    world.open(k=1, timeout_s=1.0)
    world.happen(BaseUnavailable(world.now, "r", "nothing on the topic"))
    world.pass_time(1.0)
    assert "0 of 1 updates within 1 s; waits for its base model: nothing" in (
        world.outcome().message or ""
    )


def test_large_updates_are_fetched_if_they_may_count() -> None:
    """Strangers' and too large ones are refused unfetched (ROUND-011)."""
    world = World()
    world.open(k=2)
    manifest = Manifest(owner="a", sha256="ab" * 32, size=1_050_000)
    made = world.happen(UpdateOffered(world.now, "r", "a", manifest))
    assert [each.sender for each in made if isinstance(each, FetchUpdate)] == ["a"]
    assert not [
        each
        for each in world.happen(UpdateOffered(world.now, "r", "stranger", manifest))
        if isinstance(each, FetchUpdate)
    ]
    huge = manifest.model_copy(update={"size": 8 * 1000 + 1_048_576 + 1})
    world.happen(UpdateOffered(world.now, "r", "b", huge))
    assert world.state().refusals == {"not_invited": 1, "update_too_large": 1}
    world.happen(UpdateUnreadable(world.now, "r", "a", BLOB_UNAVAILABLE, "chunk 3"))
    assert world.state().refusals["blob_unavailable"] == 1


def test_who_sent_it_goes_before_what_is_wrong_with_it() -> None:
    """A stranger's rubbish is a stranger's (ROUND-011)."""
    world = World()
    world.open(k=2)
    world.happen(UpdateUnreadable(world.now, "r", "stranger", BAD_UPDATE, "x"))
    world.happen(UpdateUnreadable(world.now, "r", "a", NOT_FINITE, "x"))
    assert world.state().refusals == {"not_invited": 1, "not_finite": 1}


def test_at_the_close_running_tasks_are_cancelled() -> None:
    """Those whose update is not wanted any more, no others (ROUND-015)."""
    world = World()
    world.open(who=("a", "b", "c", "d"), k=1)
    world.task("a", TaskStatus.RUNNING)
    world.task("b", TaskStatus.RUNNING)
    world.task("c", TaskStatus.FAILED)
    world.arrive("a")
    cancelled = [each.topic for each in world.of(Publish) if each.topic.endswith("/cancel")]
    assert cancelled == ["tasks/r:b/cancel"]
    world.task("d", TaskStatus.DISPATCHED)
    world.task("a", TaskStatus.RUNNING)
    cancelled = [each.topic for each in world.of(Publish) if each.topic.endswith("/cancel")]
    assert cancelled == ["tasks/r:b/cancel", "tasks/r:d/cancel"]


def test_failures_that_make_k_unreachable_end_the_round_after_two_seconds() -> None:
    """It does not wait for the timeout (ROUND-016)."""
    world = World()
    world.open(k=2)
    world.task("a", TaskStatus.FAILED, reason="trap")
    assert world.state().failed == {"a": "trap"}
    world.pass_time(3.0)
    world.task("b", TaskStatus.EXPIRED)
    world.pass_time(1.9)
    assert world.round().status is RoundStatus.OPEN
    world.pass_time(0.1)
    outcome = world.outcome()
    assert outcome.reason == "quorum_unreachable"
    assert outcome.verdicts == {"a": "trap", "b": "expired", "c": "missing"}


def test_an_update_on_its_way_saves_the_round() -> None:
    """Within the grace of 2 s (ROUND-016)."""
    world = World()
    world.open(k=2)
    world.task("a", TaskStatus.FAILED)
    world.task("b", TaskStatus.FAILED)
    world.arrive("b")
    world.pass_time(5.0)
    assert world.round().status is RoundStatus.OPEN
    world.arrive("c")
    assert world.outcome().outcome is RoundStatus.COMPLETED


def test_a_refused_update_of_a_task_that_succeeded_is_a_failure() -> None:
    """It would send the same again (ROUND-016)."""
    world = World()
    world.open(k=3)
    world.arrive("a", shapes="x")
    world.pass_time(5.0)
    assert world.round().status is RoundStatus.OPEN, "it may be a person who tries again"
    world.task("a", TaskStatus.SUCCEEDED)
    world.pass_time(2.0)
    assert world.outcome().reason == "quorum_unreachable"


def test_offline_is_no_failure() -> None:
    """A proplet may come back until the time is up (ROUND-016)."""
    world = World()
    world.open(k=3, timeout_s=60.0)
    world.task("a", TaskStatus.QUEUED)
    world.pass_time(59.0)
    assert world.round().status is RoundStatus.OPEN


def test_too_few_updates_at_the_timeout_fail_the_round() -> None:
    """The model is unchanged (ROUND-017, ROUND-033)."""
    world = World()
    world.open(k=2, timeout_s=10.0)
    world.arrive("a")
    world.pass_time(10.0)
    assert (world.outcome().reason, world.outcome().updates) == ("timed_out", 1)
    assert "1 of 2 updates within 10 s" in (world.outcome().message or "")
    assert len(world.versions) == 1


@pytest.mark.parametrize(("count", "status"), [(2, RoundStatus.COMPLETED), (1, RoundStatus.FAILED)])
def test_aggregating_at_the_timeout_is_opt_in(count: int, status: RoundStatus) -> None:
    """With a minimum (ROUND-017)."""
    world = World()
    world.open(k=3, timeout_s=10.0, on_timeout="aggregate", min_updates=2)
    for each in ("a", "b")[:count]:
        world.arrive(each)
    world.pass_time(10.0)
    assert (world.outcome().outcome, world.outcome().updates) == (status, count)


def test_aggregating_needs_nobody_left_to_wait_for() -> None:
    """Then it does not wait for the timeout either (ROUND-016)."""
    world = World()
    world.open(k=3, timeout_s=60.0, on_timeout="aggregate", min_updates=2)
    world.arrive("a")
    world.task("b", TaskStatus.FAILED)
    world.pass_time(10.0)
    assert world.round().status is RoundStatus.OPEN, "c may bring the second"
    world.arrive("c")
    world.pass_time(2.0)
    assert (world.outcome().outcome, world.outcome().updates) == (RoundStatus.COMPLETED, 2)


def test_aggregating_fails_when_the_minimum_is_out_of_reach() -> None:
    """Even before the timeout (ROUND-016)."""
    world = World()
    world.open(k=3, timeout_s=60.0, on_timeout="aggregate", min_updates=2)
    world.task("b", TaskStatus.FAILED)
    world.task("c", TaskStatus.FAILED)
    world.pass_time(2.0)
    assert world.outcome().reason == "quorum_unreachable"


def test_what_is_missing_is_asked_for_again() -> None:
    """Task states by the start, updates of succeeded tasks by a resend (ROUND-018)."""
    world = World()
    world.open(k=3, timeout_s=300.0)
    world.task("a", TaskStatus.RUNNING)
    made = world.pass_time(3.0)
    (again,) = published(made, START)
    assert again.payload == world.states.get("start", "r").payload.encode()
    assert again.expiry_s == 297.0
    world.task("b", TaskStatus.RUNNING)
    world.task("c", TaskStatus.SUCCEEDED)
    made = world.pass_time(2.0)
    assert len(published(made, "tasks/r:c/resend")) == 1
    assert not published(made, START), "no task state is missing now"
    seconds = (world.pass_time(1.0) for _ in range(100))
    times = [world.now - 1000.0 for made in seconds if published(made, "tasks/r:c/resend")]
    assert times == [8, 14, 26, 50, 80]
    world.arrive("c")
    assert not published(world.pass_time(40.0), "tasks/r:c/resend")


def test_nothing_is_started_again_without_a_connection() -> None:
    """It would only wait in memory."""
    world = World()
    world.open(k=3)
    world.disconnect()
    assert not published(world.pass_time(10.0), START)


def test_refused_updates_waiting_ones_and_failures_are_not_asked_for() -> None:
    """They are judged, or will be (ROUND-018)."""
    world = World(hold_base=True)
    world.open(k=3)
    world.arrive("a")
    for each in ("a", "b"):
        world.task(each, TaskStatus.SUCCEEDED)
    world.task("c", TaskStatus.FAILED)
    made = world.pass_time(1.9) + world.pass_time(0.2)
    assert not published(made, "tasks/r:a/resend")
    world.read_bases()
    assert world.outcome().reason == "quorum_unreachable"


def test_tasks_of_another_start_are_cancelled_and_count_as_failures() -> None:
    """Their updates are refused (ROUND-019)."""
    world = World()
    world.open(k=3)
    made = world.task("a", TaskStatus.RUNNING, start="other bytes")
    assert len(published(made, "tasks/r:a/cancel")) == 1
    assert world.state().failed == {"a": "other_launch"}
    world.arrive("a")
    assert world.state().refusals == {"other_launch": 1}
    assert not published(
        world.task("a", TaskStatus.CANCELLED, start="other bytes"), "tasks/r:a/cancel"
    )
    made = world.task("stranger", TaskStatus.RUNNING)
    assert len(published(made, "tasks/r:stranger/cancel")) == 1
    assert "stranger" not in world.state().failed


def test_tasks_of_a_round_that_nobody_started_are_cancelled_after_ten_seconds() -> None:
    """The start may be on its way (ROUND-019)."""
    world = World()
    world.connect()
    world.task("a", TaskStatus.RUNNING, "ghost")
    world.task("b", TaskStatus.SUCCEEDED, "ghost")
    assert not published(world.pass_time(9.9), "tasks/ghost:a/cancel")
    made = world.pass_time(0.1)
    assert len(published(made, "tasks/ghost:a/cancel")) == 1
    assert not published(made, "tasks/ghost:b/cancel")
    world.see("a", "b", "c")
    world.index()
    world.task("a", TaskStatus.RUNNING, "soon")
    world.order("soon")
    assert not published(world.pass_time(11.0), "tasks/soon:a/cancel")


def test_an_average_that_fails_fails_the_round() -> None:
    """With its reason (ROUND-022)."""
    world = World(answers=False)
    world.open(k=1)
    world.happen(BaseRead(world.now, "r", "shapes", "dtypes", "w"))
    world.arrive("a")
    world.happen(AverageFailed(world.now, "r", AVERAGE_FAILED, "disk full"))
    outcome = world.outcome()
    assert (outcome.reason, outcome.message) == ("average_failed", "disk full")
    before = world.round()
    world.happen(AverageFailed(world.now, "r", AVERAGE_FAILED, "again"))
    world.happen(Averaged(world.now, "r", "ab" * 32))
    assert world.round() == before


def test_stale_answers_change_nothing() -> None:
    """An average for a round that does not wait for one, timers of another status."""
    world = World(answers=False)
    world.open(k=1)
    before = world.round()
    world.happen(Averaged(world.now, "r", "ab" * 32))
    world.happen(AverageFailed(world.now, "r", AVERAGE_FAILED, "x"))
    for kind in ("publish", "grace", "prepare"):
        world.happen(TimerFired(world.now, f"{kind}/r"))
    world.happen(TimerFired(world.now, "deadline/nobody"))
    assert world.round() == before
    world.happen(BaseRead(world.now, "r", "shapes", "dtypes", "w"))
    world.arrive("a")
    before = world.round()
    for kind in ("check", "base"):
        world.happen(TimerFired(world.now, f"{kind}/r"))
    assert world.round() == before


def test_a_push_that_the_table_does_not_know_is_a_bug() -> None:
    """It raises instead of doing something."""
    world = World()
    world.open(k=1)
    with pytest.raises(IllegalTransition, match=r"r: .* while open"):
        _move(world.round(), Push(Trigger.LISTED), Facts(), world.now)


def test_every_status_can_be_reached_and_left() -> None:
    """The table has no dead ends but the two final ones."""
    reached = {to for row in TRANSITIONS.values() for to in row.values()} | {RoundStatus.PREPARING}
    assert reached == set(RoundStatus) == set(TRANSITIONS)
    assert [each for each, row in TRANSITIONS.items() if not row] == ["completed", "failed"]
    used = {trigger for row in TRANSITIONS.values() for trigger in row}
    assert used == set(Trigger)


def test_the_same_start_again_changes_nothing_and_tells_the_outcome() -> None:
    """Running: a line in the log. Ended: the outcome once more (ROUND-003)."""
    world = World()
    world.open(k=1)
    made = world.order(k=1)
    assert world.notes(made) == ["round.start_repeated"]
    assert not [each for each in made if isinstance(each, Publish)]
    world.arrive("a")
    made = world.order(k=1)
    (told,) = published(made, "fl/rounds/r/complete")
    assert told.payload == world.told("fl/rounds/r/complete")[0]
    assert len(world.versions) == 2


def test_another_start_with_the_same_id_is_refused() -> None:
    """The first stands, for ever (ROUND-003)."""
    world = World(keep=Keep(rounds=1, spools=1))
    world.open(k=1)
    world.order(k=2)
    assert world.state().refusals == {"round_reused": 1}
    assert world.ledger().refusals == {"round_reused": 1}
    assert world.round().policy.k == 1
    world.arrive("a")
    world.order("s", k=1)
    world.arrive("a", "s")
    assert world.round("r") is None, "only one ended round is kept in full"
    world.order("r", k=2)
    assert world.ledger().refusals == {"round_reused": 2}
    assert world.notes(world.order("r", k=1)) == ["round.start_repeated"]
    world.arrive("b", "r")
    assert "late" in world.ledger().refusals
    made = world.task("b", TaskStatus.RUNNING, "r")
    assert len(published(made, "tasks/r:b/cancel")) == 1
    assert not published(world.task("b", TaskStatus.CANCELLED, "r"), "tasks/r:b/cancel")


def test_what_is_kept_is_bounded() -> None:
    """Old rounds leave the broker and the disk; their ids stay known (ROUND-034)."""
    world = World(keep=Keep(rounds=2, spools=1))
    world.open("r0", k=1)
    world.arrive("a", "r0")
    for number in range(1, 4):
        world.pass_time(1.0)
        world.order(f"r{number}", k=1)
        world.arrive("a", f"r{number}")
    assert set(world.rounds()) == {"r2", "r3"}
    assert set(world.states.all("past")) == {"r0", "r1"}
    assert world.told("fl/rounds/r0/complete")[-1] == b""
    assert world.told("fl/rounds/r0/state")[-1] == b""
    last = world.of(Tidy)[-1]
    assert last.rounds == ("r3",)
    assert world.versions[-1].digest in last.models
    assert not world.states.all("start")
    assert not world.states.all("tasks")


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


def test_starts_are_told_apart_by_their_bytes() -> None:
    """Spaces are bytes too."""
    world = World()
    world.open(k=1)
    assert world.round().start_sha256 == sha(world.states.get("start", "r").payload)


def test_all_rounds_that_run_hear_of_a_connection_but_only_waiting_ones_of_presences() -> None:
    """A presence matters to nobody who was invited before."""
    world = World()
    world.open("r", k=1)
    world.order("waits", ("a", "later"), 1)
    before = world.round("r")
    world.see("later")
    assert world.round("r") is before
    assert world.round("waits").status is RoundStatus.OPEN


def test_a_started_round_tells_how_far_it_is_when_started_again() -> None:
    """The line in the log names its state (ROUND-003)."""
    world = World()
    world.open(k=1)
    (said,) = [each for each in world.order(k=1) if isinstance(each, Note)]
    assert dict(said.fields)["became"] == "open"


def test_a_round_may_last_a_week_to_publish() -> None:
    """The outcome's duration is bounded, so that it can be told at all."""
    world = World(server_away=True)
    world.open(k=1)
    world.arrive("a")
    world.now += 700_000.0
    world.server_away = False
    world.serve(world.of(PublishModel)[0])
    assert world.outcome().duration_s == 604_800.0
