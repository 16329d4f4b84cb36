"""What silence means, and what proplets say that they hold."""

import pytest
from roost.manager.core.step import MAX_ATTEMPTS

from .world import World, starts, stops


def test_a_lease_ends_30_s_after_the_last_life_sign(world: World) -> None:
    """Then another proplet gets the next attempt (TASK-014)."""
    world.presence("a")
    world.launch("t")
    world.report("a", "t", 1, "running")
    world.wait(20)
    world.telemetry("a")
    world.presence("b")
    world.take()
    world.wait(29)
    world.telemetry("b")
    assert stops(world) == []
    world.wait(1)
    assert stops(world) == [("a", 1, "stale")]
    assert starts(world) == [("b", 2)]
    assert (world.state("t")["proplet"], world.state("t")["attempt"]) == ("b", 2)


def test_a_lost_task_waits_until_someone_can_take_it(world: World) -> None:
    """It may be the same proplet, with the next attempt (TASK-014)."""
    world.presence("a")
    world.launch("t")
    world.report("a", "t", 1, "running")
    world.wait(31)
    state = world.state("t")
    assert (state["state"], state["message"]) == ("queued", "proplet 'a' shows no life")
    world.take()
    world.telemetry("a")
    assert starts(world) == [("a", 2)]


def test_a_pinned_task_has_no_lease(world: World) -> None:
    """It waits until its deadline (TASK-015)."""
    world.presence("a")
    world.launch("t", proplet="a")
    world.report("a", "t", 1, "running")
    world.wait(200)
    assert world.state("t")["state"] == "running"


def test_nobodys_silence_counts_while_the_manager_is_cut_off(world: World) -> None:
    """Nobody could be heard (TASK-014)."""
    world.presence("a")
    world.launch("t")
    world.report("a", "t", 1, "running")
    world.presence("b")
    world.disconnect()
    world.wait(100)
    assert world.state("t")["state"] == "running"
    world.connect()
    world.telemetry("b")
    world.wait(29)
    assert world.state("t")["attempt"] == 1
    world.telemetry("b")
    world.wait(2)
    assert (world.state("t")["attempt"], world.state("t")["proplet"]) == (2, "b")


def test_a_restart_begins_leases_anew(world: World) -> None:
    """Silence counts from the connection, not from before the restart (TASK-014)."""
    world.presence("a")
    world.launch("t")
    world.report("a", "t", 1, "running")
    world.wait(29)
    world.restart()
    world.wait(20)
    world.connect()
    world.wait(20)
    world.telemetry("a")
    world.wait(29)
    assert world.state("t")["attempt"] == 1
    world.wait(2)
    assert world.state("t")["state"] == "queued"


def test_a_proplet_that_no_longer_holds_a_task_gets_it_again(world: World) -> None:
    """After 5 s of grace, as the next attempt (TASK-013)."""
    world.presence("p")
    world.launch("t", proplet="p")
    world.report("p", "t", 1, "running")
    world.take()
    world.presence("p", boot_id="b2")
    world.wait(4)
    assert starts(world) == []
    world.wait(1)
    assert stops(world) == [("p", 1, "stale")]
    assert starts(world) == [("p", 2)]


def test_a_proplet_that_does_hold_it_keeps_it(world: World) -> None:
    """It says so within 5 s (TASK-013)."""
    world.presence("p")
    world.launch("t", proplet="p")
    world.report("p", "t", 1, "accepted")
    world.presence("p", boot_id="b2")
    world.presence("p", boot_id="b2", running=[{"task_id": "t", "attempt": 1}])
    world.wait(60)
    assert world.state("t")["attempt"] == 1
    assert stops(world) == []


def test_a_task_that_is_lost_too_often_fails(world: World) -> None:
    """Five times (TASK-016)."""
    world.presence("p")
    world.launch("t", proplet="p", deadline_s=1000)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        world.report("p", "t", attempt, "accepted")
        world.presence("p")
        world.wait(5)
    state = world.state("t")
    assert (state["state"], state["reason"]) == ("failed", "lost")
    assert "no longer holds it; that was attempt 5 of 5" in state["message"]
    assert not world.timers.keys() - {"prune"}


@pytest.mark.parametrize(
    ("end", "reason"), [("cancel", "cancelled"), ("expire", "expired"), ("finish", None)]
)
def test_a_proplet_that_holds_what_has_ended_is_told_so(
    world: World, end: str, reason: str | None
) -> None:
    """A stop that was lost is given again; kept outputs are left alone."""
    world.presence("p")
    world.launch("t", proplet="p", deadline_s=10)
    world.report("p", "t", 1, "running")
    if end == "cancel":
        world.receive("tasks/t/cancel")
    elif end == "finish":
        world.report("p", "t", 1, "succeeded")
    world.wait(11)
    world.take()
    world.presence("p", running=[{"task_id": "t", "attempt": 1}])
    assert stops(world) == ([] if reason is None else [("p", 1, reason)])


def test_a_proplet_that_holds_what_is_not_its_is_told_so(world: World) -> None:
    """Attempts that do not count are stopped (TASK-011, TASK-020)."""
    world.presence("p")
    world.launch("t", proplet="p")
    running = [{"task_id": "t", "attempt": 2}, {"task_id": "unknown", "attempt": 3}]
    world.take()
    world.presence("q", running=running)
    world.presence("p", running=running)
    assert stops(world) == [
        ("q", 2, "stale"), ("q", 3, "stale"), ("p", 2, "stale"), ("p", 3, "stale"),
    ]  # fmt: skip


def test_a_retained_presence_tells_of_tasks_that_nobody_knows(world: World) -> None:
    """A manager that lost its state hears nothing else of them (TASK-084).

    Of the others it tells nothing: it may be old.
    """
    world.presence("p")
    world.launch("t", proplet="p")
    world.report("p", "t", 1, "running")
    world.take()
    running = [{"task_id": "t", "attempt": 9}, {"task_id": "unknown", "attempt": 3}]
    world.presence("p", running=running, retain=True)
    world.wait(10)
    assert stops(world) == [("p", 3, "stale")]
    assert world.state("t")["attempt"] == 1


def test_a_proplet_that_lost_a_task_holds_it_in_vain(world: World) -> None:
    """A task that waits again is nobody's (TASK-011)."""
    world.presence("a")
    world.launch("t")
    world.report("a", "t", 1, "running")
    world.wait(31)
    world.take()
    world.presence("a", "asleep", running=[{"task_id": "t", "attempt": 1}])
    assert stops(world) == [("a", 1, "stale")]


def test_a_proplet_that_holds_what_was_given_up_is_told_so(world: World) -> None:
    """Its stop may have been lost while it was away (TASK-020)."""
    world.presence("p")
    world.launch("t", proplet="p", deadline_s=1000)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        world.report("p", "t", attempt, "accepted")
        world.presence("p")
        world.wait(5)
    assert world.state("t")["reason"] == "lost"
    world.take()
    world.presence("p", running=[{"task_id": "t", "attempt": MAX_ATTEMPTS}])
    assert stops(world) == [("p", MAX_ATTEMPTS, "stale")]


def test_a_proplet_that_repeats_its_failure_is_not_stopped(world: World) -> None:
    """Its report is recorded; the answer is on its way."""
    world.presence("p")
    world.launch("t", proplet="p")
    world.report("p", "t", 1, "failed", reason="trap")
    world.take()
    world.presence("p", running=[{"task_id": "t", "attempt": 1}])
    assert stops(world) == []
