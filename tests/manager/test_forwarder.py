"""Forwarding is verbatim: the same bytes, in order, none lost, none doubled (real broker)."""

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from roost.chassis.settings import BrokerSettings
from roost.manager.adapters.connection import Login
from roost.manager.adapters.forwarder import Forwarder

from .. import conftest as broker_setup  # noqa: TID252 - the tests are no package
from ..conftest import Mosquitto  # noqa: TID252 - the tests are no package
from .client import DEADLINE_S, Client

pytestmark = pytest.mark.system

RULES = (("in/+/out", "all"),)


class Drops:
    """Hears what was dropped."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self._changed = threading.Condition()

    def __call__(self, name: str, why: str) -> None:
        """Note it."""
        with self._changed:
            self.heard.append((name, why))
            self._changed.notify_all()

    def wait(self, count: int) -> list[tuple[str, str]]:
        """Wait for so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.heard) >= count, DEADLINE_S)
        return self.heard


@pytest.fixture
def drops() -> Drops:
    """Return what hears of drops."""
    return Drops()


@pytest.fixture
def make_forwarder(broker: Mosquitto, drops: Drops) -> Iterator[Callable[..., Forwarder]]:
    """Return a function that starts a forwarder; all are stopped in the end."""
    made: list[Forwarder] = []

    def make(*rules: tuple[str, str], prefix: str = "", port: int = broker.port) -> Forwarder:
        settings = BrokerSettings(broker=f"mqtt://127.0.0.1:{port}", topic_prefix=prefix)
        forwarder = Forwarder(
            settings, Login(), rng=random.Random(1), dropped=drops, fatal=pytest.fail
        )
        forwarder.apply(rules or RULES)
        forwarder.start()
        made.append(forwarder)
        assert forwarder.wait_connected(DEADLINE_S)
        # What was sent on connecting is in force once the broker answers what comes after it.
        assert forwarder.apply((*(rules or RULES), ("ready", "readied"))) is None
        return forwarder

    yield make
    for forwarder in made:
        forwarder.stop()


@pytest.fixture
def client(broker: Mosquitto) -> Iterator[Client]:
    """Return a client that sees what is forwarded to `all`."""
    with Client(broker.port) as connected:
        connected.subscribe("all")
        yield connected


def payloads(rng: random.Random) -> list[bytes]:
    """Return 1,000 payloads: empty, short, binary, text that looks like something, 2 MiB."""
    special = [b"", b"\x00", b"\xff" * 3, b"{}", b'{"a":1}', "é\u2028".encode(), b"\r\n", b"%s{0}"]
    large = [rng.randbytes(2 * 1024 * 1024), bytes(2 * 1024 * 1024), rng.randbytes(1_000_003)]
    rest = [rng.randbytes(rng.choice([1, 2, 127, 128, 1000, 16_383, 16_384, 70_000]))
            for _ in range(1000 - 2 * len(special) - len(large))]  # fmt: skip
    mixed = special * 2 + large + rest
    rng.shuffle(mixed)
    return mixed


@pytest.mark.slow
def test_a_thousand_payloads(
    broker: Mosquitto, client: Client, make_forwarder: Callable[..., Forwarder]
) -> None:
    """Equal digests, in order per source, none lost, none doubled (FWD-001, FWD-004, FWD-005)."""
    make_forwarder()
    rng = random.Random(2024)
    sent: dict[str, list[tuple[int, str]]] = defaultdict(list)
    with Client(broker.port) as publisher:
        for number, payload in enumerate(payloads(rng)):
            topic = f"in/{rng.choice('abc')}/out"
            sent[topic].append((number, sha256(payload).hexdigest()))
            publisher.publish(topic, payload, UserProperty=[("n", str(number))])
    arrived = client.wait_count(1000)
    publisher_end = "all is said"
    with Client(broker.port) as publisher:
        publisher.publish("in/a/out", publisher_end.encode())
    # In order behind everything else: had anything come twice, it would stand before this.
    assert client.wait_count(1)[0].payload == publisher_end.encode()
    received: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for message in arrived:
        user = dict(message.user)
        digest = sha256(message.payload).hexdigest()
        received[user["source-topic"]].append((int(user["n"]), digest))
    assert received == sent
    assert len(arrived) == 1000


def test_what_goes_along(client: Client, make_forwarder: Callable[..., Forwarder]) -> None:
    """These properties and no others; a forged source goes (FWD-002, FWD-003)."""
    make_forwarder()
    client.publish(
        "in/a/out",
        b"x",
        ContentType="application/x",
        CorrelationData=b"\x00\x01",
        ResponseTopic="replies/x/launch",
        PayloadFormatIndicator=1,
        MessageExpiryInterval=1000,
        UserProperty=[("b", "1"), ("source-topic", "in/forged/out"), ("a", "2"), ("b", "3"),
                      ("source-topic", "another")],
    )  # fmt: skip
    message = client.wait("all")
    assert message.user == [("b", "1"), ("a", "2"), ("b", "3"), ("source-topic", "in/a/out")]
    properties = dict(message.properties)
    del properties["UserProperty"]
    assert 990 <= properties.pop("MessageExpiryInterval") <= 1000
    assert properties == {"ContentType": "application/x", "CorrelationData": b"\x00\x01"}


def test_nothing_but_the_source_where_nothing_was(
    client: Client, make_forwarder: Callable[..., Forwarder]
) -> None:
    """Also from a sender without MQTT 5 properties (FWD-003)."""
    make_forwarder()
    client.publish("in/a/out", b"x", qos=0)
    message = client.wait("all")
    assert message.properties == {"UserProperty": [("source-topic", "in/a/out")]}


def test_retained_messages(client: Client, make_forwarder: Callable[..., Forwarder]) -> None:
    """What the broker had kept is not forwarded; the flag is not either (FWD-007)."""
    client.publish("in/a/out", b"old", retain=True)
    make_forwarder()
    client.publish("in/a/out", b"new", retain=True)
    message = client.wait("all")
    assert (message.payload, message.retain) == (b"new", False)
    client.subscribe("all")
    client.publish("in/a/out", b"last")
    assert client.wait("all").payload == b"last"


def test_fan_out_and_chains(client: Client, make_forwarder: Callable[..., Forwarder]) -> None:
    """One source may have two destinations; a copy may be forwarded again (FWD-003)."""
    make_forwarder(("in/+/out", "all"), ("in/+/out", "x/1"), ("x/+", "all"))
    client.publish("in/a/out", b"x")
    sources = sorted(client.wait("all").user[-1][1] for _ in range(2))
    assert sources == ["in/a/out", "x/1"]


def test_prefix(broker: Mosquitto, make_forwarder: Callable[..., Forwarder]) -> None:
    """The source is told without it (FWD-003, WIRE-006)."""
    make_forwarder(prefix="site/a/")
    with Client(broker.port) as client:
        client.subscribe("#")
        client.publish("in/a/out", b"elsewhere")
        client.publish("site/a/in/a/out", b"here")
        message = client.wait("site/a/all")
        assert message.payload == b"here"
        assert message.user == [("source-topic", "in/a/out")]


def test_too_large_once_forwarded(
    client: Client, drops: Drops, make_forwarder: Callable[..., Forwarder]
) -> None:
    """The source fits the broker's 4 MiB and the copy does not: dropped, reported, not tried.

    (FWD-006)
    """
    make_forwarder(("i/+", "all"))
    limit = 4_194_304
    overhead = 1 + 4 + 2 + len("i/a") + 2 + 1
    client.publish("i/a", bytes(limit - overhead))
    client.publish("i/a", b"next")
    assert client.wait("all").payload == b"next"
    ((name, why),) = drops.wait(1)
    assert name == "forward_too_large"
    assert why.startswith("i/a -> all: ")
    assert f"the broker allows {limit}" in why


def test_as_large_as_fits(client: Client, make_forwarder: Callable[..., Forwarder]) -> None:
    """The limit is exact (FWD-006)."""
    make_forwarder(("i/+", "all"))
    copy = 1 + 4 + 2 + len("all") + 2 + 1 + 5 + len("source-topic") + len("i/a")
    client.publish("i/a", bytes(4_194_304 - copy))
    assert len(client.wait("all").payload) == 4_194_304 - copy


def test_rules_that_change(
    client: Client, drops: Drops, make_forwarder: Callable[..., Forwarder]
) -> None:
    """A reload subscribes and unsubscribes without losing the connection."""
    forwarder = make_forwarder()
    assert forwarder.apply([("new/+", "all")]) is None
    client.publish("in/a/out", b"no longer")
    client.publish("new/a", b"now")
    assert client.wait("all").payload == b"now"
    assert forwarder.apply([("new/+", "all"), ("in/+/out", "all")]) is None
    client.publish("in/a/out", b"again")
    assert client.wait("all").payload == b"again"
    assert drops.heard == []


def test_what_came_meanwhile_is_forwarded_later(
    client: Client, make_forwarder: Callable[..., Forwarder]
) -> None:
    """The broker keeps it, in order (FWD-004, FWD-005)."""
    make_forwarder().stop()
    for number in range(50):
        client.publish("in/a/out", str(number).encode())
    make_forwarder()
    arrived = client.wait_count(50)
    assert [int(message.payload) for message in arrived] == list(range(50))


def test_filters_of_an_earlier_process_are_left(
    client: Client, make_forwarder: Callable[..., Forwarder]
) -> None:
    """An older, wider filter in the session would make the broker deliver two copies."""
    make_forwarder(("in/#", "all")).stop()
    later = make_forwarder(("in/a/out", "all"))
    assert later.apply([("in/a/out", "all")], ["in/#"]) is None
    client.publish("in/a/out", b"one")
    client.publish("in/a/out", b"two")
    assert [client.wait("all").payload for _ in range(2)] == [b"one", b"two"]


def test_it_comes_back(broker: Mosquitto, make_forwarder: Callable[..., Forwarder]) -> None:
    """A broker that was killed forgot everything: the filters are subscribed again (WIRE-017)."""
    forwarder = make_forwarder()
    for _ in range(2):
        broker.kill()
        broker.start()
        assert forwarder.wait_connected(DEADLINE_S)
        with Client(broker.port) as client:
            client.subscribe("all", "readied")
            _publish_until_readied(client)
            client.publish("in/a/out", b"x")
            assert client.wait("all").payload == b"x"


def _publish_until_readied(client: Client) -> None:
    """Publish on a topic that is forwarded until one arrives: then all filters are in force."""
    for _ in range(100):
        client.publish("ready", b"")
        try:
            client.wait("readied", patience_s=0.2)
        except AssertionError:
            continue
        return
    pytest.fail("nothing is forwarded")


@pytest.fixture
def strict_broker(
    make_broker: Callable[[], Mosquitto], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Mosquitto:
    """Return a broker that lets everybody use `in/#` and `all` only."""
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite in/#\ntopic readwrite all\n")
    user = "user root\n" if tmp_path.owner() == "root" else ""
    monkeypatch.setattr(broker_setup, "CONFIG", f"{broker_setup.CONFIG}{user}acl_file {acl}\n")
    return make_broker()


def test_a_copy_that_the_broker_refuses(
    strict_broker: Mosquitto, drops: Drops, make_forwarder: Callable[..., Forwarder]
) -> None:
    """It is dropped and told (FWD-006)."""
    make_forwarder(("in/+/out", "forbidden"), ("in/last", "all"), port=strict_broker.port)
    with Client(strict_broker.port) as client:
        client.subscribe("all")
        client.publish("in/a/out", b"x")
        client.publish("in/last", b"y")
        assert client.wait("all").payload == b"y"
    ((name, why),) = drops.wait(1)
    assert name == "forward_refused"
    assert "in/a/out: the broker refused it: Not authorized" in why


def test_one_that_fails_does_not_come_again(
    client: Client, drops: Drops, make_forwarder: Callable[..., Forwarder], monkeypatch: Any
) -> None:
    """It is dropped and told (FWD-006)."""
    forwarder = make_forwarder()
    plan = forwarder._plan

    class Broken:
        def targets(self, topic: str) -> tuple[str, ...]:
            if topic == "in/bad/out":
                raise RuntimeError("boom")
            return plan.targets(topic)

    monkeypatch.setattr(forwarder, "_plan", Broken())
    client.publish("in/bad/out", b"x")
    client.publish("in/a/out", b"y")
    assert client.wait("all").payload == b"y"
    assert drops.wait(1) == [("forward_failed", "RuntimeError('boom')")]


def test_no_broker_yet(broker: Mosquitto, drops: Drops) -> None:
    """It waits for a broker that starts later."""
    broker.kill()
    settings = BrokerSettings(broker=broker.url)
    forwarder = Forwarder(settings, Login(), rng=random.Random(1), dropped=drops, fatal=pytest.fail)
    forwarder.apply(RULES)
    forwarder.start()
    assert not forwarder.wait_connected(0.3)
    broker.start()
    assert forwarder.wait_connected(DEADLINE_S)
    forwarder.stop()


def test_a_session_taken_over_ends_the_process() -> None:
    """By the reason code of MQTT 5; mosquitto 2.0.11 hangs up without one (WIRE-018, FWD-008)."""
    heard: list[str] = []
    forwarder = Forwarder(
        BrokerSettings(), Login(), rng=random.Random(1), dropped=Drops(), fatal=heard.append
    )
    flags = paho.DisconnectFlags(is_disconnect_packet_from_server=True)
    reason = ReasonCode(PacketTypes.DISCONNECT, "Session taken over")
    forwarder._connection._on_disconnect(paho.Client(CallbackAPIVersion.VERSION2), None, flags,
                                         reason, None)  # fmt: skip
    (why,) = heard
    assert why.startswith("another process connected as 'manager-fwd'")


def test_two_that_take_turns_end_the_process(broker: Mosquitto, drops: Drops) -> None:
    """Mosquitto 2.0 says nothing: connections that never last mean the same."""
    heard: list[str] = []
    ended = threading.Event()

    def fatal(reason: str) -> None:
        heard.append(reason)
        ended.set()

    settings = BrokerSettings(broker=broker.url)
    forwarder = Forwarder(settings, Login(), rng=random.Random(1), dropped=drops, fatal=fatal)
    forwarder.start()
    assert forwarder.wait_connected(DEADLINE_S)
    with Client(broker.port, name="manager-fwd", reconnect_s=0.05):
        assert ended.wait(DEADLINE_S)
        forwarder.stop()
    assert "another process connected as 'manager-fwd'" in heard[0]
