"""Floods over a real broker: honest messages still pass, and memory stays what it was."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from roost.chassis.client import RECEIVE_MAXIMUM, session_expiry
from roost.protocol.round.messages import RoundStatus
from roost.protocol.task.messages import TaskStatus

from ..conftest import Mosquitto  # noqa: TID252 - the tests are no package
from ..coordinator.stage import Stage, opened, start, update  # noqa: TID252
from .processes import DEADLINE_S, Client, Service

FLOOD = 4_000
MAX_GROWTH_MB = 60
MODEL = b'{"w":[0.0,0.0],"b":0.0,"version":0}'
TENSORS = {"w": [1.0, 2.0], "b": 3.0}
TRIO = ("p1", "p2", "p3")


def resident_mb(pid: int) -> int:
    """Return the most memory that a process ever had resident, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return int(peak.split()[1]) // 1024


class Flood:
    """A bare client that sends without waiting, QoS 0 and 1 in turn."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._last = threading.Event()
        self._client.on_publish = lambda _c, _u, mid, *_: mid == self._mid and self._last.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._mid = -1

    def send(self, *messages: tuple[str, bytes]) -> None:
        """Send all of them many times, and wait until the broker has the last."""
        for n in range(FLOOD):
            topic, payload = messages[n % len(messages)]
            self._client.publish(topic, payload, qos=n // len(messages) % 2)
        self._last.clear()
        self._mid = self._client.publish("flood/over", b"", qos=1).mid
        assert self._last.wait(DEADLINE_S * 2)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()


@pytest.fixture
def flood(broker: Mosquitto) -> Iterator[Flood]:
    """Return a flood."""
    flood = Flood(broker.port)
    yield flood
    flood.close()


@pytest.mark.system
def test_a_round_completes_in_a_flood(broker: Mosquitto, flood: Flood, tmp_path: Path) -> None:
    """Of orders that cannot be read, updates without a source, models that are none (WIRE-066)."""
    with opened(broker.url, tmp_path, "model_server", "coordinator") as stage:
        stage.present(*TRIO)
        stage.send("fl/models/publish", MODEL)
        stage.index(lambda index: "global_model" in index.models)
        order = start("r", TRIO, 3)
        stage.send("fl/rounds/start", order)
        before = {name: resident_mb(each.pid) for name, each in stage.processes.items()}
        flood.send(
            ("fml/updates", b"x" * 1000),
            ("fl/rounds/start", b'{"round_id":"r","k_of_n":99}'),
            ("fl/rounds/start", b"[" * 1000),
            ("fl/models/publish", b'{"w":[NaN]}'),
            ("fl/models/rollback", b'{"version":77}'),
            ("tasks/r:p1/state", b'{"launch":"fl/rounds/start"}'),
        )
        _answer(stage, order)
        outcome = stage.outcome("r")
        assert outcome.outcome is RoundStatus.COMPLETED
        assert outcome.verdicts == dict.fromkeys(TRIO, "accepted")
        after = {name: resident_mb(each.pid) for name, each in stage.processes.items()}
    for name, peak in after.items():
        assert peak - before[name] < MAX_GROWTH_MB, (name, before, after)


def _answer(stage: Stage, order: bytes) -> None:
    for who in TRIO:
        stage.task(order, who, TaskStatus.RUNNING)
        stage.forward("r", who, update("r", TENSORS, 10))


@pytest.mark.system
def test_a_task_is_launched_in_a_flood(broker: Mosquitto, flood: Flood, tmp_path: Path) -> None:
    """Of orders, reports and presences of nobody (WIRE-066)."""
    (tmp_path / "workloads").mkdir()
    client = Client(broker.url)
    environment = {"ROOST_WORKLOADS": str(tmp_path / "workloads")}
    with Service("manager", broker.url, tmp_path / "state", **environment) as service:
        launch = ("tasks/launch", b'{"task_id":"%s","image":"oci://x/y:1"}')
        client.insist((launch[0], launch[1] % b"first"), "tasks/first/state", lambda _: True)
        before = resident_mb(service.process.pid)
        report = json.dumps({"attempt": 1, "boot_id": "b", "status": "succeeded"}).encode()
        flood.send(
            ("tasks/launch", b"{" * 1000),
            ("tasks/launch", launch[1] % b"first"),
            ("tasks/nobody/cancel", b""),
            ("proplets/nobody/tasks/first/report", report),
            ("proplets/nobody/presence", b'{"proplet_id":"somebody"}'),
            ("proplets/nobody/telemetry", b'{"load":1e999}'),
        )
        client.insist((launch[0], launch[1] % b"second"), "tasks/second/state", lambda _: True)
        assert resident_mb(service.process.pid) - before < MAX_GROWTH_MB
    client.close()


def test_the_broker_is_told_how_much_may_be_on_its_way() -> None:
    """It keeps the rest: MQTT 5's Receive Maximum (WIRE-066)."""
    properties: Any = session_expiry(60)
    assert properties.ReceiveMaximum == RECEIVE_MAXIMUM == 128
