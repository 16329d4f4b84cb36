"""One contract for the fake and the real session."""

import queue
import random
from collections.abc import Iterator
from typing import Protocol

import pytest
from roost.chassis.effects import Publish
from roost.chassis.ports import SessionPort
from roost.chassis.received import Received
from roost.chassis.session import Session, Token
from roost.chassis.settings import BrokerSettings
from roost.chassis.testing import MemoryBroker

DEADLINE_S = 10.0


class Broker(Protocol):
    """What the contract needs of a broker."""

    def connect(self, name: str) -> SessionPort:
        """Return a connected session of that client id."""


class RealBroker:
    """Sessions on a real mosquitto."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.sessions: list[Session] = []

    def connect(self, name: str) -> SessionPort:
        """Connect with paho."""
        session = Session(BrokerSettings(broker=self._url), name, rng=random.Random(1))
        self.sessions.append(session)
        session.start()
        assert session.wait_connected(DEADLINE_S)
        return session


class FakeBroker:
    """Sessions in memory."""

    def __init__(self) -> None:
        self._broker = MemoryBroker()

    def connect(self, name: str) -> SessionPort:  # noqa: ARG002 - has no names
        """Connect in memory."""
        session = self._broker.session()
        session.start()
        return session


@pytest.fixture(params=["memory", "mosquitto"])
def any_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """Return each implementation in turn."""
    if request.param == "memory":
        yield FakeBroker()
        return
    real = RealBroker(request.getfixturevalue("broker").url)
    yield real
    for session in real.sessions:
        session.stop()


class Inbox:
    """Collects what a session hands over."""

    def __init__(self, session: SessionPort, *, ack: bool = True) -> None:
        self._session, self._ack = session, ack
        self._queue: queue.SimpleQueue[tuple[Received, Token]] = queue.SimpleQueue()

    def __call__(self, received: Received, token: Token) -> None:
        """Take a message."""
        if self._ack:
            self._session.ack(token)
        self._queue.put((received, token))

    def next(self) -> Received:
        """Wait for a message."""
        return self._queue.get(timeout=DEADLINE_S)[0]

    @property
    def empty(self) -> bool:
        """Whether nothing is left."""
        return self._queue.empty()


def publish(session: SessionPort, message: Publish) -> str | None:
    """Publish and wait for the broker's answer."""
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    session.publish(message, answers.put)
    return answers.get(timeout=DEADLINE_S)


def test_a_message_arrives_as_it_was_sent(any_broker: Broker) -> None:
    """Bytes, content type, correlation data and user properties are carried."""
    reader, writer = any_broker.connect("reader"), any_broker.connect("writer")
    inbox = Inbox(reader)
    reader.subscribe("a/+", inbox)
    message = Publish(
        "a/b", b"\0\xff", content_type="x/y", correlation=b"\1", properties=(("k", "1"), ("k", "2"))
    )
    assert publish(reader, Publish("a/sync", b"")) is None
    assert inbox.next().topic == "a/sync"
    assert publish(writer, message) is None
    got = inbox.next()
    assert got == Received(
        "a/b",
        b"\0\xff",
        content_type="x/y",
        correlation=b"\1",
        properties=(("k", "1"), ("k", "2")),
    )
    assert got.property("k") == "2"
    assert got.property("other") is None


def test_retained_messages_come_on_subscribing(any_broker: Broker) -> None:
    """A late reader gets the last message, marked as retained; clearing removes it."""
    writer = any_broker.connect("writer")
    publish(writer, Publish("a/b", b"1", retain=True))
    publish(writer, Publish("a/b", b"2", retain=True))
    publish(writer, Publish("a/c", b"3", retain=True))
    publish(writer, Publish("a/c", b"", retain=True))
    reader = any_broker.connect("reader")
    inbox = Inbox(reader)
    reader.subscribe("a/#", inbox)
    got = inbox.next()
    assert (got.topic, got.payload, got.retain) == ("a/b", b"2", True)
    publish(writer, Publish("a/end"))
    assert inbox.next().topic == "a/end"
    assert inbox.empty


def test_retained_messages_can_be_declined(any_broker: Broker) -> None:
    """A subscription may ask for new messages only."""
    session = any_broker.connect("one")
    publish(session, Publish("a/b", b"old", retain=True))
    inbox = Inbox(session)
    session.subscribe("a/#", inbox, retained=False)
    publish(session, Publish("a/b", b"new"))
    assert inbox.next().payload == b"new"


def test_unsubscribed_topics_are_silent(any_broker: Broker) -> None:
    """After unsubscribing nothing of that filter arrives."""
    session = any_broker.connect("one")
    inbox = Inbox(session)
    session.subscribe("a", inbox)
    session.subscribe("b", inbox)
    session.unsubscribe("a")
    publish(session, Publish("a"))
    publish(session, Publish("b"))
    assert inbox.next().topic == "b"


def test_an_exact_topic_goes_before_a_filter(any_broker: Broker) -> None:
    """A fetch of one topic gets its message although a wider filter covers it, too."""
    session = any_broker.connect("one")
    wide, exact = Inbox(session), Inbox(session)
    session.subscribe("a/+", wide)
    session.subscribe("a/b", exact)
    publish(session, Publish("a/b", b"x"))
    publish(session, Publish("a/c", b"y"))
    assert exact.next().payload == b"x"
    assert wide.next().topic == "a/c"


def test_connected_is_told_with_a_generation(any_broker: Broker) -> None:
    """Every connection has its number, and tokens of an older one acknowledge nothing."""
    session = any_broker.connect("one")
    inbox = Inbox(session, ack=False)
    session.subscribe("a", inbox)
    publish(session, Publish("a"))
    inbox.next()
    session.ack(Token(0, 1, 1))
    assert session.connected


def test_a_retain_flag_is_seen_where_orders_come(any_broker: Broker) -> None:
    """An order may not be retained; elsewhere the flag tells what is old (WIRE-007)."""
    session = any_broker.connect("one")
    inbox = Inbox(session)
    session.subscribe("order", inbox, as_published=True)
    session.subscribe("state", inbox)
    publish(session, Publish("order", b"1", retain=True))
    publish(session, Publish("state", b"2", retain=True))
    publish(session, Publish("order", b"3"))
    got = [inbox.next() for _ in range(3)]
    assert [(each.payload, each.retain) for each in got] == [
        (b"1", True),
        (b"2", False),
        (b"3", False),
    ]
