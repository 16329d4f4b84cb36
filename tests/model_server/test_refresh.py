"""What the model server tells a broker that forgot, that is older, or that does not take it."""

from typing import Any

import pytest
from roost.chassis.core import Connected, Decision, Disconnected, Started, TimerFired
from roost.chassis.effects import SetTimer
from roost.model_server.core.refresh import AGAIN_S, READ_BACK_S
from roost.model_server.core.state import (
    Clear,
    IndexKept,
    PublishIndex,
    Refuse,
    Release,
    Released,
    Spoiled,
    SubmissionUnreadable,
    Tidy,
    Unsent,
)
from roost.protocol.round.messages import ModelIndex
from roost.protocol.round.refusals import BAD_MODEL

from .room import A, B, Room


def kinds(effects: Any) -> list[str]:
    """Return the names of effects, in their order."""
    return [type(each).__name__ for each in effects]


def reconnect(room: Room, kept: str | None) -> list[Any]:
    """Lose the connection, and get one to a broker that kept this index."""
    room.happen(Disconnected(1.0))
    return room.connect(kept)


def cleared(effects: Any) -> list[str]:
    """Return the topics that are cleared."""
    return [each.topic for e in effects if isinstance(e, Clear) for each in e.versions]


def test_nothing_is_told_before_the_brokers_copies_are_known() -> None:
    """The index that it kept comes first, and then everything in order (MODEL-036)."""
    room = Room(connected=False)
    room.happen(Started(1.0))
    room.hold = True
    before = room.happen(Connected(1.0, 1)).effects
    assert before == (SetTimer("read-back", 1.0 + READ_BACK_S),)
    assert kinds(room.submit(0).effects) == []
    assert kinds(room.happen(SubmissionUnreadable(1.0, BAD_MODEL, "x")).effects) == ["Note"]
    refresh, release = room.connect()
    assert (refresh.versions, refresh.blobs) == ((), True)
    assert ModelIndex.decode(refresh.text.encode()).refusals
    assert release.version.version == 0


def test_the_present_index_means_that_blobs_are_there() -> None:
    """Small topics are told in any case (MODEL-036)."""
    room = Room()
    room.fill(2)
    (refresh,) = reconnect(room, room.text)
    assert ([each.version for each in refresh.versions], refresh.blobs) == ([0, 1], False)
    assert room.happen(TimerFired(9.0, "read-back")) == Decision(), "it was answered"


@pytest.mark.parametrize("kept", [None, "{", ModelIndex().encode().decode()])
def test_another_index_means_that_the_broker_forgot(kept: str | None) -> None:
    """None, no index at all, or an older one: blobs are published as well (MODEL-036)."""
    room = Room()
    room.fill(2)
    (refresh,) = reconnect(room, kept)
    assert refresh.blobs
    assert room.numbers() == [0, 1]


def test_an_index_that_comes_late_is_still_looked_at() -> None:
    """Everything was told meanwhile; what it lists too many goes (MODEL-050)."""
    room = Room(keep=1)
    room.fill(2)
    old = room.text
    room.submit(2, B, "r2")
    reconnect(room, None)
    effects = room.happen(IndexKept(3.0, old)).effects
    assert kinds(effects) == ["Clear"]
    assert cleared(effects) == ["fl/models/global_model_v1"]
    assert room.happen(IndexKept(3.0, room.text)).effects == ()


def test_a_broker_that_forgot_is_owed_its_blobs_until_it_has_them() -> None:
    """Also after the next connect, and after a restart (MODEL-036).

    The index may have reached it although the blobs before it did not.
    """
    room = Room()
    room.fill(1)
    room.hold = True
    reconnect(room, None)
    room.held.clear()
    room.restart()
    (refresh,) = reconnect(room, room.text)
    assert refresh.blobs
    room.hold = False
    room.release()
    (refresh,) = reconnect(room, room.text)
    assert not refresh.blobs


def test_what_an_older_broker_still_has_is_cleared() -> None:
    """A broker that came back from a snapshot holds versions evicted since (MODEL-050)."""
    room = Room(keep=1)
    room.fill(3)
    old = room.text
    room.submit(3, A, "r3")
    room.submit(4, B, "r4")
    assert room.numbers() == [0, 4]
    effects = reconnect(room, old)
    assert kinds(effects) == ["Refresh", "Clear"], "the index no longer lists them by then"
    assert cleared(effects) == ["fl/models/global_model_v2"]
    assert room.states.all("clearing") == {}


def test_what_could_not_be_cleared_is_remembered() -> None:
    """However long the broker is away, and over a restart (MODEL-052)."""
    room = Room(keep=1)
    room.fill(2)
    room.hold = True
    room.submit(2, B, "r2")
    room.held.clear()
    assert room.happen(Released(2.0, "global_model", 2)).effects[1] == Clear(
        tuple(room.states.all("clearing").values())
    )
    room.held.clear()
    room.restart()
    effects = reconnect(room, room.text)
    assert cleared(effects) == ["fl/models/global_model_v1"]
    room.hold = False
    room.release()
    assert room.states.all("clearing") == {}
    assert kinds(reconnect(room, room.text)) == ["Refresh"]


def test_evictions_without_a_broker_wait_for_it() -> None:
    """They come after the index that does not list them (MODEL-033)."""
    room = Room(keep=1)
    room.fill(2)
    room.hold = True
    room.submit(2, B, "r2")
    room.happen(Disconnected(1.0))
    assert kinds(room.happen(Released(2.0, "global_model", 2)).effects) == ["Note"]
    assert kinds(room.connect(room.text)) == ["Refresh", "Clear"]
    assert room.numbers() == [0, 2]


@pytest.mark.parametrize("change", ["a later version", "other tensors", "another model"])
def test_an_index_of_another_folder_ends_the_process(change: str) -> None:
    """Nothing of the broker's is overwritten, and nothing is told (MODEL-051)."""
    theirs = Room()
    theirs.fill(3)
    room = Room()
    room.fill(2)
    if change == "other tensors":
        theirs, room = room, Room()
        room.submit(0, f"{7:064x}", "r0")
        room.submit(1, f"{1:064x}", "r1")
    elif change == "another model":
        theirs = Room()
        theirs.fill(1, "other")
    (refuse,) = reconnect(room, theirs.text)
    assert isinstance(refuse, Refuse)
    assert "this state folder does not know" in refuse.why
    assert room.happen(TimerFired(9.0, "read-back")) == Decision()
    assert kinds(room.submit(2, A, "r9").effects) == []


def test_an_empty_folder_does_not_take_a_brokers_models_over() -> None:
    """Version 0 would be overwritten by another one (MODEL-051)."""
    theirs = Room()
    theirs.fill(1)
    room = Room(connected=False)
    room.happen(Connected(1.0, 1))
    assert kinds(room.submit(0, B, "mine").effects) == []
    effects = room.happen(IndexKept(1.5, theirs.text)).effects
    assert "Refuse" in kinds(effects)
    assert "Release" not in kinds(effects)


def test_what_the_broker_did_not_take_is_told_again() -> None:
    """All of it, after a while (MODEL-052)."""
    room = Room()
    room.fill(1)
    room.hold = True
    room.submit(1, B, "r1")
    timer, said = room.happen(Unsent(5.0, "not authorized")).effects
    assert timer == SetTimer("again", 5.0 + AGAIN_S)
    assert (said.level, dict(said.fields)["why"]) == ("error", "not authorized")
    effects = room.happen(TimerFired(5.0 + AGAIN_S, "again")).effects
    assert kinds(effects)[2:] == ["Refresh", "Release"]
    room.happen(Disconnected(6.0))
    assert room.happen(TimerFired(7.0, "again")) == Decision(), "the next connect does it"


def test_a_version_that_was_lost_before_it_was_told_may_be_sent_again() -> None:
    """Its number is free; whoever sent it repeats it until the index lists it (MODEL-053)."""
    room = Room()
    room.hold = True
    room.submit(0, A, "r")
    assert kinds(room.submit(0, A, "r").effects) == ["DropIncoming", "Note"]
    (said,) = room.happen(Spoiled(2.0, "global_model", 0, "it is missing")).effects
    assert (said.event, said.level) == ("model.damaged", "error")
    room.held.clear()
    room.hold = False
    room.submit(0, A, "r")
    assert room.numbers() == [0]
    room.happen(Spoiled(2.0, "global_model", 0, "it is damaged"))
    assert room.numbers() == [0], "what was listed stays so"
    assert room.happen(Spoiled(2.0, "global_model", 9, "x")) == Decision()


def test_a_start_deletes_what_an_earlier_process_left() -> None:
    """But not what is on its way."""
    room = Room()
    room.fill(2)
    room.hold = True
    room.submit(2, A, "on-its-way")
    assert room.happen(Started(3.0)).effects == (Tidy(("file3",), 3.0),)
    (release,) = [each for each in reconnect(room, room.text) if isinstance(each, Release)]
    assert release.version.version == 2
    assert room.numbers() == [0, 1]


def test_news_are_told_by_themselves_once_everything_was_told() -> None:
    """A refusal, a repetition (MODEL-034)."""
    room = Room()
    room.fill(1)
    for news in (
        room.happen(SubmissionUnreadable(1.0, BAD_MODEL, "x")),
        room.submit(0, f"{0:064x}", "r0"),
    ):
        assert [each for each in news.effects if isinstance(each, PublishIndex)]
