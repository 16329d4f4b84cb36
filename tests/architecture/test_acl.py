"""Proof 6: the broker's ACL gives the manager what tables and bindings name, and no more.

A real mosquitto runs with the generated file. ``witness``, a user of the test's own with all
rights, sees what the manager's users publish, and publishes what they may or may not see.
"""

import queue
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from roost.manager.bindings import load
from roost.protocol.round.topics import TOPICS as ROUND_TOPICS
from roost.protocol.task.topics import TOPICS as TASK_TOPICS
from roost.specs.acl import mosquitto_acl
from roost.specs.workloads import WorkloadTopics, topics_of
from roost.wire.blob import TOPICS as BLOB_TOPICS
from roost.wire.topic import Topic

DEADLINE_S = 10.0
NOT_AUTHORIZED = 135
WORKLOADS = Path(__file__).parents[2] / "workloads"
OTHER_BINDING = """
[[launch]]
topic = "meters/+/check"
key = "{run}"
for_each = "devices"
[launch.task]
proplet = "{each}"
image = "{image}"
[[launch.task.inputs]]
name = "table"
topic = "meters/{site}/table"
[[launch.task.outputs]]
file = "stdout"
topic = "meters/{site}/results/{each}"
[[launch.task.outputs]]
file = "log"
topic = "meters/{site}/log"
[[forward]]
from = "meters/+/results/+"
to = "dashboard/results"
"""
IDS = {
    "client": "c1", "task_id": "r1:p1", "proplet_id": "p1", "round_id": "r1", "version": 3,
    "name": "global_model", "experiment_id": "e1", "owner": "p1", "sha256": "a" * 64, "n": 0,
}  # fmt: skip
ALL_TOPICS = (*TASK_TOPICS, *BLOB_TOPICS, *ROUND_TOPICS)
PREFIX = "house-7/"
STRANGERS = (
    "anything", "fl/anything", "tasks/r1:p1/else", "fml/other", "meters/north/table",
    "meters/north/log", "meters/north/results/p1", "meters/north/check", "dashboard/results",
    "proplets/manager/presence", "proplets/manager-fwd/tasks/r1:p1/report",
    "fl/rounds/r1/updates/manager", "blobs/manager/" + "a" * 64 + "/0", "replies/c1/other",
)  # fmt: skip


def topic_of(topic: Topic) -> str:
    """Return one topic of a table's row."""
    names = {name: IDS[name] for name in IDS if f"{{{name}}}" in topic.template}
    return topic.format(**names)


PROBES = tuple(dict.fromkeys([*(topic_of(each) for each in ALL_TOPICS), *STRANGERS]))


@pytest.fixture(scope="module")
def workloads(tmp_path_factory: pytest.TempPathFactory) -> WorkloadTopics:
    """Return the topics of the learning binding and of one that is no learning workload."""
    folder = tmp_path_factory.mktemp("workloads")
    (folder / "meters.toml").write_text(OTHER_BINDING)
    shipped = WORKLOADS / "federated-learning.toml"
    (folder / shipped.name).write_bytes(shipped.read_bytes())
    return topics_of(load(folder))


@pytest.fixture(scope="module")
def port(
    tmp_path_factory: pytest.TempPathFactory,
    workloads: WorkloadTopics,
    start_mosquitto: Callable[[Path, str], Any],
) -> Iterator[int]:
    """Start mosquitto with the generated ACL and a witness who may do everything."""
    folder = tmp_path_factory.mktemp("acl-broker")
    acl = mosquitto_acl(workloads, prefix=PREFIX, proplets=("p1",))
    (folder / "acl").write_text(f"user witness\ntopic readwrite #\n\n{acl}")
    (folder / "acl").chmod(0o600)
    yield from start_mosquitto(folder, f"acl_file {folder}/acl\n")


class Client:
    """A connection of one user, which remembers what it got."""

    def __init__(self, user: str, port: int) -> None:
        self.inbox: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._acks: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._subscribed: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._connected: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"test-{user}", protocol=paho.MQTTv5
        )
        self.paho.username_pw_set(user)
        self.paho.on_connect = lambda *args: self._connected.put(not args[3].is_failure)
        self.paho.on_subscribe = lambda *_: self._subscribed.put(None)
        self.paho.on_message = lambda _c, _u, message: self.inbox.put(
            message.topic.removeprefix(PREFIX)
        )
        self.paho.on_publish = lambda _c, _u, mid, reason, _p: self._acks.put((mid, reason.value))
        properties = Properties(PacketTypes.CONNECT)
        self.paho.connect("127.0.0.1", port, clean_start=True, properties=properties)
        self.paho.loop_start()
        assert self._connected.get(timeout=DEADLINE_S)

    def subscribe(self, topic_filter: str) -> None:
        """Subscribe, and return when the broker answered."""
        self.paho.subscribe(topic_filter, qos=1)
        self._subscribed.get(timeout=DEADLINE_S)

    def publish(self, topics: Iterable[str]) -> dict[str, int]:
        """Publish on each topic and return the broker's reason code for each."""
        sent = {self.paho.publish(PREFIX + topic, b"x", qos=1).mid: topic for topic in topics}
        answers = [self._acks.get(timeout=DEADLINE_S) for _ in sent]
        return {sent[mid]: code for mid, code in answers}

    def received_until(self, last: str) -> set[str]:
        """Return the topics that came before ``last``."""
        found: set[str] = set()
        while (topic := self.inbox.get(timeout=DEADLINE_S)) != last:
            found.add(topic)
        return found


@contextmanager
def connected(user: str, port: int) -> Iterator[Client]:
    """Connect a user for the length of a block."""
    client = Client(user, port)
    try:
        yield client
    finally:
        client.paho.disconnect()
        client.paho.loop_stop()


def named_by_table(roles: set[str], *, write: bool) -> set[str]:
    """Return the sample topics that the task side's tables give to these roles."""
    return {
        topic_of(each)
        for each in (*TASK_TOPICS, *BLOB_TOPICS)
        if roles.intersection(each.writers if write else each.readers)
    }


MAY_WRITE = {
    "manager": named_by_table({"manager"}, write=True),
    "manager-fwd": {"fml/updates", "dashboard/results"},
}
MAY_READ = {
    "manager": named_by_table({"manager", "anyone"}, write=False)
    | {"fl/rounds/start", "meters/north/check", "proplets/manager-fwd/tasks/r1:p1/report",
       "proplets/manager/presence", "blobs/manager/" + "a" * 64 + "/0"},
    "manager-fwd": {"fl/rounds/r1/updates/p1", "meters/north/results/p1",
                    "fl/rounds/r1/updates/manager"},
}  # fmt: skip
LAST_READ = {"manager": "tasks/launch", "manager-fwd": "meters/north/results/p1"}


@pytest.mark.parametrize("user", ["manager", "manager-fwd"])
def test_manager_writes_what_is_named_and_no_more(user: str, port: int) -> None:
    """Of all topics there are, only those named reach anyone (proof 6; WIRE-080)."""
    with connected("witness", port) as witness, connected(user, port) as manager:
        witness.subscribe("#")
        answers = manager.publish(PROBES)
        witness.publish(["the/end"])
        arrived = witness.received_until("the/end")
    assert arrived == MAY_WRITE[user]
    refused = {topic for topic, code in answers.items() if code == NOT_AUTHORIZED}
    assert refused == set(PROBES) - MAY_WRITE[user]


@pytest.mark.parametrize("user", ["manager", "manager-fwd"])
def test_manager_reads_what_is_named_and_no_more(user: str, port: int) -> None:
    """Whatever is published, only what is named comes to the manager (proof 6; WIRE-080)."""
    last = LAST_READ[user]
    with connected("witness", port) as witness, connected(user, port) as manager:
        manager.subscribe("#")
        witness.publish([topic for topic in PROBES if topic != last])
        witness.publish([last])
        arrived = manager.received_until(last)
    assert arrived | {last} == MAY_READ[user]


def test_proplet_writes_as_itself_alone(port: int) -> None:
    """A proplet reports and answers under its own id and nobody else's (WIRE-081)."""
    own = {
        "proplets/p1/presence", "proplets/p1/telemetry", "proplets/p1/tasks/r1:p1/report",
        "fl/rounds/r1/updates/p1", "meters/north/results/p1", "meters/north/log",
        f"blobs/p1/{'a' * 64}/manifest", f"blobs/p1/{'a' * 64}/0",
    }  # fmt: skip
    others = {topic.replace("p1", "p2") for topic in own} - own
    with connected("witness", port) as witness, connected("p1", port) as proplet:
        witness.subscribe("#")
        proplet.publish(sorted({*own, *others, *PROBES}))
        witness.publish(["the/end"])
        arrived = witness.received_until("the/end")
    assert arrived == own


def test_proplet_reads_its_orders_and_what_all_may_read(port: int) -> None:
    """Nobody else's orders, updates, blobs; a model's topic opens its siblings (WIRE-082)."""
    everyones = named_by_table({"anyone"}, write=False) | {
        topic_of(each) for each in ROUND_TOPICS if "anyone" in each.readers
    }
    own = named_by_table({"proplet"}, write=False) | {"meters/north/table"}
    last = "proplets/p1/tasks/r1:p1/stop"
    with connected("witness", port) as witness, connected("p1", port) as proplet:
        proplet.subscribe("#")
        others = {topic.replace("p1", "p2") for topic in own} - own
        witness.publish([topic for topic in (*PROBES, *sorted(others)) if topic != last])
        witness.publish([last])
        arrived = proplet.received_until(last) | {last}
    others_public = {each for each in PROBES if re.match(r"blobs/m|proplets/[^/]+/presence", each)}
    everyones = {each for each in everyones if not each.startswith("blobs/")}
    siblings = {f"fl/models/{each}" for each in ("publish", "rollback", "adopt")}
    assert arrived == everyones | own | others_public | siblings


def test_bindings_alone_give_the_manager_rights(workloads: WorkloadTopics) -> None:
    """Without bindings the forwarder may nothing and the manager knows no workload (WIRE-080)."""
    with_bindings, without = mosquitto_acl(workloads), mosquitto_acl(WorkloadTopics())
    assert "topic read fl/rounds/start" in _section(with_bindings, "manager")
    assert "topic write fml/updates" in _section(with_bindings, "manager-fwd")
    assert not _section(without, "manager-fwd")
    assert not [line for line in _section(without, "manager") if "fl/" in line or "fml/" in line]


def _section(acl: str, user: str) -> list[str]:
    """Return the lines of one user."""
    lines = acl.splitlines()
    start = lines.index(f"user {user}") + 1
    return lines[start : [*lines, ""].index("", start)]


def test_everybody_is_named_and_nobody_else_has_rights(workloads: WorkloadTopics) -> None:
    """No patterns, which would give every user what a proplet has; no line before a user."""
    acl = mosquitto_acl(workloads, proplets=("p1",), viewers=("eye",)).splitlines()
    users = [line.removeprefix("user ") for line in acl if line.startswith("user ")]
    wanted = ["manager", "manager-fwd", "coordinator", "model-server", "operator", "eye", "p1"]
    assert users == wanted
    first = next(n for n, line in enumerate(acl) if line and not line.startswith("#"))
    assert acl[first] == "user manager"
    assert not [line for line in acl if line.startswith("pattern") or "%" in line]


def test_others_blobs_are_read_where_tasks_feed_tasks(workloads: WorkloadTopics) -> None:
    """A chained input may come as a blob of any proplet; else they stay private (WIRE-081)."""
    chained = replace(workloads, inputs=("meters/+/results/+",))
    assert "topic read blobs/+/+/+" not in _section(mosquitto_acl(workloads, proplets=["p"]), "p")
    assert "topic read blobs/+/+/+" in _section(mosquitto_acl(chained, proplets=["p"]), "p")


def test_nameless_may_everything_only_where_that_is_said(workloads: WorkloadTopics) -> None:
    """Lines before the first user are for those who give no name."""
    assert "topic readwrite #" not in mosquitto_acl(workloads)
    before, _, _ = mosquitto_acl(workloads, anonymous=True).partition("\nuser ")
    assert "topic readwrite #" in before


def test_binding_covers_what_the_round_table_asks_of_the_manager(
    workloads: WorkloadTopics,
) -> None:
    """The shipped binding names every topic at which the round table has the manager."""
    named = {*workloads.launches, *workloads.sources, *workloads.destinations}
    asked = {each.filter for each in ROUND_TOPICS if "manager" in (*each.readers, *each.writers)}
    assert asked <= named
    assert asked


def test_mosquitto_is_the_real_one(mosquitto: str) -> None:
    """The broker of these tests is mosquitto itself."""
    said = subprocess.run([mosquitto, "-h"], capture_output=True, text=True, check=False)
    assert "mosquitto version" in said.stdout + said.stderr
