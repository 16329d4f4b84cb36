"""Which publish requests the model server's core accepts, and what it keeps."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roost.chassis.effects import Note
from roost.model_server.core.shelf import BASE_KEPT_S, REFUSALS_KEPT
from roost.model_server.core.state import (
    Clear,
    DropIncoming,
    FetchSubmission,
    PublishIndex,
    Release,
    Released,
    RoundTold,
    SubmissionOffered,
    SubmissionUnreadable,
)
from roost.protocol.round.label import ModelLabel
from roost.protocol.round.refusals import BAD_MODEL
from roost.wire.blob import Manifest

from .room import A, B, Room


def test_a_version_is_released_before_the_index_lists_it() -> None:
    """On disk, on its topic, then in the index (MODEL-033)."""
    room = Room()
    room.hold = True
    decision = room.submit(0, publish_id=None, metrics={"acc": 0.5}, architecture="mlp")
    (release,) = decision.effects
    assert isinstance(release, Release)
    assert (release.version.file, release.version.topic) == ("file1", "fl/models/global_model_v0")
    assert not [each for each in room.effects if isinstance(each, PublishIndex)]
    room.release()
    entry = room.index.models["global_model"].versions[0]
    assert (entry.digest, entry.publish_id, entry.parent) == (A, "initial", None)
    assert (entry.metrics, entry.architecture, entry.form) == ({"acc": 0.5}, "mlp", "json")
    assert room.index.models["global_model"].latest == 0
    before = len(room.effects)
    room.happen(Released(3.0, "global_model", 0))
    room.happen(Released(3.0, "global_model", 7))
    assert len(room.effects) == before


def test_the_next_version_is_accepted() -> None:
    """Names have lines of their own (MODEL-030)."""
    room = Room()
    room.fill(3)
    room.fill(2, "other")
    assert room.numbers() == [0, 1, 2]
    assert room.numbers("other") == [0, 1]
    assert room.refused() == []


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"version": 1, "publish_id": "x"}, "version_taken"),
        ({"version": 0, "publish_id": None, "digest": B}, "version_taken"),
        ({"version": 3, "publish_id": "r1", "digest": B}, "version_taken"),
        ({"version": 4, "publish_id": "x"}, "version_gap"),
        ({"version": 3, "publish_id": None}, "bad_model"),
        ({"version": 3, "publish_id": "x", "parent": None}, "wrong_parent"),
        ({"version": 3, "publish_id": "x", "parent": 3}, "wrong_parent"),
        ({"version": 3, "publish_id": "x", "says": B}, "wrong_digest"),
        ({"version": 1, "publish_id": "x", "name": "new"}, "version_gap"),
    ],
)
def test_a_wrong_request_is_refused(request_: dict[str, Any], reason: str) -> None:
    """It is named in the index, its file goes, and nothing else changes (MODEL-030, MODEL-032)."""
    room = Room()
    room.fill(3)
    before = room.index.models
    decision = room.submit(**request_)
    assert room.refused() == [reason]
    assert room.index.models == before
    assert [each for each in decision.effects if isinstance(each, DropIncoming)]
    assert not [each for each in decision.effects if isinstance(each, Release)]
    refusal = room.index.refusals[0]
    assert refusal.version == request_["version"]
    notes = [each.reason for each in decision.effects if isinstance(each, Note)]
    assert notes == [reason]


def test_the_same_again_makes_no_other_version() -> None:
    """Whatever number it names; the index is told again (MODEL-031)."""
    room = Room()
    room.fill(2)
    for number in (1, 2, 9):
        decision = room.submit(number, f"{1:064x}", "r1")
        assert [type(each) for each in decision.effects] == [DropIncoming, Note, PublishIndex]
    assert room.numbers() == [0, 1]
    assert room.refused() == []


def test_the_same_again_while_it_is_on_its_way_waits_for_its_index() -> None:
    """No index must list what is not released; no number is given twice."""
    room = Room()
    room.hold = True
    room.submit(0, A, "r")
    decision = room.submit(0, A, "r")
    assert [type(each) for each in decision.effects] == [DropIncoming, Note]
    room.submit(1, B, "s")
    assert [each.version.version for each in room.held] == [0, 1]
    room.release()
    assert room.numbers() == [0, 1]


def test_old_versions_go_but_not_the_first_nor_open_rounds_bases() -> None:
    """The index stops listing them before they are cleared (MODEL-033, MODEL-035)."""
    room = Room(keep=2)
    room.fill(2)
    room.happen(RoundTold(1.0, "open", "fl/models/global_model_v1"))
    for number in (2, 3, 4):
        room.submit(number, f"{number:064x}", f"r{number}")
    assert room.numbers() == [0, 1, 3, 4]
    kinds = [type(each) for each in room.effects]
    assert kinds.index(Clear) > kinds.index(PublishIndex)
    room.happen(RoundTold(1.0, "open", None))
    room.submit(5, f"{5:064x}", "r5")
    assert room.numbers() == [0, 4, 5]
    cleared = [each.version for e in room.effects if isinstance(e, Clear) for each in e.versions]
    assert cleared == [2, 1, 3]
    room.fill(1, "other")
    assert room.numbers() == [0, 4, 5], "other models' versions do not count"


def test_a_version_that_was_dropped_still_is_a_parent() -> None:
    """A round whose base went just before its start was heard would be sent for ever (MODEL-032).

    Regression: found by the simulation.
    """
    room = Room(keep=1)
    room.fill(3)
    assert room.numbers() == [0, 2]
    room.submit(3, A, "late", parent=1)
    assert room.numbers() == [0, 3]
    assert room.refused() == []


def test_a_version_stays_until_its_round_has_seen_it() -> None:
    """Else the round would send it again, and two versions be made of it (MODEL-035).

    Regression: found by the simulation.
    """
    room = Room(keep=1)
    room.fill(1)
    room.happen(RoundTold(1.0, "r1", "fl/models/global_model_v0"))
    room.submit(1, A, "r1")
    room.submit(2, B, "r2")
    assert room.numbers() == [0, 1, 2]
    room.happen(RoundTold(2.0, "r1", None))
    room.submit(3, A, "r3")
    assert room.numbers() == [0, 3]


def test_an_open_rounds_base_outlives_a_restart() -> None:
    """The broker may have forgotten the round, and the next version comes first (MODEL-035).

    Regression: bases were kept in memory, so a version could be evicted before they were heard.
    """
    room = Room(keep=1)
    room.fill(2)
    room.happen(RoundTold(1.0, "open", "fl/models/global_model_v1"))
    room.restart()
    room.connect()
    room.submit(2, B, "r2")
    assert room.numbers() == [0, 1, 2]
    assert room.happen(RoundTold(1.0, "open", "fl/models/global_model_v1")).puts == {}
    room.happen(RoundTold(1.0 + BASE_KEPT_S + 1, "other", None))
    room.submit(3, A, "r3")
    assert room.numbers() == [0, 3], "no round is open for so long"


def test_only_the_last_refusals_are_told() -> None:
    """Twenty (MODEL-034)."""
    room = Room()
    for number in range(25):
        room.happen(SubmissionUnreadable(1.0, BAD_MODEL, f"number {number}"))
    assert len(room.index.refusals) == REFUSALS_KEPT
    assert "number 24" in room.index.refusals[-1].reason
    assert room.index.refusals[-1].publish_id is None
    label = ModelLabel(name="m", version=3, publish_id="r")
    room.happen(SubmissionUnreadable(1.0, BAD_MODEL, "x", label))
    last = room.index.refusals[-1]
    assert (last.name, last.version, last.publish_id) == ("m", 3, "r")


def test_a_manifest_is_fetched() -> None:
    """And judged when it is there."""
    manifest = Manifest(owner="a", sha256=A, size=3)
    decision = Room().happen(SubmissionOffered(1.0, manifest))
    assert decision.effects == (FetchSubmission(manifest),)


def test_a_blob_is_fetched_once() -> None:
    """A sender that repeats itself may clear the blob before a second fetch would begin.

    Regression: the second fetch waited 10 s for cleared chunks and held the next model up.
    """
    room = Room()
    manifest = Manifest(owner="a", sha256="cc" * 32, size=100)
    assert room.happen(SubmissionOffered(1.0, manifest)).effects == (FetchSubmission(manifest),)
    while_fetching = room.happen(SubmissionOffered(2.0, manifest)).effects
    assert [type(each) for each in while_fetching] == [Note]
    room.hold = True
    room.submit(0)
    before_release = room.happen(SubmissionOffered(3.0, manifest)).effects
    assert [type(each) for each in before_release] == [Note]
    room.release()
    after_release = room.happen(SubmissionOffered(4.0, manifest)).effects
    assert [type(each) for each in after_release] == [Note, PublishIndex]


def test_a_blob_that_could_not_be_fetched_may_be_offered_again() -> None:
    """Its owner publishes the chunks and says so once more."""
    room = Room()
    manifest = Manifest(owner="a", sha256=A, size=100)
    room.happen(SubmissionOffered(1.0, manifest))
    room.happen(SubmissionUnreadable(2.0, BAD_MODEL, "x", sha256=A))
    assert room.happen(SubmissionOffered(3.0, manifest)).effects == (FetchSubmission(manifest),)


REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from([A, B]),
        st.sampled_from(["r", "s", "t", None]),
        st.sampled_from([None, 0, 1, 2]),
        st.booleans(),
    ),
    max_size=25,
)


@given(REQUESTS, st.integers(1, 3))
@settings(deadline=None)
def test_nothing_is_ever_overwritten(requests: list[Any], keep: int) -> None:
    """In every history: one publish_id one version, numbers grow by one, all listed is released."""
    room = Room(keep)
    room.submit(0, A, "first")
    made: dict[int, tuple[str, str]] = {0: (A, "first")}
    for number, digest, publish_id, parent, hold in requests:
        room.hold = hold
        room.submit(number, digest, publish_id, parent=parent)
        if not hold:
            room.release()
        for each in room.states.all("version").values():
            content = (each.digest, each.publish_id)
            assert made.setdefault(each.version, content) == content
        latest = room.index.models["global_model"].latest
        assert set(made) == set(range(len(made)))
        assert latest in room.numbers()
        assert 0 in room.numbers()
    ids = [publish_id for _, publish_id in made.values()]
    assert len(ids) == len(set(ids))
    room.release()
    assert all(each.released for each in room.states.all("version").values())
