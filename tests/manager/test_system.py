"""The manager as a process, against a real mosquitto."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from roost.manager.adapters.connection import Login
from roost.manager.adapters.wiring import login
from roost.manager.settings import ManagerSettings

from ..conftest import Mosquitto  # noqa: TID252 - the tests are no package
from .client import DEADLINE_S, Client
from .world import EACH_BINDING, IMAGE

pytestmark = pytest.mark.system

JOB = {"id": "j1", "image": IMAGE, "devices": ["p1", "p2"], "options": {"rate": 0.10}}


class Manager:
    """One manager process that can be killed and started again."""

    def __init__(self, url: str, folder: Path, prefix: str) -> None:
        self.workloads = folder / "workloads"
        self.workloads.mkdir()
        (self.workloads / "jobs.toml").write_text(EACH_BINDING)
        self._log = folder / "log"
        self._environment = {
            **os.environ,
            "ROOST_BROKER": url,
            "ROOST_STATE_DIR": str(folder / "state"),
            "ROOST_WORKLOADS": str(self.workloads),
            "ROOST_TOPIC_PREFIX": prefix,
            "ROOST_LOG_LEVEL": "debug",
            "ROOST_LOG_FORMAT": "json",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "roost.manager"], env=self._environment, stderr=log
            )

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def stop(self) -> int:
        """End it in good order; return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(DEADLINE_S)

    def logged(self) -> str:
        """Return its log."""
        return self._log.read_text()


@pytest.fixture
def make_manager(broker: Mosquitto, tmp_path: Path) -> Iterator[Callable[..., Manager]]:
    """Return a function that prepares a manager; it is ended after the test."""
    made: list[Manager] = []

    def make(prefix: str = "") -> Manager:
        made.append(Manager(broker.url, tmp_path, prefix))
        return made[-1]

    yield make
    for manager in made:
        if manager.process is not None and manager.process.poll() is None:
            manager.kill()


@pytest.fixture
def manager(client: Client, make_manager: Callable[..., Manager]) -> Manager:
    """Return a manager that is ready."""
    started = make_manager()
    started.start()
    client.wait("workloads/state")
    return started


@pytest.fixture
def client(broker: Mosquitto) -> Iterator[Client]:
    """Return a client that sees everything and plays proplets and operators."""
    with Client(broker.port, "cli") as connected:
        connected.subscribe("#")
        yield connected


def presence(client: Client, proplet: str, **more: Any) -> None:
    """Let a proplet say that it is there."""
    card = {"proplet_id": proplet, "status": "online", "boot_id": "b1", **more}
    client.publish(f"proplets/{proplet}/presence", card, retain=True)


def report(client: Client, proplet: str, task: str, status: str, **more: Any) -> None:
    """Let a proplet report on its first attempt."""
    body = {"attempt": 1, "boot_id": "b1", "status": status, **more}
    client.publish(f"proplets/{proplet}/tasks/{task}/report", body)


def stop_reason(client: Client, proplet: str, task: str) -> str:
    """Wait for a stop order."""
    reason: str = client.wait(f"proplets/{proplet}/tasks/{task}/stop").json["reason"]
    return reason


def test_a_launch_by_a_binding_to_its_end(client: Client, manager: Manager) -> None:
    """Launch, start, reports, output forwarded, resend (TASK-006 to TASK-022)."""
    presence(client, "p1")
    client.publish("jobs/start", b'{"id":"j1","image":"oci://r/i:1","devices":["p1"],'
                   b'"options":{"rate":0.10,"n":1e2}}')  # fmt: skip
    order = client.wait("proplets/p1/tasks/j1:p1/start")
    assert order.json["task"]["env"] == {"OPTIONS": '{"rate":0.10,"n":1e2}'}
    assert 1 <= order.properties["MessageExpiryInterval"] <= 60
    report(client, "p1", "j1:p1", "accepted")
    report(client, "p1", "j1:p1", "running")
    client.state("j1:p1", "running")
    client.publish("jobs/j1/results/p1", b"\x00result")
    forwarded = client.wait("results")
    assert (forwarded.payload, forwarded.user) == (
        b"\x00result", [("source-topic", "jobs/j1/results/p1")],
    )  # fmt: skip
    report(client, "p1", "j1:p1", "succeeded", usage={"wall_s": 0.5})
    state = client.state("j1:p1", "succeeded")
    assert (state["usage"], state["launch"]["key"]) == ({"wall_s": 0.5}, "j1")
    assert stop_reason(client, "p1", "j1:p1") == "recorded"
    client.publish("tasks/j1:p1/resend")
    client.wait("proplets/p1/tasks/j1:p1/resend")
    assert manager.stop() == 0


def test_launch_and_answer(client: Client, manager: Manager) -> None:
    """Accepted, accepted again, refused, each with its correlation (TASK-006, TASK-007)."""
    request = {"task_id": "t", "image": IMAGE}
    for correlation, accepted in ((b"1", True), (b"2", True), (b"3", False)):
        if not accepted:
            request["image"] = "oci://r/other:1"
        client.publish("tasks/launch", request, ResponseTopic="replies/cli/launch",
                       CorrelationData=correlation)  # fmt: skip
        answer = client.wait("replies/cli/launch")
        assert answer.json["accepted"] == accepted
        assert answer.properties["CorrelationData"] == correlation
    client.state("t", "queued")


def test_cancel(client: Client, manager: Manager) -> None:
    """The proplet is told and the state shows it (TASK-018)."""
    presence(client, "p1")
    client.publish("tasks/launch", {"task_id": "t", "image": IMAGE, "proplet": "p1"})
    client.wait("proplets/p1/tasks/t/start")
    client.publish("tasks/t/cancel")
    assert stop_reason(client, "p1", "t") == "cancelled"
    client.state("t", "cancelled")


def test_expire(client: Client, manager: Manager) -> None:
    """The proplet is told and the state shows it (TASK-017)."""
    presence(client, "p1")
    request = {"task_id": "t", "image": IMAGE, "proplet": "p1", "deadline_s": 1}
    client.publish("tasks/launch", request)
    report(client, "p1", "t", "running")
    assert stop_reason(client, "p1", "t") == "expired"
    assert client.state("t", "expired")["reason"] == "expired"


def test_a_start_that_nobody_heard_comes_again(client: Client, manager: Manager) -> None:
    """The same attempt with less time (TASK-012)."""
    client.publish("jobs/start", JOB)
    client.state("j1:p1", "queued")
    presence(client, "p1")
    first = client.wait("proplets/p1/tasks/j1:p1/start").json
    again = client.wait("proplets/p1/tasks/j1:p1/start").json
    assert first["attempt"] == again["attempt"] == 1
    assert again["remaining_s"] < first["remaining_s"]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_restart_keeps_tasks(client: Client, manager: Manager, how: str) -> None:
    """What came meanwhile is done after it; keys are remembered (TASK-007)."""
    presence(client, "p1")
    client.publish("jobs/start", JOB)
    client.wait("proplets/p1/tasks/j1:p1/start")
    report(client, "p1", "j1:p1", "running")
    client.state("j1:p1", "running")
    getattr(manager, how)()
    report(client, "p1", "j1:p1", "succeeded")
    client.publish("tasks/launch", {"task_id": "meanwhile", "image": IMAGE})
    client.publish("jobs/start", {**JOB, "id": "j2"})
    client.publish("jobs/j1/results/p1", b"meanwhile")
    manager.start()
    client.state("j1:p1", "succeeded")
    assert stop_reason(client, "p1", "j1:p1") == "recorded"
    client.state("meanwhile", "queued", "dispatched")
    client.state("j2:p1", "queued", "dispatched")
    assert client.wait("results").payload == b"meanwhile"
    client.publish("jobs/start", {**JOB, "devices": ["p3"]})
    shown = client.wait("workloads/state", lambda message: b"launch_key_reused" in message.payload)
    assert "'j1' was launched with other bytes" in shown.json["last_refusal"]


def test_a_broker_that_forgot_everything_is_told_again(
    client: Client, broker: Mosquitto, manager: Manager
) -> None:
    """Retained states are a copy of the manager's disk (TASK-021)."""
    client.publish("jobs/start", JOB)
    client.state("j1:p2", "queued")
    broker.kill()
    broker.start()
    with Client(broker.port) as later:
        later.subscribe("tasks/#", "workloads/state")
        later.state("j1:p1", "queued")
        later.state("j1:p2", "queued")
        later.wait("workloads/state")


def test_reload(client: Client, manager: Manager) -> None:
    """New rules at once, a bad file refused with its line, removed rules gone (TASK-050)."""
    (manager.workloads / "more.toml").write_text(
        EACH_BINDING.replace("jobs/", "works/").replace('"results"', '"works"')
    )
    client.publish("workloads/reload", {"reload_id": "x1"})
    shown = client.wait("workloads/state", lambda m: m.json.get("reload_id") == "x1").json
    assert [binding["file"] for binding in shown["bindings"]] == ["jobs.toml", "more.toml"]
    client.publish("works/start", {**JOB, "id": "w1"})
    client.state("w1:p1", "queued")
    client.publish("works/w1/results/p1", b"new")
    assert client.wait("works").payload == b"new"

    (manager.workloads / "more.toml").write_text("\n[[launch]\n")
    client.publish("workloads/reload", {"reload_id": "x2"})
    shown = client.wait("workloads/state", lambda m: m.json.get("reload_id") == "x2").json
    assert shown["refused"].startswith("more.toml:2: not TOML")
    assert len(shown["bindings"]) == 2
    client.publish("works/start", {**JOB, "id": "w2"})
    client.state("w2:p1", "queued")

    (manager.workloads / "more.toml").unlink()
    client.publish("workloads/reload", {"reload_id": "x3"})
    shown = client.wait("workloads/state", lambda m: m.json.get("reload_id") == "x3").json
    assert "refused" not in shown
    client.publish("works/start", {**JOB, "id": "w3"})
    client.publish("jobs/start", {**JOB, "id": "j3"})
    client.state("j3:p1", "queued")
    assert "w3" not in manager.logged()


def test_what_cannot_be_forwarded_is_shown(client: Client, manager: Manager) -> None:
    """On `workloads/state`, with topic and size (FWD-006, TASK-051)."""
    topic = "jobs/j/results/p"
    client.publish(topic, bytes(4_194_304 - len(topic) - 10))
    shown = client.wait("workloads/state", lambda m: "forward_too_large" in m.json["refusals"])
    assert f"{topic} -> results" in shown.json["last_refusal"]


def test_prefix(broker: Mosquitto, make_manager: Callable[..., Manager]) -> None:
    """On every topic, in no payload."""
    manager = make_manager("site/a")
    manager.start()
    with Client(broker.port) as client:
        client.subscribe("#")
        client.wait("site/a/workloads/state")
        client.publish("site/a/tasks/launch", {"task_id": "t", "image": IMAGE},
                       ResponseTopic="site/a/replies/cli/launch")  # fmt: skip
        client.wait("site/a/replies/cli/launch")
        client.publish("site/a/jobs/start", JOB)
        state = client.wait("site/a/tasks/j1:p1/state")
        assert b"site" not in state.payload


def test_an_old_client_can_launch(broker: Mosquitto, client: Client, manager: Manager) -> None:
    """MQTT 3.1.1, as `mosquitto_pub` speaks."""
    with Client(broker.port, protocol=paho.MQTTv311) as old:
        old.publish("jobs/start", JOB)
        client.state("j1:p1", "queued")


@pytest.mark.parametrize("bad", ["x = 1\n", None])
def test_bad_bindings_end_the_process_at_start(
    make_manager: Callable[..., Manager], bad: str | None
) -> None:
    """With every problem on stderr and exit code 2 (BIND-001)."""
    manager = make_manager()
    if bad is None:
        (manager.workloads / "jobs.toml").unlink()
        manager.workloads.rmdir()
    else:
        (manager.workloads / "jobs.toml").write_text(bad)
    manager.start()
    assert manager.process is not None
    assert manager.process.wait(DEADLINE_S) == 2
    wanted = "does not exist" if bad is None else "jobs.toml:1: unknown key 'x'"
    assert wanted in manager.logged()


def test_credentials_of_the_two_connections() -> None:
    """One user name for each connection (FWD-008)."""
    assert login(ManagerSettings()) == Login()
    secret: dict[str, Any] = {"username": "manager", "password": "s"}
    assert login(ManagerSettings(**secret)) == Login("manager-fwd", "s")
    other: dict[str, Any] = {**secret, "forwarder_username": "f", "forwarder_password": "g"}
    assert login(ManagerSettings(**other)) == Login("f", "g")


def test_the_log_is_one_json_object_a_line(client: Client, manager: Manager) -> None:
    """For machines, if they ask."""
    client.publish("jobs/start", JOB)
    client.state("j1:p2", "queued")
    manager.stop()
    events = [json.loads(line)["event"] for line in manager.logged().splitlines()]
    assert "launch.accepted" in events
