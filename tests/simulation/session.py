"""A client's side of a connection in virtual time; what ``roost.chassis.session`` does over paho.

A message is in flight until its PUBACK; after a reconnect it is sent again, in order, after the
subscriptions. All of it is memory: a killed process leaves nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random

from roost.chassis.acks import AckOrder
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Done, Handler, Token, several

from .broker import Option, SimBroker, covers
from .hub import Hub

BACKOFF_S = (0.1, 2.0)
_LOOK_S = 0.25


@dataclass(slots=True)
class _Outgoing:
    message: Publish
    done: Done | None


class SimSession:
    """One connection that comes back by itself."""

    max_packet_bytes: int | None = None

    def __init__(
        self,
        hub: Hub,
        broker: SimBroker,
        name: str,
        rng: Random,
        *,
        will: Publish | None = None,
        point: Callable[[str, str], None] = lambda _kind, _what: None,
        guard: Callable[[Callable[[], None]], None] = lambda call: call(),
    ) -> None:
        """Prepare.

        Args:
            hub: Virtual time.
            broker: Where to connect.
            name: Client id.
            rng: Source of delays.
            will: The last will.
            point: Called before whatever a crash may fall into.
            guard: Calls what handles a message, and sees to it when that is killed.
        """
        self.name = name
        self._hub, self._broker, self._rng, self._will = hub, broker, rng, will
        self._point, self._guard = point, guard
        self._filters: dict[str, tuple[Handler, Option]] = {}
        self._outgoing: dict[int, _Outgoing] = {}
        self._numbers = count(1)
        self._last_arrival = 0.0
        self._link = 0
        self._dead = False
        self._acks = AckOrder(self._send_ack)
        self.generation = 0
        self.connected = False
        self.on_connected: Callable[[int], None] = lambda _generation: None
        self.on_disconnected: Callable[[], None] = lambda: None
        self.on_fatal: Callable[[str], None] = lambda _reason: None

    def start(self) -> None:
        """Connect, and again whenever it is lost."""
        self._hub.after(self._rng.uniform(0.001, 0.05), self._try)

    def _try(self) -> None:
        if self._dead or self.connected:
            return
        if not self._broker.up:
            self._hub.after(self._rng.uniform(*BACKOFF_S), self._try)
            return
        self._link = self._broker.connect(self, self._will)
        self.generation += 1
        self.connected = True
        self._last_arrival = 0.0
        self._acks.restart(self.generation)
        self._say(lambda link: self._broker.subscribe(self.name, link, self._wanted()))
        for number in list(self._outgoing):
            self._transmit(number)
        self.on_connected(self.generation)

    def _wanted(self) -> list[tuple[str, Option]]:
        return [(name, option) for name, (_, option) in self._filters.items()]

    def stop(self) -> None:
        """Say goodbye."""
        self.kill()
        self._broker.disconnect(self.name)

    def kill(self) -> None:
        """Vanish with the process; the broker still gets what is under way, then the will."""
        self._dead = True
        if self.connected:
            self.connected = False
            link = self._link
            delay = max(self._last_arrival, self._hub.now)
            self._hub.at(delay, lambda: self._lost(link))

    def _lost(self, link: int) -> None:
        session = self._broker.subscribers.get(self.name)
        if session is not None and session.link == link and self._broker.up:
            self._broker.lose(self.name)

    def cut(self, link: int) -> None:
        """Lose the connection, and try again."""
        if not self.connected or link != self._link or self._dead:
            return
        self.connected = False
        self._hub.after(self._rng.uniform(*BACKOFF_S), self._try)
        self.on_disconnected()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until connected; False when the time ended first."""
        until = self._hub.now + timeout_s
        while not self.connected and self._hub.now < until:
            self._hub.sleep(min(_LOOK_S, until - self._hub.now))
        return self.connected

    # -- subscriptions -------------------------------------------------------------------------

    def subscribe(
        self,
        topic_filters: str | Sequence[str],
        handler: Handler,
        *,
        retained: bool = True,
        as_published: bool = False,
    ) -> None:
        """Subscribe now and after every reconnect."""
        option = Option(retained, as_published)
        wanted = [(name, option) for name in several(topic_filters)]
        self._filters.update({name: (handler, option) for name, _ in wanted})
        self._say(lambda link: self._broker.subscribe(self.name, link, wanted))

    def unsubscribe(self, topic_filters: str | Sequence[str]) -> None:
        """End subscriptions."""
        unwanted = several(topic_filters)
        for name in unwanted:
            self._filters.pop(name, None)
        self._say(lambda link: self._broker.unsubscribe(self.name, link, unwanted))

    def _say(self, packet: Callable[[int], None]) -> None:
        """Send a packet after all that were sent before."""
        if not self.connected or self._dead:
            return
        arrival = max(self._last_arrival, self._hub.now + self._delay())
        self._last_arrival = arrival
        link = self._link
        self._hub.at(arrival, lambda: packet(link))

    def _delay(self) -> float:
        weather = self._broker.weather
        delay = self._rng.uniform(*weather.base_s)
        if weather.late[0] and self._rng.random() < weather.late[0] / 2:
            delay += self._rng.uniform(0.0, weather.late[1])
        return delay

    # -- publishing ----------------------------------------------------------------------------

    def publish(self, message: Publish, done: Done | None = None) -> None:
        """Publish with QoS 1; while disconnected it waits in memory."""
        self._point("publish", message.topic)
        number = next(self._numbers)
        self._outgoing[number] = _Outgoing(message, done)
        if self.connected:
            self._transmit(number)

    def _transmit(self, number: int) -> None:
        message = self._outgoing[number].message

        def arrive(link: int) -> None:
            if self._broker.publish(self.name, link, message):
                self._hub.after(self._delay(), lambda: self._acknowledged(number, link))

        self._say(arrive)

    def _acknowledged(self, number: int, link: int) -> None:
        if self._dead or not self.connected or link != self._link:
            return
        outgoing = self._outgoing.pop(number, None)
        if outgoing is not None and outgoing.done is not None:
            done = outgoing.done
            self._guard(lambda: done(None))

    # -- receiving -----------------------------------------------------------------------------

    def deliver(self, received: Received, mid: int, link: int) -> None:
        """Take a message of the broker in."""
        if self._dead or not self.connected or link != self._link:
            return
        self._acks.came(mid)
        handler = self._handler(received.topic)
        token = Token(self.generation, mid, 1)
        if handler is None:
            self._guard(lambda: self.ack(token))
        else:
            self._guard(lambda: handler(received, token))

    def _handler(self, topic: str) -> Handler | None:
        exact = self._filters.get(topic)
        if exact is not None:
            return exact[0]
        for topic_filter, (handler, _) in self._filters.items():
            if covers(topic_filter, topic):
                return handler
        return None

    def ack(self, token: Token) -> None:
        """Acknowledge a message; nothing happens if its connection is gone."""
        self._point("ack", "")
        self._acks.finish(token.generation, token.mid)

    def _send_ack(self, mid: int) -> None:
        self._say(lambda link: self._broker.puback(self.name, link, mid))
