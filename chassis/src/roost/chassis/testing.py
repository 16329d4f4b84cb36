"""An in-memory broker and session for tests; held to the same contract as the real ones."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Done, Handler, Token, several
from roost.wire.topic import matches


@dataclass(slots=True)
class _Subscription:
    handler: Handler
    retained: bool
    as_published: bool


class MemoryBroker:
    """Keeps retained messages and routes; delivers in the publisher's thread."""

    def __init__(self) -> None:
        self.retained: dict[str, Publish] = {}
        self.published: list[Publish] = []
        self._sessions: list[MemorySession] = []

    def session(self, will: Publish | None = None) -> "MemorySession":
        """Return a new client; ``start`` connects it."""
        session = MemorySession(self, will)
        self._sessions.append(session)
        return session

    def route(self, message: Publish) -> None:
        """Deliver a message to everyone whose filter covers its topic."""
        self.published.append(message)
        if message.retain and message.payload:
            self.retained[message.topic] = message
        elif message.retain:
            self.retained.pop(message.topic, None)
        for session in list(self._sessions):
            session.deliver(message)

    def forget(self) -> None:
        """Lose all retained messages, as a killed broker does."""
        self.retained.clear()


@dataclass(slots=True)
class _Unacknowledged:
    received: Received
    handler: Handler = field(repr=False)


class MemorySession:
    """A session on a MemoryBroker; ``drop`` and ``start`` lose and regain the connection."""

    def __init__(self, broker: MemoryBroker, will: Publish | None = None) -> None:
        self._broker = broker
        self._will = will
        self._filters: dict[str, _Subscription] = {}
        self._mids = itertools.count(1)
        self._unacknowledged: dict[int, _Unacknowledged] = {}
        self._waiting: list[tuple[Publish, Done | None]] = []
        self._queued: list[Publish] = []
        self.generation = 0
        self._connected = False
        self.on_connected: Callable[[int], None] = lambda _generation: None
        self.on_disconnected: Callable[[], None] = lambda: None
        self.on_fatal: Callable[[str], None] = lambda _reason: None

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return self._connected

    def wait_connected(self, timeout_s: float) -> bool:  # noqa: ARG002 - never waits
        """Tell whether the connection stands."""
        return self._connected

    def start(self) -> None:
        """Connect: subscribe again, take what came meanwhile, send what waited."""
        self.generation += 1
        self._connected = True
        again = list(self._unacknowledged.values())
        self._unacknowledged.clear()
        for entry in again:
            self._hand_over(entry.received, entry.handler)
        for topic_filter in list(self._filters):
            self._send_retained(topic_filter)
        queued, self._queued = self._queued, []
        for message in queued:
            self.deliver(message)
        waiting, self._waiting = self._waiting, []
        for message, done in waiting:
            self.publish(message, done)
        self.on_connected(self.generation)

    def stop(self) -> None:
        """Close the connection in good order: no last will."""
        self._connected = False

    def drop(self) -> None:
        """Lose the connection: the last will is published."""
        self._connected = False
        if self._will is not None:
            self._broker.route(self._will)
        self.on_disconnected()

    def subscribe(
        self,
        topic_filters: str | Sequence[str],
        handler: Handler,
        *,
        retained: bool = True,
        as_published: bool = False,
    ) -> None:
        """Subscribe now and after every reconnect."""
        for topic_filter in several(topic_filters):
            self._filters[topic_filter] = _Subscription(handler, retained, as_published)
            if self._connected:
                self._send_retained(topic_filter)

    def unsubscribe(self, topic_filters: str | Sequence[str]) -> None:
        """End subscriptions."""
        for topic_filter in several(topic_filters):
            self._filters.pop(topic_filter, None)

    def _send_retained(self, topic_filter: str) -> None:
        subscription = self._filters[topic_filter]
        if not subscription.retained:
            return
        for topic, message in list(self._broker.retained.items()):
            if matches(topic_filter, topic):
                self._hand_over(_received(message, retain=True), subscription.handler)

    def publish(self, message: Publish, done: Done | None = None) -> None:
        """Publish, or wait until connected."""
        if not self._connected:
            self._waiting.append((message, done))
            return
        self._broker.route(message)
        if done is not None:
            done(None)

    def deliver(self, message: Publish) -> None:
        """Take a message of the broker in, if a filter covers it."""
        covering = [filter_ for filter_ in self._filters if matches(filter_, message.topic)]
        if not covering:
            return
        if not self._connected:
            self._queued.append(message)
            return
        subscription = self._filters[message.topic if message.topic in covering else covering[0]]
        retain = subscription.as_published and message.retain
        self._hand_over(_received(message, retain=retain), subscription.handler)

    def _hand_over(self, received: Received, handler: Handler) -> None:
        mid = next(self._mids)
        self._unacknowledged[mid] = _Unacknowledged(received, handler)
        handler(received, Token(self.generation, mid, 1))

    def ack(self, token: Token) -> None:
        """Acknowledge a message of the present connection."""
        if token.generation == self.generation:
            self._unacknowledged.pop(token.mid, None)


def _received(message: Publish, *, retain: bool) -> Received:
    return Received(
        topic=message.topic,
        payload=message.payload,
        retain=retain,
        content_type=message.content_type,
        properties=message.properties,
        correlation=message.correlation,
        expiry_s=message.expiry_s,
    )
