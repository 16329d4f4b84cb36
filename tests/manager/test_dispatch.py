"""Where tasks go, and what life signs and silence mean."""

import json

import pytest

from .world import EACH_BINDING, IMAGE, World, make_world, starts, stops


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


def test_a_last_will_takes_no_task_away(world: World) -> None:
    """It lists none, because it was written before there was any (TASK-013, TASK-015)."""
    world.presence("p")
    world.launch("t", proplet="p")
    world.report("p", "t", 1, "running")
    world.take()
    world.presence("p", "offline")
    world.wait(60)
    assert (starts(world), stops(world)) == ([], [])
    assert world.state("t")["attempt"] == 1


def test_a_last_will_of_an_earlier_process_is_not_believed(world: World) -> None:
    """It came after the presence of the next one (TASK-028)."""
    world.presence("p", boot_id="b1")
    world.presence("p", boot_id="b2")
    world.presence("p", "offline", boot_id="b1")
    assert world.noted("presence.ignored") == ["earlier_process"]
    world.launch("t", proplet="p")
    assert starts(world) == [("p", 1)]
    world.presence("p", "offline", boot_id="b2")
    world.launch("u", proplet="p")
    assert world.state("u")["state"] == "queued"
    world.wait(31)
    world.presence("p", "offline", boot_id="b3")
    assert world.get("proplet", "p").presence.boot_id == "b3", "nobody there contradicts it"


@pytest.mark.parametrize("sign", ["telemetry", "report"])
def test_who_shows_life_after_its_last_will_is_online(world: World, sign: str) -> None:
    """The will was that of an earlier connection (TASK-028).

    Regression: only a presence ended it, which a proplet sends again when something changes.
    """
    world.presence("p", labels={"zone": "attic"})
    world.presence("p", "offline", labels={"zone": "attic"})
    world.launch("pinned", proplet="p")
    world.launch("free", selector={"zone": "attic"})
    assert starts(world) == []
    if sign == "telemetry":
        world.telemetry("p")
    else:
        world.report("p", "other", 1, "running")
    assert starts(world) == [("p", 1), ("p", 1)]


def test_who_is_asleep_is_not_woken_by_a_life_sign(world: World) -> None:
    """It says so itself, and says when it is awake (TASK-028)."""
    world.presence("p", "asleep")
    world.launch("t", proplet="p")
    world.telemetry("p")
    assert starts(world) == []


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
