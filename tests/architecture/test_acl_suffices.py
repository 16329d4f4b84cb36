"""The generated ACL gives the services what they need: a task, a forward, a round, end to end.

The other half of proof 6: rights that nobody can work with would also be 'no more than named'.
Real services, a real mosquitto with the ACL, and an operator with an operator's rights.
"""

import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from roost.client_wasm import guest_path
from roost.manager.bindings import load
from roost.specs.acl import mosquitto_acl
from roost.specs.workloads import topics_of

ROOT = Path(__file__).parents[2]
GUEST = ROOT / "examples" / "word-count" / "word-count.wasm"
DEADLINE_S = 60.0
PREFIX = "house-7/"
BINDING = """
[[launch]]
topic = "texts/count"
key = "{id}"
for_each = "devices"
[launch.task]
proplet = "{each}"
image = "{image}"
[[launch.task.inputs]]
name = "text"
text = "{text}"
[[launch.task.outputs]]
file = "counts"
topic = "texts/{id}/counts/{each}"
[[forward]]
from = "texts/+/counts/+"
to = "dashboard/counts"
"""

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture
def port(tmp_path: Path, start_mosquitto: Callable[[Path, str], Iterator[int]]) -> Iterator[int]:
    """Start mosquitto with the ACL of these bindings; a viewer may read the dashboard."""
    (tmp_path / "workloads").mkdir()
    (tmp_path / "workloads" / "texts.toml").write_text(BINDING)
    shipped = ROOT / "workloads" / "federated-learning.toml"
    (tmp_path / "workloads" / shipped.name).write_bytes(shipped.read_bytes())
    acl = mosquitto_acl(topics_of(load(tmp_path / "workloads")), prefix=PREFIX, proplets=["p1"])
    viewer = f"user viewer\ntopic read {PREFIX}dashboard/#\n\n"
    (tmp_path / "acl").write_text(viewer + acl)
    (tmp_path / "acl").chmod(0o600)
    yield from start_mosquitto(tmp_path, f"acl_file {tmp_path}/acl\n")


@pytest.fixture
def services(tmp_path: Path, port: int) -> Iterator[None]:
    """Run all services and the proplet ``p1``, each as the user that it is."""
    data = tmp_path / "data" / "train"
    data.mkdir(parents=True)
    np.save(data / "x.npy", np.array([[0.0, 1.0], [1.0, 0.0], [0.9, 0.2]], np.float32))
    np.save(data / "y.npy", np.array([0, 1, 1], np.int64))
    common = {
        "PATH": os.environ.get("PATH", ""),
        "ROOST_BROKER": f"mqtt://127.0.0.1:{port}",
        "ROOST_TOPIC_PREFIX": PREFIX,
    }
    wanted: dict[str, dict[str, str]] = {
        "manager": {"ROOST_USERNAME": "manager", "ROOST_WORKLOADS": str(tmp_path / "workloads")},
        "proplet": {
            "ROOST_USERNAME": "p1", "ROOST_PROPLET_ID": "p1",
            "ROOST_FILE_IMAGES": os.pathsep.join(map(str, (GUEST.parent, guest_path().parent))),
            "ROOST_DATA_DIR": str(data.parent),
        },
        "coordinator": {"ROOST_USERNAME": "coordinator"},
        "model_server": {"ROOST_USERNAME": "model-server"},
    }  # fmt: skip
    running = []
    for name, own in wanted.items():
        with (tmp_path / f"{name}.log").open("wb") as log:
            running.append(
                subprocess.Popen(
                    [sys.executable, "-m", f"roost.{name}"], stdout=log, stderr=log,
                    env={**common, **own, "ROOST_STATE_DIR": str(tmp_path / "state" / name)},
                )
            )  # fmt: skip
    for name, process in zip(wanted, running, strict=True):
        await_connected(tmp_path / f"{name}.log", process)
    yield
    for process in running:
        process.terminate()
    for process in running:
        process.wait(DEADLINE_S)
    for name in wanted:
        log = (tmp_path / f"{name}.log").read_text()
        assert "service.stopped" in log
        assert "refused" not in log, log


def await_connected(log: Path, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a service is connected; one that still loads is killed by a SIGTERM."""
    for _ in range(int(DEADLINE_S * 20)):
        if "connected" in log.read_text():
            return
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        break
    raise AssertionError(log.read_text())


class Client:
    """A connection of one user, with all that it got."""

    def __init__(self, user: str, port: int, *filters: str) -> None:
        self.inbox: queue.SimpleQueue[tuple[str, bytes, Any]] = queue.SimpleQueue()
        ready: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"test-{user}", protocol=paho.MQTTv5
        )
        self.paho.username_pw_set(user)
        self.paho.on_message = lambda _c, _u, m: self.inbox.put(
            (m.topic.removeprefix(PREFIX), m.payload, m.properties)
        )
        self.paho.on_connect = lambda *_: ready.put(None)
        self.paho.on_subscribe = lambda *_: ready.put(None)
        properties = Properties(PacketTypes.CONNECT)
        self.paho.connect("127.0.0.1", port, clean_start=True, properties=properties)
        self.paho.loop_start()
        ready.get(timeout=DEADLINE_S)
        for each in filters:
            self.paho.subscribe(PREFIX + each, qos=1)
            ready.get(timeout=DEADLINE_S)

    def wait(self, *wanted: Callable[[str, Any], bool]) -> tuple[str, bytes, Any]:
        """Take messages until each of the wanted ones has come; return the last of them."""
        missing = list(wanted)
        while True:
            topic, payload, properties = self.inbox.get(timeout=DEADLINE_S)
            missing = [each for each in missing if not each(topic, json.loads(payload))]
            if not missing:
                return topic, payload, properties

    def close(self) -> None:
        """Disconnect."""
        self.paho.disconnect()
        self.paho.loop_stop()


def test_a_task_and_its_forward_run_under_the_acl(port: int, services: None) -> None:
    """Operator, manager, proplet and forwarder do all their work with their rights alone."""
    operator = Client("operator", port, "proplets/+/presence", "tasks/+/state", "workloads/state")
    viewer = Client("viewer", port, "dashboard/#")
    try:
        operator.wait(
            lambda topic, said: topic == "proplets/p1/presence" and said["status"] == "online",
            lambda topic, said: topic == "workloads/state" and said["bindings"] != [],
        )
        order = {"id": "t1", "devices": ["p1"], "image": f"file:{GUEST}", "text": "to be or not"}
        operator.paho.publish(PREFIX + "texts/count", json.dumps(order).encode(), qos=1)
        _, payload, properties = viewer.wait(lambda topic, _said: topic == "dashboard/counts")
        _, state, _ = operator.wait(
            lambda topic, said: topic == "tasks/t1:p1/state" and said["state"] == "succeeded"
        )
    finally:
        operator.close()
        viewer.close()
    assert json.loads(payload)["words"] == 4
    assert properties.UserProperty == [("source-topic", "texts/t1/counts/p1")]
    assert json.loads(state)["proplet"] == "p1"


def test_a_round_runs_under_the_acl(port: int, services: None) -> None:
    """Coordinator and model server, too, do all their work with their rights alone."""
    operator = Client("operator", port, "proplets/+/presence", "workloads/state", "fl/#")
    model = {"w": [0.0, 0.0], "b": 0.0, "version": 0}
    start = {
        "round_id": "r1", "model_uri": "fl/models/global_model_v0", "participants": ["p1"],
        "task_wasm_image": f"file:{guest_path()}", "k_of_n": 1, "timeout_s": DEADLINE_S,
    }  # fmt: skip
    try:
        operator.wait(
            lambda topic, said: topic == "proplets/p1/presence" and said["status"] == "online",
            lambda topic, said: topic == "workloads/state" and said["bindings"] != [],
            lambda topic, _said: topic == "fl/models/index",
            lambda topic, _said: topic == "fl/coordinator/state",
        )
        operator.paho.publish(PREFIX + "fl/models/publish", json.dumps(model).encode(), qos=1)
        operator.wait(lambda topic, said: topic == "fl/models/index" and said["models"] != {})
        operator.paho.publish(PREFIX + "fl/rounds/start", json.dumps(start).encode(), qos=1)
        _, payload, _ = operator.wait(lambda topic, _said: topic == "fl/rounds/r1/complete")
    finally:
        operator.close()
    outcome = json.loads(payload)
    assert outcome["outcome"] == "completed", outcome
    assert outcome["model_topic"] == "fl/models/global_model_v1"
