"""Reloads, what is shown of bindings and refusals, and what is forgotten."""

from roost.manager.core.events import (
    ApplyBindings,
    BindingsApplied,
    BindingsRead,
    BindingsRefused,
    ForwardDropped,
    ReadBindings,
)
from roost.manager.core.lifecycle import STATE_KEPT_S
from roost.manager.core.manager import MAX_ENDED
from roost.manager.core.task import new_task
from roost.protocol.task.messages import TaskRequest, TaskStatus

from .world import EACH_BINDING, IMAGE, World, bindings_of

JOB = {"id": "j1", "image": IMAGE, "devices": ["a", "b"], "options": {}}


def test_reload(world: World) -> None:
    """Shown once messages on the new topics arrive (TASK-050, BIND-003)."""
    world.receive("workloads/reload", {"reload_id": "x1"})
    assert world.asked == [ReadBindings("x1")]
    world.handle(BindingsRead(world.at, bindings_of(EACH_BINDING.replace("jobs/", "w/")), "x1"))
    assert world.asked[-1] == ApplyBindings(
        launches_gone=("jobs/start",), forwards_gone=("jobs/+/results/+",), reload_id="x1"
    )
    assert world.take("workloads/state") == []
    world.handle(BindingsApplied(world.at, "x1"))
    shown = world.shown()
    assert shown["reload_id"] == "x1"
    assert shown["bindings"][0]["launches"] == ["w/start"]
    assert shown["bindings"][0]["forwards"] == ["w/+/results/+ -> results"]
    world.receive("jobs/start", JOB)
    assert not world.all("task")
    world.receive("w/start", JOB)
    assert len(world.all("task")) == 2


def test_a_refused_reload_leaves_the_old_in_force(world: World) -> None:
    """And says why (TASK-050, BIND-001)."""
    world.handle(BindingsRefused(world.at, "a.toml:3: wrong", "x2"))
    assert (world.shown()["refused"], world.shown()["reload_id"]) == ("a.toml:3: wrong", "x2")
    world.receive("jobs/start", JOB)
    assert len(world.all("task")) == 2
    world.handle(BindingsRead(world.at, bindings_of(EACH_BINDING), "x3"))
    world.handle(BindingsApplied(world.at, "x3"))
    assert "refused" not in world.shown()


def test_subscriptions_that_the_broker_refuses_are_shown(world: World) -> None:
    """A binding whose messages cannot come is no secret (TASK-050)."""
    world.handle(BindingsApplied(world.at, "x1", "not authorized"))
    assert world.shown()["refused"] == "not authorized"


def test_a_reload_order_that_is_malformed(world: World) -> None:
    """Nothing is read (TASK-050)."""
    world.receive("workloads/reload", b"")
    assert world.asked == []
    assert world.shown()["refusals"] == {"malformed": 1}


def test_forwards_that_were_dropped_are_shown(world: World) -> None:
    """By name (TASK-051)."""
    world.handle(ForwardDropped(world.at, "forward_too_large", "a -> b: 5 MB"))
    assert world.shown()["refusals"] == {"forward_too_large": 1}
    assert world.shown()["last_refusal"] == "a -> b: 5 MB"


def test_a_flood_of_bad_orders_is_no_flood_of_states(world: World) -> None:
    """One a second (TASK-051)."""
    for _ in range(100):
        world.receive("jobs/start", b"")
    assert len(world.take("workloads/state")) == 1
    world.wait(1)
    assert len(world.take("workloads/state")) == 1
    assert world.shown()["refusals"] == {"malformed": 100}


def test_ended_tasks_are_forgotten_after_a_week(world: World) -> None:
    """Their states leave the broker too (TASK-021)."""
    world.launch("t", proplet="p", deadline_s=1)
    world.launch("u", proplet="p", deadline_s=604_800)
    world.wait(1)
    world.wait(STATE_KEPT_S - 10)
    assert world.all("ended").keys() == {"t"}
    world.wait(7200)
    assert world.all("ended").keys() == {"u"}
    assert world.retained["tasks/t/state"] == b""


def test_ended_tasks_are_bounded(world: World) -> None:
    """The oldest go (TASK-021)."""
    for i in range(MAX_ENDED + 2):
        task = new_task(TaskRequest(task_id=f"t{i}", image=IMAGE), None, world.at)
        world.states.setdefault("ended", {})[task.id] = task
    world.wait(3600)
    assert len(world.all("ended")) == MAX_ENDED
    assert "t1" not in world.all("ended")
    assert "t2" in world.all("ended")


def test_timers_of_tasks_that_are_gone_do_nothing(world: World) -> None:
    """A timer may be fired just as its task ends."""
    world.launch("t", proplet="p", deadline_s=10)
    world.receive("tasks/t/cancel")
    world.take()
    world.timers["task t"] = world.at
    world.wait(0)
    assert world.take() == []


def test_a_timer_that_comes_early_is_set_again(world: World) -> None:
    """Otherwise its task would never be woken."""
    world.launch("t", proplet="p", deadline_s=10)
    deadline = world.timers["task t"]
    world.timers["task t"] = world.at
    world.wait(0)
    assert world.timers["task t"] == deadline
    assert world.state("t")["state"] == TaskStatus.QUEUED
