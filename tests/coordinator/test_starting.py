"""How rounds start, and which do not; on the coordinator's core."""

from typing import Any

import pytest
from roost.chassis.core import Started
from roost.chassis.effects import Note, Publish
from roost.coordinator.core.effects import (
    Tidy,
)
from roost.coordinator.core.events import (
    RoundUnreadable,
)
from roost.coordinator.core.facts import Keep
from roost.protocol.round.messages import RoundStatus
from roost.protocol.task.messages import TaskStatus
from roost.wire.refusal import MALFORMED

from .world import BASE, World, sha, version


def published(effects: list[Any], topic: str) -> list[Publish]:
    """Return what was published on a topic."""
    return [each for each in effects if isinstance(each, Publish) and each.topic == topic]


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


def test_ids_too_long_for_a_task_fail_at_once() -> None:
    """The manager could make no task id of them (ROUND-002)."""
    world = World()
    world.connect()
    long_id = ":".join(["r" * 60] * 3)
    world.order(long_id, who=("a" * 20,), k=1)
    outcome = world.outcome(long_id)
    assert (outcome.outcome, outcome.reason) == (RoundStatus.FAILED, "bad_policy")
    assert "203 letters, 200 are allowed" in (outcome.message or "")


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


def test_a_new_process_keeps_only_the_updates_it_knows() -> None:
    """Another may lie there, of a message that the last process had not taken in."""
    world = World()
    world.open(k=2)
    world.arrive("a")
    world.happen(Started(world.now))
    assert world.of(Tidy)[-1].spools == tuple(
        seat.accepted.spool for seat in world.seats().values() if seat.accepted
    )
    world.arrive("b")
    assert world.of(Tidy)[-1].spools is None, "only a kill leaves such files"


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


def test_a_model_that_is_not_listed_is_named_at_an_early_timeout() -> None:
    """Nobody is told to give it more time (ROUND-006)."""
    world = World()
    world.connect()
    world.see("a", "b", "c")
    world.index()
    world.order(timeout_s=5.0, model_uri="fl/models/global_model_v9")
    world.pass_time(5.0)
    outcome = world.outcome()
    assert outcome.reason == "unknown_model"
    assert "no index lists fl/models/global_model_v9; the latest are: fl/models/" in (
        outcome.message or ""
    )
    assert outcome.verdicts == dict.fromkeys("abc", "not_asked")


def test_an_early_timeout_says_what_a_start_waited_for() -> None:
    """The broker, the index, presences (ROUND-005)."""
    world = World()
    world.order("alone", timeout_s=3.0)
    world.pass_time(3.0)
    assert "within 3 s; there is no connection" in (world.outcome("alone").message or "")
    world.connect()
    world.see("b")
    world.order("early", ("a", "b"), timeout_s=1.0)
    world.pass_time(1.0)
    said = world.outcome("early")
    assert said.reason == "timed_out"
    assert "within 1 s; not seen yet: a; no index came that could list fl/" in (said.message or "")
    world.disconnect()
    world.connect()
    world.index()
    world.order("listed", ("a", "b"), timeout_s=1.0)
    world.pass_time(1.0)
    assert "within 1 s; not seen yet: a. Give" in (world.outcome("listed").message or "")


def test_what_a_round_has_not_is_left_out_of_the_log() -> None:
    """The wide line of a failed round has no model, metrics or failures."""
    world = World()
    world.open("r", ("a", "b"), k=3)
    (told,) = [each for each in world.of(Note) if each.event == "round.failed"]
    fields = dict(told.fields)
    assert {"model", "metrics", "refusals", "failed"}.isdisjoint(fields)
    assert (fields["updates"], fields["invited"], fields["base"]) == (0, 2, BASE)


def test_who_was_never_asked_is_not_called_missing() -> None:
    """A round that never opened blames the culprit alone (ROUND-032)."""
    world = World()
    world.open("r", ("a", "b"), k=3)
    assert world.outcome().verdicts == {"a": "not_asked", "b": "not_asked"}
    world.pass_time(2.0)
    world.order("s", ("a", "nobody"), k=1)
    assert world.outcome("s").verdicts == {"a": "not_asked", "nobody": "unknown_participant"}
