"""What is subscribed here and what the broker's session holds stay in step."""

import itertools
import queue
import random
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Session, Token
from roost.chassis.settings import BrokerSettings
from roost.chassis.subscriptions import FILTERS_A_PACKET, Subscriptions
from roost.chassis.transfer import send_all

from ..conftest import Mosquitto  # noqa: TID252 - the tests are no package

WAIT_S = 10.0
OPTIONS = SubscribeOptions(qos=1)


def take(_received: Received, _token: Token) -> None:
    """Handle nothing."""


class Wire:
    """What was told to the broker."""

    def __init__(self) -> None:
        self.told: list[tuple[str, list[str]]] = []
        self.lost = False
        self._mids = itertools.count(1)
        self.subscriptions = Subscriptions(self._subscribe, self._unsubscribe)

    def _subscribe(self, filters: list[tuple[str, SubscribeOptions]]) -> None:
        self.told.append(("subscribe", [name for name, _ in filters]))

    def _unsubscribe(self, filters: list[str]) -> int | None:
        self.told.append(("unsubscribe", filters))
        return None if self.lost else next(self._mids)

    def reconnect(self) -> list[tuple[str, list[str]]]:
        """Lose the connection, get another one, and return what is told on it."""
        self.subscriptions.closed()
        self.told.clear()
        self.subscriptions.opened()
        return self.told

    def add(self, *names: str) -> None:
        """Subscribe."""
        self.subscriptions.add(names, take, OPTIONS)


def test_everything_is_told_after_each_connect() -> None:
    """In packets of a bounded size; nothing while there is no connection (WIRE-017)."""
    wire = Wire()
    names = [f"t{number}" for number in range(FILTERS_A_PACKET + 1)]
    wire.add(*names)
    assert wire.told == []
    packets = [("subscribe", names[:-1]), ("subscribe", names[-1:])]
    assert wire.reconnect() == packets
    wire.add("more")
    assert wire.told == [*packets, ("subscribe", ["more"])]


def test_what_ends_without_a_connection_is_ended_after_the_next() -> None:
    """Until the broker has confirmed it (WIRE-031).

    Regression: it was forgotten, and its messages came as long as the session lived.
    """
    wire = Wire()
    wire.add("a", "b", "c")
    wire.subscriptions.remove(["a", "b"])
    wire.add("b")
    for _ in range(2):
        assert wire.reconnect() == [("unsubscribe", ["a"]), ("subscribe", ["c", "b"])]
    wire.subscriptions.left(2)
    assert wire.reconnect() == [("subscribe", ["c", "b"])]


def test_an_unsubscribe_that_was_lost_is_said_again() -> None:
    """Confirmed means confirmed on this connection (WIRE-031)."""
    wire = Wire()
    wire.add("a", "b")
    wire.reconnect()
    wire.subscriptions.remove(["a"])
    assert wire.reconnect() == [("unsubscribe", ["a"]), ("subscribe", ["b"])]
    wire.lost = True
    assert wire.reconnect()[0] == ("unsubscribe", ["a"])
    wire.subscriptions.left(3)
    assert wire.reconnect()[0] == ("unsubscribe", ["a"]), "3 was never told"


def test_a_fetch_takes_no_standing_subscription_away() -> None:
    """Its end gives the filter back to who had it before, with the options of its own.

    Regression: a task with the proplet's own presence as an input left it deaf to that topic.
    """
    wire = Wire()
    wire.reconnect()
    standing = SubscribeOptions(qos=1, retainAsPublished=True)
    subscriptions = wire.subscriptions

    def other(_received: Received, _token: Token) -> None:
        """Handle it too."""

    subscriptions.add(["a"], take, standing)
    for _ in range(2):
        subscriptions.add(["a", "b"], other, OPTIONS)
        assert subscriptions.handler("a") is other
    wire.told.clear()
    subscriptions.remove(["a", "b"])
    assert wire.told == [("subscribe", ["a"]), ("unsubscribe", ["b"])]
    assert subscriptions.handler("a") is take
    assert subscriptions._wanted["a"][1] is standing
    subscriptions.remove(["a"])
    assert subscriptions.handler("a") is None


def test_a_stray_message_ends_its_own_subscription_once() -> None:
    """Nothing that is wanted is ended, and nothing is repeated (WIRE-032)."""
    wire = Wire()
    wire.add("a/+")
    wire.reconnect().clear()
    for topic in ("a/1", "old", "old"):
        wire.subscriptions.stray(topic)
    assert wire.told == [("unsubscribe", ["old"])]
    wire.subscriptions.closed()
    wire.subscriptions.stray("older")
    assert wire.told == [("unsubscribe", ["old"])]


@pytest.fixture
def connect(broker: Mosquitto) -> Iterator[Callable[[], Session]]:
    """Return a function that starts a process's session; the client id is always the same."""
    opened: list[Session] = []

    def make() -> Session:
        session = Session(BrokerSettings(broker=broker.url), "one", rng=random.Random(1))
        opened.append(session)
        session.start()
        assert session.wait_connected(WAIT_S)
        return session

    yield make
    for session in opened:
        session.stop()


def subscribed(session: Session, *names: str) -> "queue.SimpleQueue[str]":
    """Subscribe, and return where the topics of messages arrive."""
    inbox: queue.SimpleQueue[str] = queue.SimpleQueue()

    def arrive(received: Received, token: Token) -> None:
        session.ack(token)
        inbox.put(received.topic)

    session.subscribe(names, arrive)
    return inbox


def synced(session: Session, inbox: "queue.SimpleQueue[str]", topic: str) -> None:
    """Wait until the broker has obeyed all that this session said."""
    send_all(session, [Publish(topic)], WAIT_S)
    while inbox.get(timeout=WAIT_S) != topic:
        pass


def left_at(broker: Mosquitto, topics: list[str], last: str) -> list[str]:
    """Connect with the session's id, without subscribing, and return which topics still come."""
    came: queue.SimpleQueue[str] = queue.SimpleQueue()
    ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
    heir = paho.Client(CallbackAPIVersion.VERSION2, "one", protocol=paho.MQTTv5)
    heir.on_connect = lambda *_: ready.put(None)
    heir.on_message = lambda _client, _userdata, message: came.put(message.topic)
    heir.connect("127.0.0.1", broker.port, clean_start=False)
    heir.loop_start()
    ready.get(timeout=WAIT_S)
    found = []
    for topic in (*topics, last):
        heir.publish(topic, b"x", qos=1)
    while not found or found[-1] != last:
        found.append(came.get(timeout=WAIT_S))
    heir.disconnect()
    heir.loop_stop()
    return found


def test_a_broker_forgets_what_ended_while_it_was_not_connected(
    broker: Mosquitto, connect: Callable[[], Session]
) -> None:
    """Its session is kept, its subscription is not (WIRE-031)."""
    session = connect()
    inbox = subscribed(session, "a", "b")
    synced(session, inbox, "b")
    session.stop()
    session.unsubscribe("a")
    session.start()
    assert session.wait_connected(WAIT_S)
    synced(session, inbox, "b")
    session.stop()
    assert left_at(broker, ["a"], "b") == ["b"]


def test_a_subscription_of_a_killed_process_is_ended_by_its_first_message(
    broker: Mosquitto, connect: Callable[[], Session]
) -> None:
    """The message is acknowledged, and dropped (WIRE-032)."""
    first = connect()
    synced(first, subscribed(first, "a", "b"), "b")
    first.stop()
    second = connect()
    inbox = subscribed(second, "b")
    send_all(second, [Publish("a")], WAIT_S)
    # The answer to what comes after the stray: it is dealt with by then.
    synced(second, inbox, "b")
    second.stop()
    assert left_at(broker, ["a"], "b") == ["b"]
