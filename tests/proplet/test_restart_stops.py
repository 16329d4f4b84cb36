"""What was stopped stays stopped after a restart: the simulation found guests that ran again."""

from roost.chassis.core import Decision, Started
from roost.proplet.core.effects import Execute, StopGuest
from roost.proplet.core.events import StopArrived
from roost.proplet.core.proplet import PropletCore
from roost.protocol.task.messages import StopReason

from .test_core import CARD, World, start, world


def restarted(before: World) -> Decision:
    """Return what the next process decides first, with the same states."""
    after = World(PropletCore(CARD, 2), before.kinds)
    return after.do(Started(9.0))


def stops(decision: Decision) -> list[tuple[str, int]]:
    """Return which attempts shall not run."""
    return [(e.task_id, e.attempt) for e in decision.effects if isinstance(e, StopGuest)]


def test_a_stopped_guest_does_not_run_again_after_a_restart() -> None:
    """Its run may be in the journal still although its stop is done (TASK-032)."""
    one = world()
    made = one.do(start("t"))
    assert any(isinstance(effect, Execute) for effect in made.effects)
    assert stops(one.do(StopArrived(2.0, "t", 1, StopReason.CANCELLED))) == [("t", 1)]
    assert stops(restarted(one)) == [("t", 1)]


def test_a_replaced_attempt_does_not_hold_its_successor_up_after_a_restart() -> None:
    """Both runs share a lane: the old one must not come first (TASK-032)."""
    one = world()
    one.do(start("t"))
    assert stops(one.do(start("t", attempt=2))) == [("t", 1)]
    assert stops(restarted(one)) == [("t", 1)]


def test_what_runs_is_not_stopped_by_a_restart() -> None:
    """An interrupted run goes on (TASK-030)."""
    one = world()
    one.do(start("t"))
    assert stops(restarted(one)) == []
