"""Attacks of a device with valid credentials, tried against a real mosquitto, and failing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from shutil import which

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from .conftest import DEADLINE_S, NOT_AUTHORIZED, Client, Secured

pytestmark = pytest.mark.system

Connect = Callable[..., Client]
SHA = "a" * 64
MAX_PACKET = 4_194_304
FORBIDDEN = [
    "fl/rounds/start", "fml/updates", "tasks/launch", "tasks/t1/cancel", "tasks/t1/state",
    "fl/models/publish", "fl/models/rollback", "fl/models/global_model_v3", "fl/models/index",
    "fl/rounds/r1/complete", "fl/rounds/r1/state", "fl/rounds/r1/updates/p2",
    "fl/experiments/start", "fl/coordinator/state", "workloads/reload", "workloads/state",
    "proplets/p2/presence", "proplets/p2/telemetry", "proplets/p2/tasks/t1/report",
    "proplets/p2/tasks/t1/start", "proplets/p1/tasks/t1/start", f"blobs/p2/{SHA}/0",
    f"blobs/operator/{SHA}/manifest", "replies/c1/launch", "words/count", "anything",
]  # fmt: skip
PRIVATE = [
    "fl/rounds/start", "fml/updates", "tasks/launch", "tasks/t1/cancel", "replies/c1/launch",
    "fl/rounds/r1/updates/p2", "proplets/p2/tasks/t1/start", "proplets/p2/tasks/t1/stop",
    "proplets/p2/tasks/t1/report", f"blobs/p2/{SHA}/0", f"blobs/p2/{SHA}/manifest", "anything",
]  # fmt: skip
"""What a device may not read; the models' siblings that it may are WIRE-082."""


@pytest.fixture
def witness(shared: Secured, connect: Connect) -> Client:
    """One who may do everything: on the loopback, without a name."""
    client = connect(shared, None, port=shared.site.loopback_port, client_id="witness")
    client.subscribe("#")
    client.publish("the/beginning")
    client.until("the/beginning")
    return client


def kept_for(seconds: int) -> Properties:
    """A session that outlives its connection."""
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = seconds
    return properties


def test_device_publishes_nothing_but_its_own(
    shared: Secured, connect: Connect, witness: Client
) -> None:
    """Orders, forwards, others' updates and presence: refused, in words by MQTT 5 (WIRE-081)."""
    device = connect(shared, "p1")
    assert {device.publish(topic) for topic in FORBIDDEN} == {NOT_AUTHORIZED}
    assert {device.publish(topic, retain=True) for topic in FORBIDDEN} == {NOT_AUTHORIZED}
    assert device.publish("proplets/p1/telemetry") == 0
    assert witness.until("proplets/p1/telemetry") == []


def test_mqtt_3_is_told_of_a_success_that_is_none(
    shared: Secured, connect: Connect, witness: Client
) -> None:
    """The broker acknowledges to 3.1.1 what it throws away; nobody gets it (BROKER-006)."""
    device = connect(shared, "p1", version=paho.MQTTv311)
    assert {device.publish(topic) for topic in FORBIDDEN} == {0}
    assert device.publish("proplets/p1/telemetry") == 0
    assert witness.until("proplets/p1/telemetry") == []


@pytest.mark.skipif(which("mosquitto_pub") is None, reason="mosquitto-clients is not installed")
@pytest.mark.parametrize(("version", "said"), [("5", "Not authorized"), ("mqttv311", "")])
def test_what_a_user_of_mosquitto_pub_sees(shared: Secured, version: str, said: str) -> None:
    """With MQTT 5 the reason; with 3.1.1 nothing at all, so use -V 5 (BROKER-006)."""
    argv = ["mosquitto_pub", "-V", version, "-h", "127.0.0.1", "-p", str(shared.site.port),
            "--cafile", shared.authority, "-u", "p1", "-P", shared.passwords["p1"], "-q", "1",
            "-t", "fl/rounds/start", "-m", "{}"]  # fmt: skip
    told = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert told.returncode == 0
    assert said in told.stdout + told.stderr
    assert bool(told.stdout + told.stderr) is bool(said)


def test_device_reads_nothing_of_others(shared: Secured, connect: Connect, witness: Client) -> None:
    """Whatever it subscribes to is granted, and brings only what it may read (WIRE-081)."""
    for retained in (True, False):
        device = connect(shared, "p1")
        if retained:
            for topic in PRIVATE:
                witness.publish(topic, retain=True)
        device.subscribe("#", "$SYS/#", *PRIVATE, "proplets/+/tasks/+/start", "blobs/+/+/+")
        if not retained:
            for topic in PRIVATE:
                witness.publish(topic)
        witness.publish("proplets/p1/tasks/t1/start")
        came = device.until("proplets/p1/tasks/t1/start")
        assert not {topic for topic in came if topic in PRIVATE or topic.startswith("$")}
        device.close()
    for topic in PRIVATE:
        witness.publish(topic, b"", retain=True)


@pytest.mark.parametrize("victim", ["coordinator", "manager", "p2"])
def test_client_id_is_the_user_name_whatever_a_device_says(
    shared: Secured, connect: Connect, witness: Client, victim: str
) -> None:
    """A device that connects as somebody else's client id takes no session over (BROKER-002)."""
    topic = {"coordinator": "fml/updates", "manager": "tasks/launch"}.get(
        victim, "proplets/p2/tasks/t1/start"
    )
    service = connect(shared, victim, client_id=victim, properties=kept_for(60), clean=False)
    service.subscribe(topic)
    thief = connect(shared, "p1", client_id=victim, properties=kept_for(60), clean=False)
    assert thief.accepted
    witness.publish(topic)
    assert service.until(topic) == []
    assert service.ended.empty()
    assert thief.publish("proplets/p1/telemetry") == 0
    assert thief.inbox.empty()


def test_absent_services_session_is_not_a_devices(
    shared: Secured, connect: Connect, witness: Client
) -> None:
    """What waits for a service that is away stays there until it comes back itself (BROKER-002)."""
    service = connect(shared, "coordinator", properties=kept_for(60), clean=True)
    service.subscribe("fml/updates")
    service.close()
    thief = connect(shared, "p1", client_id="coordinator", clean=True)
    witness.publish("fml/updates", b"precious")
    thief.close()
    back = connect(shared, "coordinator", properties=kept_for(0), clean=False)
    message = back.inbox.get(timeout=DEADLINE_S)
    assert (message.topic, message.payload) == ("fml/updates", b"precious")


def test_device_is_not_let_in_where_operators_are(shared: Secured, connect: Connect) -> None:
    """There client ids are free, so only operators' names are known (BROKER-003)."""
    assert not connect(shared, "p1", port=shared.site.people_port).accepted
    assert not connect(shared, "coordinator", port=shared.site.people_port).accepted
    assert not connect(shared, "eye", port=shared.site.people_port).accepted
    assert connect(shared, "operator").accepted
    assert not connect(shared, "operator", port=shared.site.port).accepted


def test_operator_may_have_several_connections(shared: Secured, connect: Connect) -> None:
    """One terminal watches while another one gives orders (BROKER-003)."""
    first = connect(shared, "operator", client_id="one")
    second = connect(shared, "operator", client_id="two")
    assert second.publish("fl/rounds/start") < NOT_AUTHORIZED
    assert first.publish("fl/rounds/start") < NOT_AUTHORIZED
    assert first.ended.empty()


def test_shared_subscription_takes_nothing_away(
    shared: Secured, connect: Connect, witness: Client
) -> None:
    """A device that joins groups gets nothing, and the manager misses nothing (BROKER-005)."""
    forwarder = connect(shared, "manager-fwd")
    forwarder.subscribe("fl/rounds/+/updates/+")
    thief = connect(shared, "p1")
    thief.subscribe(
        "$share/manager/fl/rounds/+/updates/+", "$share/manager-fwd/fl/rounds/+/updates/+",
        "$share/all/#",
    )  # fmt: skip
    sent = [f"fl/rounds/r{n}/updates/p2" for n in range(50)]
    for topic in sent:
        witness.publish(topic)
    witness.publish("fl/rounds/last/updates/p2")
    assert forwarder.until("fl/rounds/last/updates/p2") == sent
    assert thief.publish("proplets/p1/telemetry") == 0
    assert thief.until("proplets/p1/telemetry") == []


@pytest.mark.parametrize("topic", ["proplets/p2/presence", "fl/rounds/start", "fml/updates"])
def test_forged_will_is_never_sent(
    shared: Secured, connect: Connect, witness: Client, topic: str
) -> None:
    """A last will is the device's own publish: on others' topics it is thrown away (WIRE-081)."""
    assert witness.publish("proplets/p2/presence", b"online", retain=True) == 0
    witness.until("proplets/p2/presence")
    forger = connect(shared, "p1", will=topic)
    if forger.accepted:
        forger.vanish()
    # A will of its own, later, shows that the earlier one would have come by now.
    honest = connect(shared, "p1", will="proplets/p1/presence")
    honest.vanish()
    assert witness.until("proplets/p1/presence") == []
    late = connect(shared, "p2", clean=True)
    late.subscribe("proplets/p2/presence")
    assert late.inbox.get(timeout=DEADLINE_S).payload == b"online"
    for each in ("proplets/p1/presence", "proplets/p2/presence"):
        witness.publish(each, b"", retain=True)


def test_too_large_a_packet_ends_its_sender_only(
    shared: Secured, connect: Connect, witness: Client
) -> None:
    """The limit is announced (WIRE-019); who ignores it is cut off (BROKER-008)."""
    device = connect(shared, "p1")
    other = connect(shared, "p2")
    device.paho.publish("proplets/p1/telemetry", b"x" * MAX_PACKET, qos=1)
    assert device.ended.get(timeout=DEADLINE_S)
    assert other.publish("proplets/p2/telemetry") == 0
    assert witness.until("proplets/p2/telemetry") == []
    assert other.ended.empty()


def test_limit_is_announced(shared: Secured, connect: Connect) -> None:
    """MQTT 5 clients read it in the broker's answer, and can refuse before they send (WIRE-019)."""
    device = connect(shared, "p1")
    assert device.properties.MaximumPacketSize == MAX_PACKET


def test_flood_pushes_nothing_out_of_a_queue(
    shared: Secured, connect: Connect, witness: Client
) -> None:
    """Mosquitto's own limit of 1,000 would drop what it acknowledged (BROKER-008)."""
    flood = 3_000
    forwarder = connect(shared, "manager-fwd", properties=kept_for(60), clean=True)
    forwarder.subscribe("fl/rounds/+/updates/+")
    forwarder.close()
    device = connect(shared, "p1")
    for number in range(flood):
        device.paho.publish(f"fl/rounds/r{number}/updates/p1", b"x", qos=1)
    device.await_acks(flood)
    assert device.publish("fl/rounds/last/updates/p1") == 0
    back = connect(shared, "manager-fwd", properties=kept_for(0), clean=False)
    assert len(back.until("fl/rounds/last/updates/p1")) == flood


@pytest.mark.parametrize("user", ["eye", "p1"])
def test_orders_are_operators_rights(
    shared: Secured, connect: Connect, witness: Client, user: str
) -> None:
    """Neither a viewer nor a device starts rounds or tasks; an operator does (BROKER-004)."""
    orders = ["fl/rounds/start", "tasks/launch", "words/count", "fl/models/publish"]
    stranger = connect(shared, user)
    assert {stranger.publish(topic) for topic in orders} == {NOT_AUTHORIZED}
    operator = connect(shared, "operator")
    assert {operator.publish(topic) for topic in orders} == {0}
    assert witness.until(orders[-1]) == orders[:-1]


def test_viewer_reads_states_and_no_updates(
    shared: Secured, connect: Connect, witness: Client
) -> None:
    """What everyone may read, and neither orders nor devices' answers (BROKER-004)."""
    viewer = connect(shared, "eye")
    viewer.subscribe("#")
    for topic in PRIVATE:
        witness.publish(topic)
    witness.publish("fl/rounds/r1/state")
    assert viewer.until("fl/rounds/r1/state") == []
    assert viewer.publish("proplets/eye/presence") == NOT_AUTHORIZED
    assert viewer.publish(f"blobs/eye/{SHA}/0") == NOT_AUTHORIZED
    assert viewer.publish("replies/eye/launch") == 0


@pytest.mark.parametrize(
    ("user", "password"),
    [("p1", "wrong"), ("coordinator", "p1's"), ("nobody", "x"), (None, None), ("operator", "x")],
)
def test_nobody_gets_in_without_the_right_password(
    shared: Secured, connect: Connect, user: str | None, password: str | None
) -> None:
    """Neither without a name nor as somebody else, where devices reach it (BROKER-001)."""
    said = shared.passwords["p1"] if password == "p1's" else password
    for port in (shared.site.port, shared.site.people_port):
        assert not connect(shared, user, password=said, port=port).accepted


def test_loopback_takes_a_name_only_with_its_password(shared: Secured, connect: Connect) -> None:
    """Without a name everything is allowed there; whoever gives one must be it (BROKER-001)."""
    port = shared.site.loopback_port
    assert connect(shared, None, port=port).accepted
    assert connect(shared, "coordinator", port=port).accepted
    assert not connect(shared, "coordinator", port=port, password="guess").accepted
