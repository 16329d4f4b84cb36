"""News of tasks before their round's start, updates twice before the base: simulated seeds."""

from roost.chassis.effects import Publish
from roost.protocol.round.messages import RoundStart, RoundStatus
from roost.protocol.task.messages import TaskStatus

from .world import BASE, IMAGE, World, sha


def early_world() -> tuple[World, RoundStart, str]:
    """Return a connected world in which a start is about to arrive late, and its digest."""
    world = World()
    world.connect()
    world.see("a", "b", "c")
    world.index()
    start = RoundStart(
        round_id="r",
        participants=("a", "b", "c"),
        k_of_n=3,
        model_uri=BASE,
        task_wasm_image=IMAGE,
        timeout_s=300.0,
    )
    return world, start, sha(start.encode().decode())


def test_an_update_refused_before_the_start_came_is_asked_for() -> None:
    """Its task had succeeded before the coordinator knew the round (ROUND-018)."""
    world, start, digest = early_world()
    for who in ("a", "b", "c"):
        world.task(who, TaskStatus.SUCCEEDED, start=digest)
    world.order_as(start)
    made = world.pass_time(3.0)
    asked = sorted(each.topic for each in made if isinstance(each, Publish))
    assert [topic for topic in asked if topic.endswith("/resend")] == [
        "tasks/r:a/resend",
        "tasks/r:b/resend",
        "tasks/r:c/resend",
    ]


def test_a_task_that_failed_before_the_start_came_counts_as_failed() -> None:
    """The round does not wait for its time to end (ROUND-016)."""
    world, start, digest = early_world()
    world.task("a", TaskStatus.FAILED, reason="trap", start=digest)
    world.order_as(start)
    assert world.state().failed == {"a": "trap"}
    world.pass_time(2.0)
    outcome = world.outcome()
    assert (outcome.outcome, outcome.reason) == (RoundStatus.FAILED, "quorum_unreachable")


def test_tasks_of_another_start_that_ran_before_are_cancelled() -> None:
    """As soon as the accepted start is known (ROUND-019)."""
    world, start, _ = early_world()
    world.task("a", TaskStatus.RUNNING, start="other bytes")
    made = world.order_as(start)
    assert [e.topic for e in made if isinstance(e, Publish) and "/cancel" in e.topic] == [
        "tasks/r:a/cancel"
    ]
    assert world.state().failed == {"a": "other_launch"}


def test_who_waits_to_be_judged_is_not_out() -> None:
    """A second copy is refused while the first waits for the base (ROUND-013, ROUND-016)."""
    world = World(hold_base=True)
    world.open(k=3)
    world.arrive("a", num_samples=0)
    world.arrive("a")
    world.arrive("a")
    world.task("a", TaskStatus.SUCCEEDED)
    world.pass_time(10.0)
    assert world.state().state is RoundStatus.OPEN, "it may count yet"
    world.read_bases()
    assert world.accepted() == {"a"}
