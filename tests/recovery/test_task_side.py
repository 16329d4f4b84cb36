"""Manager, proplets and broker as processes that lose what they knew, and find together again."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..faults.processes import Broker  # noqa: TID252 - tests have no other name for it
from ..manager.client import DEADLINE_S, Client, Message  # noqa: TID252 - as above
from ..proplet import guests  # noqa: TID252 - as above

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None,
        reason="SKIPPED LOUDLY: mosquitto is not installed (Debian: apt install mosquitto)",
    ),
]
LEASE_S = 30.0


class Process:
    """A service with a state folder of its own."""

    def __init__(self, module: str, folder: Path, broker: Broker, **more: str) -> None:
        self.state = folder / "state"
        folder.mkdir()
        self._argv = [sys.executable, "-m", f"roost.{module}"]
        self._env = {
            **os.environ,
            "ROOST_BROKER": broker.url,
            "ROOST_STATE_DIR": str(self.state),
            **more,
        }
        self._log = (folder / "log").open("ab")
        self.start()

    def start(self) -> None:
        """Begin."""
        self.process = subprocess.Popen(self._argv, env=self._env, stderr=self._log)

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def close(self) -> None:
        """End it for good."""
        self.kill()
        self._log.close()


class House:
    """A broker that remembers, a manager, two proplets, and somebody who sees everything."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.broker = Broker(folder / "broker", persistence=True)
        self.broker.start()
        self.client = Client(self.broker.port, "sees-everything", reconnect_s=0.1)
        self.client.subscribe("#")
        (folder / "workloads").mkdir()
        (folder / "images").mkdir()
        workloads = str(folder / "workloads")
        self.manager = Process(
            "manager", folder / "manager", self.broker, ROOST_WORKLOADS=workloads
        )
        self.proplets = {name: self._proplet(name) for name in ("p1", "p2")}
        self.client.wait("workloads/state")
        for name in self.proplets:
            self.presence(name, lambda card: card["status"] == "online")

    def _proplet(self, name: str) -> Process:
        return Process(
            "proplet",
            self._folder / name,
            self.broker,
            ROOST_PROPLET_ID=name,
            ROOST_FILE_IMAGES=str(self._folder / "images"),
            ROOST_SLOTS="2",
            ROOST_TELEMETRY_S="1",
        )

    def close(self) -> None:
        """End everything."""
        self.client.__exit__()
        for process in (self.manager, *self.proplets.values()):
            process.close()
        self.broker.end()

    def launch(self, task_id: str, wasm: bytes, **more: Any) -> Any:
        """Launch a task, wait until it runs, and return its state."""
        image = self._folder / "images" / f"{task_id}.wasm"
        image.write_bytes(wasm)
        request = {"task_id": task_id, "image": f"file:{image}", "deadline_s": 300, **more}
        self.client.publish("tasks/launch", request)
        return self.client.state(task_id, "running")

    def presence(self, proplet: str, wanted: Callable[[Any], bool]) -> Message:
        """Wait for a presence."""
        return self.client.wait(f"proplets/{proplet}/presence", lambda m: wanted(m.json))

    def stopped(self, proplet: str, task_id: str, patience_s: float = DEADLINE_S) -> Any:
        """Wait for a stop order."""
        return self.client.wait(
            f"proplets/{proplet}/tasks/{task_id}/stop", patience_s=patience_s
        ).json


def nothing_runs(card: Any) -> bool:
    """Tell whether a proplet holds nothing."""
    return card["status"] == "online" and not card.get("running")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Return a house in which all are there."""
    house = House(tmp_path)
    yield house
    house.close()


def test_a_manager_that_lost_its_state_lets_nobody_repeat_for_ever(house: House) -> None:
    """It ends what it does not know: guests that run, reports that nobody recorded (TASK-084)."""
    house.launch("runs", guests.SLEEPS, proplet="p1")
    house.launch("ends", guests.say('{"n": 1}\n', then=guests.SLEEP), proplet="p2",
                 limits={"wall_s": 1.5})  # fmt: skip
    house.manager.kill()
    house.client.wait("proplets/p2/tasks/ends/report", lambda m: m.json["status"] == "failed")
    shutil.rmtree(house.manager.state)
    house.manager.start()
    for proplet, task_id in (("p1", "runs"), ("p2", "ends")):
        assert house.stopped(proplet, task_id) == {"v": 1, "attempt": 1, "reason": "stale"}
        house.presence(proplet, nothing_runs)


def test_a_broker_that_comes_back_older_changes_no_outcome(house: House) -> None:
    """Its retained states, its queues and its healthy sessions are those of before (TASK-021).

    The task ran when the broker saved itself, and was cancelled since.
    """
    house.launch("t", guests.SLEEPS, proplet="p1")
    house.presence("p1", lambda card: bool(card.get("running")))
    house.broker.save()
    house.client.publish("tasks/t/cancel")
    house.client.state("t", "cancelled")
    house.presence("p1", nothing_runs)
    house.broker.kill()
    house.broker.start()
    with Client(house.broker.port, "newcomer", reconnect_s=0.1) as newcomer:
        newcomer.subscribe("tasks/t/state", "proplets/p1/#")
        assert newcomer.state("t", "cancelled")["attempt"] == 1
        newcomer.wait("proplets/p1/presence", lambda message: nothing_runs(message.json))
        house.client.publish(
            "tasks/launch", {"task_id": "u", "image": "file:/none", "proplet": "p1"}
        )
        newcomer.wait("proplets/p1/tasks/u/report", lambda m: m.json["status"] == "failed")
    with Client(house.broker.port, "later") as later:
        later.subscribe("tasks/t/state")
        assert later.wait("tasks/t/state").json["state"] == "cancelled"


@pytest.mark.slow
def test_a_task_that_may_move_does_so_and_its_old_attempt_is_stopped(house: House) -> None:
    """After 30 s of silence, although the old proplet comes back and goes on (TASK-014)."""
    old = house.launch("t", guests.SLEEPS)["proplet"]
    (new,) = house.proplets.keys() - {old}
    house.proplets[old].kill()
    house.client.wait(
        "tasks/t/state", lambda m: (m.json["proplet"], m.json["attempt"]) == (new, 2), 2 * LEASE_S
    )
    house.client.state("t", "running")
    house.proplets[old].start()
    told = house.client.wait(
        f"proplets/{old}/tasks/t/stop", lambda m: m.json["attempt"] == 1, LEASE_S
    )
    assert told.json["reason"] == "stale"
    house.presence(old, nothing_runs)
    house.client.publish("tasks/t/cancel")
    assert house.client.state("t", "cancelled")["proplet"] == new
