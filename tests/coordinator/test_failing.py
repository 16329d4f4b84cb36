"""Tasks that fail, time that runs out, and what is asked for again; on the core."""

from typing import Any

import pytest
from roost.chassis.core import TimerFired
from roost.chassis.effects import Publish
from roost.coordinator.core.case import Case
from roost.coordinator.core.draft import Draft
from roost.coordinator.core.effects import (
    FetchModel,
)
from roost.coordinator.core.errors import IllegalTransition
from roost.coordinator.core.events import (
    Averaged,
    AverageFailed,
    BaseRead,
    BaseUnavailable,
    PropletSeen,
)
from roost.coordinator.core.guards import TRANSITIONS, Push, Trigger
from roost.coordinator.core.round import move
from roost.protocol.round.messages import RoundStatus
from roost.protocol.round.refusals import (
    AVERAGE_FAILED,
)
from roost.protocol.task.messages import TaskStatus

from .world import World

START = "fl/rounds/start"


def published(effects: list[Any], topic: str) -> list[Publish]:
    """Return what was published on a topic."""
    return [each for each in effects if isinstance(each, Publish) and each.topic == topic]


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
    assert outcome.verdicts == {
        "a": "trap",
        "b": "expired",
        "c": "missing: no task of it is known, does the manager run?",
    }


def test_a_failure_says_in_words_what_was_wrong() -> None:
    """On the state, in the message, and in the verdict (ROUND-016, ROUND-030, ROUND-032)."""
    world = World()
    world.open(who=("a", "b", "c", "d", "e"), k=5)
    said = 'error: HYPERPARAMS: unknown key "epoch".'
    world.task("a", TaskStatus.FAILED, reason="exit_code", detail=said)
    assert world.state().failed == {"a": f"exit_code: {said}"}
    for each in "bcd":
        world.task(each, TaskStatus.EXPIRED)
    world.pass_time(2.0)
    outcome = world.outcome()
    assert outcome.verdicts["a"] == f"exit_code: {said}"
    assert outcome.message == (
        "0 of 5 updates, too few participants are left to send one: "
        f"a: exit_code: {said}; b, c, d: expired. "
        "See the verdicts, then start a new round."
    )


def test_a_message_tells_the_first_three_of_many_things_that_went_wrong() -> None:
    """And of how many more participants something is known (ROUND-016)."""
    world = World()
    world.open(who=("a", "b", "c", "d", "e"), k=5)
    for who, reason in zip("abcde", ("trap", "exit_code", "trap", "lost", "internal"), strict=True):
        world.task(who, TaskStatus.FAILED, reason=reason)
    world.pass_time(2.0)
    told = "to send one: a, c: trap; b: exit_code; d: lost; and 1 more. "
    assert told in (world.outcome().message or "")


def test_of_many_failures_the_later_ones_are_counted_and_told_by_name() -> None:
    """State and outcome must not grow without bounds (ROUND-030, ROUND-032)."""
    world = World()
    names = [f"p{number}" for number in range(60)]
    world.open(who=names, k=1)
    for each in names[:52]:
        world.task(each, TaskStatus.FAILED, reason="trap", detail="why")
    world.pass_time(0.2)
    assert world.state().failures == 52
    assert world.state().failed == dict.fromkeys(names[:50], "trap: why")
    world.arrive("p59")
    verdicts = world.outcome().verdicts
    assert [verdicts[each] for each in names[49:53]] == ["trap: why", "trap", "trap", "missing"]


def test_the_first_reason_of_a_failure_stands() -> None:
    """A state that comes again, or from elsewhere, counts no one twice (ROUND-016)."""
    world = World()
    world.open(k=2)
    world.task("a", TaskStatus.FAILED, reason="trap")
    world.task("a", TaskStatus.FAILED, reason="trap")
    world.task("a", TaskStatus.RUNNING, start="of another start")
    assert (world.state().failed, world.state().failures) == ({"a": "trap"}, 1)


def test_successes_that_keep_coming_do_not_put_off_the_asking() -> None:
    """The first success is looked after 2 s later, those just heard of not yet (ROUND-018)."""
    world = World()
    names = [f"p{number}" for number in range(30)]
    world.open(who=names, k=30)
    world.pass_time(0.5)
    made = []
    for each in names:
        world.task(each, TaskStatus.SUCCEEDED)
        made += world.pass_time(0.1)
    asked = [each.topic for each in made if isinstance(each, Publish) and "/resend" in each.topic]
    assert asked == [f"tasks/r:p{number}/resend" for number in range(len(asked))]
    assert 0 < len(asked) < 20
    made = world.pass_time(4.0)
    assert len(published(made, "tasks/r:p29/resend")) == 1


def test_a_timeout_says_where_each_task_stands() -> None:
    """In the message and the verdicts (ROUND-017, ROUND-032)."""
    world = World()
    world.open(who=("a", "b", "c"), k=2, timeout_s=10.0)
    world.task("a", TaskStatus.DISPATCHED)
    world.task("b", TaskStatus.SUCCEEDED)
    world.task("c", TaskStatus.FAILED, reason="lost")
    world.pass_time(10.0)
    outcome = world.outcome()
    assert outcome.reason == "timed_out"
    assert outcome.verdicts == {
        "a": "missing: its task is dispatched",
        "b": "missing: its task succeeded, but no update came",
        "c": "lost",
    }
    assert (outcome.message or "").startswith(
        "0 of 2 updates within 10 s; c: lost; a: missing: its task is dispatched; b: missing: "
    )


def test_who_is_offline_is_told_while_it_is_and_at_the_end() -> None:
    """As long as its update is waited for; it is no failure (ROUND-016, ROUND-030, ROUND-032)."""
    world = World()
    world.open(who=("a", "b", "c", "d"), k=4, timeout_s=10.0)
    for who in "ab":
        world.task(who, TaskStatus.RUNNING)
    world.arrive("d")
    assert world.state().offline == ()
    for who in "abcd":
        world.happen(PropletSeen(world.now, who, offline=True))
    assert world.state().offline == ("a", "b", "c")
    world.happen(PropletSeen(world.now, "a"))
    assert world.state().offline == ("b", "c")
    assert world.happen(PropletSeen(world.now, "a")) == [], "that is no news"
    world.pass_time(10.0)
    assert world.state().offline == ("b", "c")
    assert world.outcome().verdicts == {
        "a": "missing: its task is running",
        "b": "missing: it is offline, its task is running",
        "c": "missing: it is offline, no task of it is known, does the manager run?",
        "d": "accepted",
    }
    assert world.happen(PropletSeen(world.now, "b")) == [], "nobody waits for it any more"


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
        move(Case(Draft(world.states), world.round(), world.now), Push(Trigger.LISTED))


def test_every_status_can_be_reached_and_left() -> None:
    """The table has no dead ends but the two final ones."""
    reached = {to for row in TRANSITIONS.values() for to in row.values()} | {RoundStatus.PREPARING}
    assert reached == set(RoundStatus) == set(TRANSITIONS)
    assert [each for each, row in TRANSITIONS.items() if not row] == ["completed", "failed"]
    used = {trigger for row in TRANSITIONS.values() for trigger in row}
    assert used == set(Trigger)
