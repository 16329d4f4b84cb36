"""What news of one proplet costs does not depend on how many tasks and proplets there are."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from roost.manager.core.events import LifeSign, Ordered, PresenceArrived, ReportArrived
from roost.manager.core.manager import ManagerCore
from roost.protocol.task.messages import Presence, PresenceStatus, Report, ReportStatus

from .world import EACH_BINDING, IMAGE, World, make_world


class Watched:
    """A view that counts what is read of it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.reads: list[tuple[str, str]] = []

    def get(self, kind: str, id_: str, /) -> Any:
        """Return an entity and count it."""
        self.reads.append((kind, id_))
        return self._world.get(kind, id_)

    def all(self, kind: str, /) -> Mapping[str, Any]:
        """Return a kind and count all of it."""
        found = self._world.all(kind)
        self.reads += [(kind, id_) for id_ in found]
        return found


def order(devices: int) -> bytes:
    """Return a message that launches a task on each of so many proplets."""
    names = [f"p{number:03d}" for number in range(devices)]
    return json.dumps({"id": "j", "devices": names, "image": IMAGE, "options": {}}).encode()


def launched(devices: int) -> World:
    """Return a world with a task on each proplet, the first of which are not online yet."""
    world = make_world(EACH_BINDING)
    for number in range(2, devices):
        world.presence(f"p{number:03d}")
    world.order("jobs/start", order(devices))
    world.report("p005", "j:p005", 1, "accepted")
    return world


def card(proplet: str) -> Presence:
    """Return the presence of a proplet that holds nothing."""
    return Presence(proplet_id=proplet, status=PresenceStatus.ONLINE, boot_id="b1")


def report(at: float, status: ReportStatus) -> ReportArrived:
    """Return news of the first attempt on one proplet."""
    return ReportArrived(at, "p006", "j:p006", Report(attempt=1, boot_id="b1", status=status))


EVENTS: dict[str, Callable[[float], Any]] = {
    "a life sign": lambda at: LifeSign(at, "p007"),
    "a new proplet": lambda at: LifeSign(at, "new"),
    "a proplet that came": lambda at: PresenceArrived(at, card("p001"), retained=False),
    "a proplet without its task": lambda at: PresenceArrived(at, card("p005"), retained=False),
    "a report": lambda at: report(at, ReportStatus.ACCEPTED),
    "the end of a task": lambda at: report(at, ReportStatus.SUCCEEDED),
}


@pytest.mark.parametrize("name", EVENTS)
def test_news_of_one_proplet_touches_no_other(name: str) -> None:
    """As much is read, stored and published among 30 as among 100 (TASK-029)."""
    costs = []
    for devices in (30, 100):
        world = launched(devices)
        view = Watched(world)
        decision = ManagerCore().handle(EVENTS[name](world.at), view)
        costs.append((len(view.reads), len(decision.puts), len(decision.effects)))
    assert costs[0] == costs[1]


def test_a_launch_that_comes_again_is_not_expanded() -> None:
    """It may name thousands, and its sender repeats it while something is missing (TASK-007)."""
    world = launched(100)
    view = Watched(world)
    decision = ManagerCore().handle(Ordered(world.at, "jobs/start", order(100)), view)
    assert not decision.puts
    assert {kind for kind, _ in view.reads} == {"bindings", "launch"}


def test_the_orders_of_a_large_launch_are_not_repeated_before_they_can_be_answered() -> None:
    """Each task before it gives a proplet 2 ms more (TASK-012)."""
    world = launched(100)
    world.sent.clear()
    world.wait(2.1)
    repeated = {message.topic.split("/")[1] for message in world.take("/start")}
    # The first two are not online, the sixth has accepted.
    assert repeated == {f"p{number:03d}" for number in range(2, 51)} - {"p005"}
    world.wait(0.1)
    assert len(world.take("/start")) == 49


def test_what_is_where_is_learnt_again_after_a_restart() -> None:
    """It is not stored; a proplet that comes gets its task all the same (TASK-029)."""
    world = launched(3)
    world.restart()
    world.connect()
    world.sent.clear()
    world.presence("p000")
    assert [message.topic for message in world.take("/start")] == [
        "proplets/p000/tasks/j:p000/start"
    ]
