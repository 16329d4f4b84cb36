"""A broker in virtual time: sessions that it keeps, retained messages, acknowledgements, wills.

What it may do to a message is what MQTT 5 with QoS 1 allows: late, twice, in another order than
those of other topics, and not at all once the broker was killed. Order within a topic and a
session is kept, but for the second copies that a lost connection brings.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from random import Random
from typing import Protocol

from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.wire.topic import matches

from .hub import Hub

covers = lru_cache(100_000)(matches)


@dataclass(frozen=True, slots=True)
class Option:
    """How a filter is subscribed."""

    retained: bool = True
    as_published: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A message in the broker.

    Attributes:
        message: What was published.
        expires_at: When it is forgotten; None: never.
        retain: The flag with which it is delivered.
    """

    message: Publish
    expires_at: float | None
    retain: bool = False


class Client(Protocol):
    """The other end of a connection."""

    name: str

    def deliver(self, received: Received, mid: int, link: int) -> None:
        """Take a message."""

    def cut(self, link: int) -> None:
        """Learn that the connection is gone."""


@dataclass(slots=True)
class Subscriber:
    """What the broker knows of a client, connected or not."""

    filters: dict[str, Option] = field(default_factory=dict)
    queue: dict[int, Kept] = field(default_factory=dict)  # by mid, unacknowledged ones too
    will: Publish | None = None
    client: Client | None = None
    link: int = 0
    arrivals: dict[str, float] = field(default_factory=dict)  # per topic, to keep their order

    def copy(self) -> "Subscriber":
        """Return what a snapshot on disk holds."""
        return Subscriber(dict(self.filters), dict(self.queue))


@dataclass(slots=True)
class Weather:
    """What the network does now.

    Attributes:
        base_s: Shortest and longest time that a packet takes.
        late: Chance of a message to be late, and by how many seconds at most.
        twice: Chance of a message to be delivered twice.
        shuffled: Whether messages of different topics overtake each other.
    """

    base_s: tuple[float, float] = (0.001, 0.004)
    late: tuple[float, float] = (0.0, 0.0)
    twice: float = 0.0
    shuffled: float = 0.0


Watcher = Callable[[str, Publish], None]


class SimBroker:
    """Routes messages between sessions; may be killed and come back with less."""

    def __init__(self, hub: Hub, rng: Random, said: Callable[[str, str], None]) -> None:
        self._hub, self._rng, self._said = hub, rng, said
        self._links = count(1)
        self._mids = count(1)
        self.up = True
        self.weather = Weather()
        self.retained: dict[str, Kept] = {}
        self.subscribers: dict[str, Subscriber] = {}
        self.watchers: list[Watcher] = []
        self.acknowledged: Watcher = lambda _name, _message: None
        self.fired: Callable[[str], None] = lambda _kind: None
        self.kills = 0
        self._snapshot: tuple[dict[str, Kept], dict[str, Subscriber]] = ({}, {})

    # -- connections ---------------------------------------------------------------------------

    def connect(self, client: Client, will: Publish | None) -> int:
        """Accept a client and return the link's number; what it missed is sent again."""
        name = client.name
        session = self.subscribers.setdefault(name, Subscriber())
        if session.client is not None:
            self.lose(name, silently=False)
        session.link, session.client, session.will = next(self._links), client, will
        session.arrivals.clear()
        for mid in list(session.queue):
            self._send(name, session, mid)
        return session.link

    def lose(self, name: str, *, silently: bool = True) -> None:
        """Lose a client's connection; its will is published. ``silently``: it knows already."""
        session = self.subscribers.get(name)
        if session is None or session.client is None:
            return
        client, link, will = session.client, session.link, session.will
        session.client = session.will = None
        if not silently:
            client.cut(link)
        if will is not None:
            self.route(name, will)

    def disconnect(self, name: str) -> None:
        """End a connection in good order: no will."""
        session = self.subscribers.get(name)
        if session is not None:
            session.client = session.will = None

    def _is_link(self, name: str, link: int) -> bool:
        session = self.subscribers.get(name)
        return (
            self.up
            and session is not None
            and session.client is not None
            and (session.link == link)
        )

    # -- packets from clients ------------------------------------------------------------------

    def subscribe(self, name: str, link: int, wanted: Iterable[tuple[str, Option]]) -> None:
        """Take a SUBSCRIBE in and send what is retained."""
        if not self._is_link(name, link):
            return
        session = self.subscribers[name]
        for topic_filter, option in wanted:
            session.filters[topic_filter] = option
            if option.retained:
                for topic, kept in list(self.living()):
                    if covers(topic_filter, topic):
                        self._enqueue(
                            name, session, Kept(kept.message, kept.expires_at, retain=True)
                        )

    def unsubscribe(self, name: str, link: int, unwanted: Iterable[str]) -> None:
        """Take an UNSUBSCRIBE in."""
        if self._is_link(name, link):
            for topic_filter in unwanted:
                self.subscribers[name].filters.pop(topic_filter, None)

    def publish(self, name: str, link: int, message: Publish) -> bool:
        """Take a PUBLISH in; return whether there will be a PUBACK."""
        if not self._is_link(name, link):
            return False
        self.route(name, message)
        return True

    def puback(self, name: str, link: int, mid: int) -> None:
        """Forget a delivered message."""
        if self._is_link(name, link):
            kept = self.subscribers[name].queue.pop(mid, None)
            if kept is not None:
                self.acknowledged(name, kept.message)

    # -- routing -------------------------------------------------------------------------------

    def living(self) -> Iterator[tuple[str, Kept]]:
        """Yield the retained messages that have not expired."""
        now = self._hub.now
        for topic, kept in list(self.retained.items()):
            if kept.expires_at is not None and kept.expires_at <= now:
                del self.retained[topic]
            else:
                yield topic, kept

    def payload(self, topic: str) -> bytes | None:
        """Return what a retained topic holds."""
        found = dict(self.living()).get(topic)
        return None if found is None else found.message.payload

    def route(self, name: str, message: Publish) -> None:
        """Keep a retained message and hand it to all whose filters cover it."""
        for watch in self.watchers:
            watch(name, message)
        expires_at = None if message.expiry_s is None else self._hub.now + message.expiry_s
        kept = Kept(message, expires_at)
        if message.retain:
            self.retained.pop(message.topic, None)
            if message.payload:
                self.retained[message.topic] = kept
        for each, session in self.subscribers.items():
            for topic_filter, option in session.filters.items():
                if covers(topic_filter, message.topic):
                    flag = option.as_published and message.retain
                    wanted = Kept(message, expires_at, retain=True) if flag else kept
                    self._enqueue(each, session, wanted)

    def _enqueue(self, name: str, session: Subscriber, kept: Kept) -> None:
        mid = next(self._mids)
        session.queue[mid] = kept
        if session.client is not None:
            self._send(name, session, mid)

    def _send(self, name: str, session: Subscriber, mid: int) -> None:
        topic, weather, rng = session.queue[mid].message.topic, self.weather, self._rng
        delay = rng.uniform(*weather.base_s)
        if weather.late[0] and rng.random() < weather.late[0]:
            delay += rng.uniform(0.0, weather.late[1])
            self.fired("delay")
        lane = ""
        if weather.shuffled:
            lane = topic
            if rng.random() < weather.shuffled:
                delay += rng.uniform(0.0, 0.5)
                self.fired("reorder")
        arrival = max(self._hub.now + delay, session.arrivals.get(lane, 0.0))
        session.arrivals[lane] = arrival
        link = session.link
        copies = 1
        if weather.twice and rng.random() < weather.twice:
            copies = 2
            self.fired("double")
        for _ in range(copies):
            self._hub.at(arrival, lambda: self._arrive(name, link, mid))

    def _arrive(self, name: str, link: int, mid: int) -> None:
        if not self._is_link(name, link):
            return
        session = self.subscribers[name]
        kept = session.queue.get(mid)
        if kept is None:
            return  # acknowledged in between: its copy
        left = None if kept.expires_at is None else kept.expires_at - self._hub.now
        if left is not None and left <= 0:
            del session.queue[mid]
            return
        message = kept.message
        received = Received(
            topic=message.topic,
            payload=message.payload,
            retain=kept.retain,
            content_type=message.content_type,
            properties=message.properties,
            correlation=message.correlation,
            expiry_s=left,
        )
        assert session.client is not None
        self._said(name, "<- " + message.topic)
        session.client.deliver(received, mid, link)

    # -- faults --------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a snapshot to disk."""
        sessions = {name: session.copy() for name, session in self.subscribers.items()}
        self._snapshot = (dict(self.living()), sessions)

    def kill(self, *, forget: bool) -> None:
        """Die: every connection is lost, no will is sent; later it comes back with a snapshot."""
        self.up = False
        self.kills += 1
        clients = [(s.client, s.link) for s in self.subscribers.values() if s.client is not None]
        if forget:
            self._snapshot = ({}, {})
        retained, sessions = self._snapshot
        self.retained = dict(retained)
        self.subscribers = {name: session.copy() for name, session in sessions.items()}
        for client, link in clients:
            client.cut(link)

    def start(self) -> None:
        """Come back."""
        self.up = True
