"""The rules of connections, on a real mosquitto that is killed and comes back."""

import queue
import random
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import MAX_BACKOFF_S, Session, Token
from roost.chassis.settings import BrokerSettings
from roost.chassis.transfer import send_all

WAIT_S = 20.0


class Broker(Protocol):
    """A real broker that can be killed and brought back."""

    url: str
    port: int

    def kill(self) -> None:
        """End it as ``kill -9`` does."""

    def start(self) -> None:
        """Start it and wait until it listens."""


@pytest.fixture
def connect(broker: Broker) -> Iterator[Callable[[str], Session]]:
    """Return a function that connects a session of a client id, with a topic prefix."""
    opened: list[Session] = []

    def make(client_id: str) -> Session:
        settings = BrokerSettings(broker=broker.url, topic_prefix="house-7/")
        session = Session(settings, client_id, rng=random.Random(1))
        opened.append(session)
        session.start()
        assert session.wait_connected(WAIT_S)
        return session

    yield make
    for session in opened:
        session.stop()


def collect(session: Session, topic_filter: str) -> "queue.SimpleQueue[Received]":
    """Subscribe and return where messages arrive."""
    inbox: queue.SimpleQueue[Received] = queue.SimpleQueue()

    def take(received: Received, token: Token) -> None:
        session.ack(token)
        inbox.put(received)

    session.subscribe(topic_filter, take)
    return inbox


def test_filters_are_subscribed_again(broker: Broker, connect: Callable[[str], Session]) -> None:
    """A broker that forgot everything is told all filters anew (WIRE-017)."""
    session = connect("one")
    again = threading.Event()
    inboxes = [collect(session, "a/+"), collect(session, "b")]
    session.on_connected = lambda generation: again.set() if generation > 1 else None
    broker.kill()
    broker.start()
    assert again.wait(WAIT_S)
    send_all(session, [Publish("a/x", b"1"), Publish("b", b"2")], WAIT_S)
    assert [inbox.get(timeout=WAIT_S).payload for inbox in inboxes] == [b"1", b"2"]
    assert max(MAX_BACKOFF_S) <= 30


def test_a_session_taken_over_is_told(connect: Callable[[str], Session]) -> None:
    """The first of two connections with one client id hears why it must end (WIRE-018)."""
    first = connect("same")
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    first.on_fatal = told.put
    connect("same")
    assert "another process connected with this client id" in told.get(timeout=WAIT_S)


def test_the_prefix_is_nowhere_but_before_topics(
    broker: Broker, connect: Callable[[str], Session]
) -> None:
    """On the broker topics have it, inside they have not (WIRE-006); QoS is 1 (WIRE-005)."""
    session = connect("one")
    inbox = collect(session, "a/b")
    raw: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    ready: queue.SimpleQueue[None] = queue.SimpleQueue()
    # An MQTT 3.1.1 client, as mosquitto_sub is one: it takes part (WIRE-004).
    plain = paho.Client(CallbackAPIVersion.VERSION2, "plain", protocol=paho.MQTTv311)
    plain.on_message = lambda _client, _userdata, message: raw.put((message.topic, message.qos))
    plain.on_subscribe = lambda *_: ready.put(None)
    plain.on_connect = lambda client, *_: client.subscribe("#", qos=2)
    plain.connect("127.0.0.1", broker.port)
    plain.loop_start()
    ready.get(timeout=WAIT_S)
    send_all(session, [Publish("a/b", b"1", properties=(("k", "v"),))], WAIT_S)
    assert raw.get(timeout=WAIT_S) == ("house-7/a/b", 1)
    assert inbox.get(timeout=WAIT_S).topic == "a/b"
    plain.publish("house-7/a/b", b"2", qos=1)
    assert inbox.get(timeout=WAIT_S).payload == b"2"
    plain.disconnect()
    plain.loop_stop()
