"""Which updates count; on the coordinator's core."""

from dataclasses import replace
from typing import Any

import pytest
from roost.chassis.effects import Note
from roost.coordinator.core.effects import (
    DropSpools,
    FetchUpdate,
    PublishModel,
)
from roost.coordinator.core.events import (
    UpdateOffered,
    UpdateUnreadable,
)
from roost.protocol.round.messages import RoundStatus
from roost.protocol.round.refusals import (
    BAD_UPDATE,
    BLOB_UNAVAILABLE,
    NOT_FINITE,
)
from roost.wire.blob import Manifest

from .world import World, version

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


def test_every_update_is_logged_and_counted_when_it_is_judged() -> None:
    """Whoever watches the log sees who counted and who did not, and why (WIRE-022)."""
    world = World()
    world.open(k=2)
    said = [
        [(each.event, each.reason) for each in made if isinstance(each, Note)]
        for made in (world.arrive("a"), world.arrive("a"), world.arrive("b", shapes="x"))
    ]
    assert said == [
        [("update.accepted", None)],
        [("update.refused", "duplicate")],
        [("update.refused", "wrong_shape")],
    ]


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
    world.order(k=1)
    assert world.told("fl/rounds/r/complete") == told * 2, "told again, it is the same"


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
