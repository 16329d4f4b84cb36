"""``kill -9`` of every real process at every telling instant of a round; nobody can tell after.

The processes of a fleet go on from case to case, and who was killed lives on. Each case is one
round on version 0 of a model of its own, in which all three proplets have to take part.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from roost.cli.broker.mosquitto import find_mosquitto
from roost.protocol.round import topics
from roost.protocol.round.messages import RoundComplete

from .cases import GUEST_RUNNING, OF_BROKER, OF_OTHERS, OF_SERVICES, UPDATE_ACCEPTED, Case
from .failpoint import SELF, Order
from .fleet import SIZES, Fleet
from .leftovers import unfinished
from .processes import PROPLETS
from .rounds import TIMEOUT_S, await_outcome, await_rest, check_round, publish_base, start

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(
        find_mosquitto() is None,
        reason="SKIPPED LOUDLY: mosquitto is not installed (Debian: apt install mosquitto)",
    ),
]
#: Fleets by what their broker does when it is killed; that of the first one never is.
LIVES, FORGETS, REMEMBERS = "broker lives", "broker forgets", "broker remembers"
BROKEN: Final = (FORGETS, REMEMBERS)


class Scene:
    """A fleet, and the outcomes of its rounds in which nobody was killed.

    Attributes:
        fleet: All its processes run.
        at_rest: Whether the last case ended well.
        undisturbed: The outcomes, by size of the model.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.undisturbed: dict[str, RoundComplete] = {}
        for size in SIZES:
            self.begin(f"undisturbed-{size}", size, {})
            self.undisturbed[size] = await_outcome(fleet, f"undisturbed-{size}")
        await_rest(fleet)
        self.at_rest = True

    def begin(self, name: str, size: str, orders: Mapping[str, Order]) -> None:
        """Publish a model and start its round; the orders to kill are given between the two.

        Args:
            name: Of the model and the round.
            size: Of the model.
            orders: By the service that gets it.
        """
        fleet = self.fleet
        self.at_rest = False
        publish_base(fleet, name, size)
        if fleet.broker.persistence:
            fleet.broker.save()  # all that comes now is lost with the broker
        for at, order in orders.items():
            what, contains = (
                each.replace("{round}", name) for each in (order.name, order.contains)
            )
            fleet.arm(at, replace(order, name=what, contains=contains))
        start(fleet, name, topics.MODEL.format(name=name, version=0), size)

    def play(self, case: Case) -> None:
        """Play a case to its end."""
        fleet = self.fleet
        self.begin(case.name, case.size, {case.at: case.order})
        (evidence,) = fleet.await_kills({case.at: case.victim})
        undone = unfinished(fleet.state(case.at)) if case.victim == case.at else []
        fleet.life(case.victim).start()
        check_in_flight(evidence, undone)
        self.end(case.name, case.size)

    def end(self, name: str, size: str) -> None:
        """Hold a round against the undisturbed one, and look for what is left behind."""
        check_round(self.fleet, await_outcome(self.fleet, name), self.undisturbed[size])
        await_rest(self.fleet)
        self.at_rest = True


class Scenes:
    """The scenes of this module, each set up when it is first used, or when a case failed in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scenes: dict[str, Scene] = {}
        self._fleets: list[Fleet] = []

    def __getitem__(self, name: str) -> Scene:
        """Return the scene in which the broker lives, forgets or remembers."""
        if name not in self._scenes or not self._scenes[name].at_rest:
            self._scenes[name] = Scene(self._fleet(persistence=name == REMEMBERS))
        return self._scenes[name]

    def _fleet(self, *, persistence: bool) -> Fleet:
        fleet = Fleet(self._folder / str(len(self._fleets)), persistence=persistence)
        self._fleets.append(fleet)
        fleet.start()
        return fleet

    def close(self) -> None:
        """End all processes."""
        for fleet in self._fleets:
            fleet.abandon()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    """The fleets that the tests of this module share."""
    made = Scenes(tmp_path_factory.mktemp("fleets"))
    yield made
    made.close()


def check_in_flight(evidence: dict[str, Any], undone: list[str]) -> None:
    """Assert that there was something to lose: the kill came in the middle of work.

    Args:
        evidence: What the failpoint wrote down.
        undone: What the dead service has committed and not done, if the instant was its own.
    """
    in_flight = evidence["in_flight"]
    if evidence["order"]["victim"] == SELF:
        assert in_flight.get("unacknowledged") or undone, evidence
    else:
        assert any(in_flight.values()), evidence


@pytest.mark.parametrize("case", OF_SERVICES, ids=lambda case: case.name)
def test_a_killed_service_goes_on(scenes: Scenes, case: Case) -> None:
    """The round ends as if nothing had happened (TASK-080, TASK-036, MODEL-031, MODEL-033)."""
    scenes[LIVES].play(case)


@pytest.mark.parametrize("case", OF_OTHERS, ids=lambda case: case.name)
def test_another_is_killed_meanwhile(scenes: Scenes, case: Case) -> None:
    """Who waits for an answer, or whose answer waits, makes up for it."""
    scenes[LIVES].play(case)


@pytest.mark.parametrize("broker", BROKEN)
@pytest.mark.parametrize("case", OF_BROKER, ids=lambda case: case.name)
def test_a_killed_broker_is_made_up_for(scenes: Scenes, broker: str, case: Case) -> None:
    """What it had acknowledged and forgot is said again, and counted once.

    (TASK-012, TASK-037, ROUND-018, ROUND-031, MODEL-036, MODEL-037)
    """
    scenes[broker].play(case)


def test_all_proplets_at_once(scenes: Scenes) -> None:
    """Each is killed while its guest runs; nobody is left to take part meanwhile."""
    scene, name = scenes[LIVES], "all-proplets"
    scene.begin(name, "small", dict.fromkeys(PROPLETS, GUEST_RUNNING))
    for evidence in scene.fleet.await_kills({each: each for each in PROPLETS}):
        check_in_flight(evidence, unfinished(scene.fleet.state(evidence["name"])))
    scene.fleet.revive()
    scene.end(name, "small")


@pytest.mark.parametrize("broker", BROKEN)
def test_a_power_cut(scenes: Scenes, broker: str) -> None:
    """Everything ends at once, in the middle of a round, and the broker forgets."""
    scene, name = scenes[broker], "power-cut"
    scene.begin(name, "large", {"coordinator": UPDATE_ACCEPTED})
    (evidence,) = scene.fleet.await_kills({"coordinator": "coordinator"})
    for life in scene.fleet.lives:
        if life.process is not None:
            life.kill()
    check_in_flight(evidence, unfinished(scene.fleet.state("coordinator")))
    scene.fleet.revive()
    scene.end(name, "large")


@pytest.mark.parametrize("broker", [LIVES, *BROKEN])
def test_nothing_is_left_once_all_deadlines_have_passed(scenes: Scenes, broker: str) -> None:
    """The proplets have forgotten every task, and all end in good order."""
    fleet = scenes[broker].fleet
    await_rest(fleet, TIMEOUT_S + 15.0, deadlines_passed=True)
    fleet.stop()
