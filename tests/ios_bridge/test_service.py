"""The bridge as a process, with a real broker: pairing, MQTT through the pipe, a task, its end."""

import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from roost.protocol.phone import topics as phones
from roost.protocol.phone.messages import (
    PhoneAsleep,
    PhoneReport,
    PhoneReportStatus,
    PhoneState,
    Reading,
)
from roost.protocol.task import topics as tasks
from roost.protocol.task.messages import StartTask, StopReason, StopTask, TaskOutput, TaskSpec

from .conftest import DEADLINE_S, Bridge, Operator, pair

pytestmark = pytest.mark.system
WASM = b"\0asm\1\0\0\0"
SHA = hashlib.sha256(WASM).hexdigest()


class Phone:
    """A phone by hand: MQTT in a WebSocket, and whatever the test lets it say."""

    def __init__(self, bridge: Bridge, device: str, secret: str) -> None:
        self.device, self.auth, self.url = device, (device, secret), bridge.url
        self.orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        ready: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.mqtt = client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=device, protocol=paho.MQTTv5,
            transport="websockets", reconnect_on_failure=False,
        )  # fmt: skip
        client.ws_set_options(path="/mqtt")
        client.username_pw_set(*self.auth)
        asleep = phones.ASLEEP.format(device=device)
        client.will_set(asleep, PhoneAsleep(connection_id="c1").encode(), 1)
        client.on_connect = lambda *args: ready.put(args[3].value)
        client.on_subscribe = lambda *args: ready.put(args[3][0].value)
        client.on_message = lambda _c, _u, message: self.orders.put(json.loads(message.payload))
        client.on_disconnect = lambda *args: self.ended.put(args[3].value)
        parts = urlsplit(bridge.url)
        client.connect(
            parts.hostname or "", parts.port or 0, clean_start=True,
            properties=Properties(PacketTypes.CONNECT),
        )  # fmt: skip
        client.loop_start()
        assert ready.get(timeout=DEADLINE_S) == 0
        client.subscribe(phones.ORDER.format(device=device), qos=1)
        assert ready.get(timeout=DEADLINE_S) == 1

    def say(self, row: Any, message: Any) -> None:
        """Publish a message of the phone's, acknowledged."""
        info = self.mqtt.publish(row.format(device=self.device), message.encode(), qos=1)
        info.wait_for_publish(DEADLINE_S)

    def say_state(self, order_id: str | None = None) -> None:
        """Say that it is awake and on its charger."""
        state = PhoneState(
            connection_id="c1", boot_id="b1", app="by hand", order_id=order_id,
            reading=Reading(on_power=True, battery=90.0),
        )  # fmt: skip
        self.say(phones.STATE, state)

    def order(self, wanted: Callable[[Any], bool]) -> Any:
        """Return the next order that is wanted."""
        while True:
            order = self.orders.get(timeout=DEADLINE_S)
            if wanted(order):
                return order


@contextmanager
def phone_of(operator: Operator, bridge: Bridge, device: str = "phone-1") -> Iterator[Phone]:
    """Pair and connect a phone for the length of a block."""
    made = Phone(bridge, *pair(operator, bridge, device))
    try:
        yield made
    finally:
        made.mqtt.disconnect()
        made.mqtt.loop_stop()


def offer_image(operator: Operator) -> None:
    """Publish the image as a blob."""
    manifest = {"owner": "op", "sha256": SHA, "size": len(WASM)}
    operator.publish(f"blobs/op/{SHA}/0", WASM, retain=True)
    operator.publish(f"blobs/op/{SHA}/manifest", json.dumps(manifest).encode(), retain=True)


def start_task(operator: Operator, device: str = "phone-1") -> None:
    """Order a task as the manager does."""
    spec = TaskSpec(image=f"blob:op/{SHA}", outputs=(TaskOutput(file="result", topic="results/1"),))
    order = StartTask(attempt=1, remaining_s=60.0, task=spec)
    operator.publish(tasks.START.format(proplet_id=device, task_id="t1"), order)


def test_a_task_on_a_phone(operator: Operator, bridge: Bridge) -> None:
    """From pairing to the recorded end, over a real broker.

    (PHONE-030, PHONE-032, PHONE-037, PHONE-041, PHONE-042, PHONE-055, PHONE-060)
    """
    offer_image(operator)
    report = tasks.REPORT.format(proplet_id="phone-1", task_id="t1")
    with phone_of(operator, bridge) as phone:
        start_task(operator)
        operator.wait(report, lambda said: said["status"] == "accepted")
        phone.say_state()
        operator.wait("proplets/phone-1/presence", lambda said: said["status"] == "online")
        task = phone.order(lambda order: "task" in order)["task"]
        found = httpx.get(f"{phone.url}/images/{task['image']['sha256']}", auth=phone.auth)
        assert found.content == WASM
        running = PhoneReport(task_id="t1", attempt=1, status=PhoneReportStatus.RUNNING)
        phone.say(phones.REPORT, running)
        operator.wait(report, lambda said: said["status"] == "running")
        place = f"{phone.url}/updates/t1/1/result"
        assert httpx.put(place, auth=phone.auth, content=b'{"x": 1}').status_code == 204
        done = PhoneReport(task_id="t1", attempt=1, status=PhoneReportStatus.SUCCEEDED)
        phone.say(phones.REPORT, done)
        assert operator.wait("results/1") == {"x": 1}
        operator.wait(report, lambda said: said["status"] == "succeeded")
        phone.order(lambda order: "task" not in order)
        recorded = StopTask(attempt=1, reason=StopReason.RECORDED)
        operator.publish(tasks.STOP.format(proplet_id="phone-1", task_id="t1"), recorded)
        operator.wait("proplets/phone-1/presence", lambda said: said.get("running", []) == [])
        # Its connection breaks without a word: the broker publishes its last will.
        phone.mqtt._sock_close()
        operator.wait("proplets/phone-1/presence", lambda said: said["status"] == "asleep")


def test_a_phone_stays_on_its_own_topics(operator: Operator, bridge: Bridge) -> None:
    """Whatever the broker would allow, the bridge ends the connection (PHONE-055)."""
    with phone_of(operator, bridge) as phone:
        phone.mqtt.publish("tasks/launch", b"{}", qos=1)
        phone.ended.get(timeout=DEADLINE_S)
    assert "a message on tasks/launch" in bridge.log.read_text()


def test_revoking_cuts_the_connection(operator: Operator, bridge: Bridge) -> None:
    """A phone that is revoked is out at once, and does not come in again (PHONE-053)."""
    with phone_of(operator, bridge) as phone:
        phone.say_state()
        operator.wait("phones/state", lambda said: said["phones"][0]["presence"] == "awake")
        operator.publish("phones/phone-1/revoke", b"")
        phone.ended.get(timeout=DEADLINE_S)
        operator.wait("phones/state", lambda said: not said["phones"])
        reply = httpx.post(f"{phone.url}/status", auth=phone.auth, json={})
        assert reply.status_code == 401


def test_the_newest_connection_is_the_only_one(operator: Operator, bridge: Bridge) -> None:
    """Two programs cannot be one phone at once (PHONE-055)."""
    with phone_of(operator, bridge) as first:
        second = Phone(bridge, *first.auth)
        first.ended.get(timeout=DEADLINE_S)
        second.say_state()
        operator.wait("phones/state", lambda said: said["phones"][0]["presence"] == "awake")
        second.mqtt.disconnect()
        second.mqtt.loop_stop()


def test_killed_and_back(operator: Operator, start_bridge: Callable[..., Bridge]) -> None:
    """Killed in the middle of a task it goes on; its last will says that it was gone.

    (PHONE-036, PHONE-060)
    """
    offer_image(operator)
    bridge = start_bridge()
    credentials = pair(operator, bridge, "phone-1")
    start_task(operator)
    operator.wait("proplets/phone-1/tasks/t1/report", lambda said: said["status"] == "accepted")
    bridge.end(signal.SIGKILL)
    operator.wait("phones/bridge", lambda said: said["status"] == "offline")
    again = start_bridge()
    presence = operator.wait("proplets/phone-1/presence", lambda said: said["running"])
    assert presence["status"] == "asleep"
    phone = Phone(again, *credentials)
    phone.say_state()
    assert phone.order(lambda order: "task" in order)["task"]["task_id"] == "t1"
    phone.mqtt.disconnect()
    phone.mqtt.loop_stop()
    assert again.end() == 0
    operator.wait("phones/bridge", lambda said: said["status"] == "offline")


def test_a_port_that_is_taken(bridge: Bridge, tmp_path: Path) -> None:
    """A second process on the same port says so and ends."""
    environment = {
        **os.environ, "ROOST_STATE_DIR": str(tmp_path / "other"),
        "ROOST_PHONE_PORT": str(urlsplit(bridge.url).port),
    }  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-m", "roost.ios_bridge"], env=environment,
        capture_output=True, text=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "choose another ROOST_PHONE_PORT" in ended.stderr
