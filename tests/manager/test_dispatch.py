"""Where tasks go, and what life signs and silence mean."""

import json

import pytest
from roost.manager.core.step import MAX_ATTEMPTS

from .world import EACH_BINDING, IMAGE, World, make_world


def starts(world: World) -> list[tuple[str, int]]:
    """Take the start orders: proplet and attempt."""
    return [(topic.split("/")[1], body["attempt"]) for topic, body in world.bodies("/start")]


def stops(world: World) -> list[tuple[str, int, str]]:
    """Take the stop orders: proplet, attempt, reason."""
    return [
        (topic.split("/")[1], body["attempt"], body["reason"])
        for topic, body in world.bodies("/stop")
    ]


def test_a_pinned_task_goes_to_its_proplet_at_once(world: World) -> None:
    """Its start says what to run and how long (TASK-001, TASK-012)."""
    world.presence("p")
    world.launch("t", proplet="p", deadline_s=100, env={"A": "b"})
    (order,) = world.take("/start")
    assert order.topic == "proplets/p/tasks/t/start"
    assert (order.retain, order.expiry_s) == (False, 60)
    body = json.loads(order.payload)
    assert (body["attempt"], body["remaining_s"]) == (1, 100)
    assert (body["task"]["image"], body["task"]["env"]) == (IMAGE, {"A": "b"})
    assert world.state("t")["state"] == "dispatched"


def test_a_pinned_task_waits_for_its_proplet(world: World) -> None:
    """Being away is no failure; its time runs from the launch (TASK-002, TASK-015)."""
    world.presence("other")
    world.launch("t", proplet="p", deadline_s=100)
    state = world.state("t")
    assert (state["state"], state["proplet"]) == ("queued", "p")
    assert state["message"] == "proplet 'p' was never seen; known: other"
    assert starts(world) == []
    world.wait(40)
    world.presence("p")
    (order,) = world.take("/start")
    assert json.loads(order.payload)["remaining_s"] == 60
    assert world.state("t")["durations"]["queued_s"] == 40


def test_a_deadline_may_come_before_anything_else(world: World) -> None:
    """A deadline shorter than the first repetition has its timer too (TASK-017)."""
    world.presence("p")
    world.launch("t", proplet="p", deadline_s=1)
    world.report("p", "t", 1, "running")
    world.wait(1)
    assert world.state("t")["state"] == "expired"
    assert stops(world) == [("p", 1, "expired")]


def test_a_pinned_task_expires_without_its_proplet(world: World) -> None:
    """At its deadline, with a message that names it (TASK-015, TASK-017)."""
    world.launch("t", proplet="p", deadline_s=100)
    world.wait(99)
    assert world.state("t")["state"] == "queued"
    world.wait(1)
    state = world.state("t")
    assert (state["state"], state["reason"]) == ("expired", "expired")
    assert "proplet 'p' was never seen; known: none" in state["message"]
    assert stops(world) == []
    assert not world.timers.keys() - {"prune"}


def test_a_retained_presence_is_reason_enough_to_try(world: World) -> None:
    """For a pinned task, not for one that looks for a proplet (TASK-025)."""
    world.presence("p", retain=True)
    world.launch("t", proplet="p")
    world.launch("s")
    assert starts(world) == [("p", 1)]
    assert world.state("s")["message"] == "no proplet is online"


@pytest.mark.parametrize("status", ["offline", "asleep"])
def test_a_proplet_that_says_it_is_away_is_not_tried(world: World, status: str) -> None:
    """Retained or not, offline and asleep mean not now (TASK-025)."""
    for retain in (True, False):
        world.presence("p", status, retain=retain)
        world.launch(f"t{retain}", proplet="p")
        assert starts(world) == []
        assert world.state(f"t{retain}")["message"] == "proplet 'p' is not online"


def test_a_retained_presence_does_not_undo_what_was_heard(world: World) -> None:
    """The broker's copy may be older than what came by itself (TASK-025)."""
    world.presence("p")
    world.presence("p", "offline", retain=True)
    world.launch("t", proplet="p")
    assert starts(world) == [("p", 1)]


def test_last_will(world: World) -> None:
    """Offline at once, whatever was heard before, and no failure of anything."""
    world.presence("p")
    world.launch("t", proplet="p")
    world.presence("p", "offline")
    world.launch("u", proplet="p")
    assert starts(world) == [("p", 1)]
    assert world.state("t")["state"] == "dispatched"
    world.presence("p")
    assert starts(world) == [("p", 1), ("p", 1)]


def test_silence_for_30_s_is_offline(world: World) -> None:
    """Exactly 30 s of it (TASK-025)."""
    world.presence("p")
    world.wait(29.5)
    world.launch("t", proplet="p")
    world.wait(0.5)
    world.launch("u", proplet="p")
    assert [m.topic for m in world.take("/start")] == ["proplets/p/tasks/t/start"]


def test_telemetry_is_a_life_sign(world: World) -> None:
    """As good as a presence (TASK-025)."""
    world.presence("p")
    world.wait(29)
    world.telemetry("p")
    world.wait(29)
    world.launch("t", proplet="p")
    assert starts(world) == [("p", 1)]


def test_a_report_is_a_life_sign(world: World) -> None:
    """As good as a presence (TASK-025)."""
    world.report("p", "unknown", 1, "running")
    world.launch("t", proplet="p")
    assert starts(world) == [("p", 1)]


def test_a_report_is_not_taken_for_the_attempt_that_it_causes(world: World) -> None:
    """The proplet's life sign gives it the task that waits; its report was of something else."""
    world.launch("t", proplet="p")
    world.report("p", "t", 1, "succeeded")
    assert stops(world) == [("p", 1, "stale")]
    assert starts(world) == [("p", 1)]
    assert world.state("t")["state"] == "dispatched"


def test_retained_telemetry_is_none(world: World) -> None:
    """It may be old (TASK-025)."""
    world.telemetry("p", retain=True)
    world.launch("t", proplet="p")
    assert starts(world) == []


def test_start_is_sent_again_until_accepted(world: World) -> None:
    """After 2, 4, 8 s and so on (TASK-012)."""
    world.presence("p")
    world.launch("t", proplet="p")
    assert starts(world) == [("p", 1)]
    for pause in (2, 4, 8):
        world.telemetry("p")
        world.wait(pause - 0.1)
        assert starts(world) == []
        world.wait(0.1)
        assert starts(world) == [("p", 1)]
    world.report("p", "t", 1, "accepted")
    world.wait(120)
    assert starts(world) == []


def test_start_is_sent_again_when_the_proplet_starts_again(world: World) -> None:
    """At once, by its boot id (TASK-027)."""
    world.presence("p")
    world.launch("t", proplet="p")
    world.report("p", "u", 1, "running")
    assert len(starts(world)) == 1
    world.presence("p", boot_id="b2")
    assert starts(world) == [("p", 1)]


def test_a_selector_task_goes_where_the_labels_are(world: World) -> None:
    """All labels must be there (TASK-001)."""
    world.presence("a", labels={"zone": "attic"})
    world.presence("b", labels={"zone": "cellar", "gpu": "no"})
    world.telemetry("without-presence")
    world.launch("t", selector={"zone": "cellar"})
    world.launch("u", selector={"zone": "roof"})
    assert [m.topic for m in world.take("/start")] == ["proplets/b/tasks/t/start"]
    assert world.state("u")["message"] == "no proplet is online with zone=roof"
    world.presence("c", labels={"zone": "roof"})
    assert [m.topic for m in world.take("/start")] == ["proplets/c/tasks/u/start"]


def test_selector_tasks_are_spread(world: World) -> None:
    """To the proplet with the fewest tasks (TASK-001)."""
    for proplet in ("c", "a", "b"):
        world.presence(proplet)
    world.launch("pinned", proplet="a")
    for i in range(5):
        world.launch(f"t{i}")
    assert starts(world) == [("a", 1), ("b", 1), ("c", 1), ("a", 1), ("b", 1), ("c", 1)]
    world.report("c", "t1", 1, "succeeded")
    world.launch("t9")
    assert starts(world) == [("c", 1)]


def test_one_message_spreads_its_tasks_too() -> None:
    """The load counts the tasks of the same message (TASK-001)."""
    world = make_world(EACH_BINDING.replace('proplet = "{each}"\n', ""))
    world.presence("a")
    world.presence("b")
    devices = [f"d{i}" for i in range(4)]
    world.receive("jobs/start", {"id": "j", "image": IMAGE, "devices": devices, "options": ""})
    assert starts(world) == [("a", 1), ("b", 1), ("a", 1), ("b", 1)]


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


def test_a_proplet_that_lost_a_task_holds_it_in_vain(world: World) -> None:
    """A task that waits again is nobody's (TASK-011)."""
    world.presence("a")
    world.launch("t")
    world.report("a", "t", 1, "running")
    world.wait(31)
    world.take()
    world.presence("a", "asleep", running=[{"task_id": "t", "attempt": 1}])
    assert stops(world) == [("a", 1, "stale")]
