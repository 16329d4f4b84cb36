"""The transport over a connection: nothing piles up, nothing too large is sent."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from roost.chassis.blobs import manifest_of, offer
from roost.chassis.effects import Publish
from roost.chassis.errors import ChassisError, FetchTimeout
from roost.chassis.session import Session
from roost.chassis.settings import BrokerSettings
from roost.chassis.transfer import Fetcher
from roost.proplet.adapters.mqtt import MqttTransport
from roost.proplet.errors import OutputRefused

WAIT_S = 10.0


class Broker(Protocol):
    """A real broker."""

    url: str


def transport_to(url: str) -> MqttTransport:
    """Return a transport that is not connected yet."""
    session = Session(BrokerSettings(broker=url), "p1", rng=random.Random(1), clean=True)
    return MqttTransport(session, Fetcher(session))


@pytest.fixture
def transport(broker: Broker) -> Iterator[MqttTransport]:
    """Return a connected transport."""
    made = transport_to(broker.url)
    made.session.start()
    assert made.session.wait_connected(WAIT_S)
    yield made
    made.session.stop()


def test_without_a_broker_nothing_is_handed_over() -> None:
    """It would wait in memory, once per try."""
    taken = []

    def messages() -> Iterator[Publish]:
        taken.append(1)
        yield Publish("to")

    with pytest.raises(FetchTimeout, match="no broker"):
        transport_to("mqtt://127.0.0.1:1").send(messages(), 0.01)
    assert taken == []


@pytest.mark.system
def test_what_is_too_large_is_refused(transport: MqttTransport) -> None:
    """Before it is sent: the broker would end the connection (WIRE-019)."""
    limit = transport.session.max_packet_bytes
    assert limit is not None
    with pytest.raises(OutputRefused, match=f"the broker allows {limit}"):
        transport.send([Publish("to", b"x" * limit)], WAIT_S)
    assert transport.session.connected


@pytest.mark.system
def test_topics_and_blobs_are_fetched(transport: MqttTransport, tmp_path: Path) -> None:
    """Into files; what is not there is said."""
    body = tmp_path / "body"
    body.write_bytes(b"x" * 300_000)
    manifest = manifest_of("p1", body)
    transport.send([*offer(manifest, body), Publish("given", b"payload", retain=True)], WAIT_S)
    into = tmp_path / "into"
    transport.fetch_topic("given", into, WAIT_S)
    assert into.read_bytes() == b"payload"
    transport.fetch_blob("p1", manifest.sha256, into, WAIT_S)
    assert into.read_bytes() == body.read_bytes()
    with pytest.raises(ChassisError):
        transport.fetch_blob("p1", "0" * 64, into, 0.1)
