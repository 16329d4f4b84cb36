"""Forwarding is verbatim: the same bytes, in order, none lost, none doubled (real broker)."""

import random
from collections import defaultdict
from collections.abc import Callable
from hashlib import sha256

import pytest
from roost.manager.adapters.forwarder import Forwarder

from ..conftest import Mosquitto  # noqa: TID252 - the tests are no package
from .client import Client
from .forwarding import Drops

pytestmark = pytest.mark.system


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
