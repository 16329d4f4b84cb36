"""The subscriptions of one connection, kept in step with what the broker's session holds.

The broker keeps a session while this side is away, so a subscription that ends meanwhile has to be
ended there after the next connect; else its messages would come for ever, with nobody to take
them. All changes are sent under one lock, so that the broker gets them in the order in which they
were made.

A filter may be wanted twice, when a topic is fetched to which somebody has subscribed anyway. The
later handler gets its messages, and the earlier one again once the later one is removed.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from paho.mqtt.subscribeoptions import SubscribeOptions
from roost.wire.topic import matches

if TYPE_CHECKING:
    from roost.chassis.session import Handler

FILTERS_A_PACKET: Final = 64
_STRAYS_TOLD: Final = 1000

Subscribe: TypeAlias = Callable[[list[tuple[str, SubscribeOptions]]], object]
Unsubscribe: TypeAlias = Callable[[list[str]], int | None]
"""Sends an UNSUBSCRIBE and returns its packet id; None if it could not be sent."""


class Subscriptions:
    """Which filters are wanted, and who handles their messages; used by any thread."""

    def __init__(self, subscribe: Subscribe, unsubscribe: Unsubscribe) -> None:
        """Use these functions to tell the broker; they must not wait for the network thread."""
        self._subscribe, self._unsubscribe = subscribe, unsubscribe
        self._lock = threading.RLock()
        self._wanted: dict[str, tuple[Handler, SubscribeOptions]] = {}
        self._earlier: dict[str, tuple[Handler, SubscribeOptions]] = {}
        # Insertion-ordered sets.
        self._gone: dict[str, None] = {}
        self._leaving: dict[int, Sequence[str]] = {}
        self._strays: set[str] = set()
        self._open = False

    def add(self, names: Sequence[str], handler: "Handler", options: SubscribeOptions) -> None:
        """Subscribe now, if connected, and after every connect."""
        with self._lock:
            for name in names:
                before = self._wanted.get(name)
                if before is not None and before[0] != handler:
                    self._earlier[name] = before
                self._wanted[name] = (handler, options)
                self._gone.pop(name, None)
            if self._open:
                self._send(names)

    def remove(self, names: Sequence[str]) -> None:
        """End subscriptions, now or after the next connect, until the broker has confirmed it."""
        with self._lock:
            again = [name for name in names if name in self._earlier]
            gone = [name for name in names if name not in self._earlier]
            for name in again:
                self._wanted[name] = self._earlier.pop(name)
            for name in gone:
                self._wanted.pop(name, None)
                self._gone[name] = None
            if self._open and again:
                self._send(again)  # with the options of its own
            if self._open and gone:
                self._leave(gone)

    def opened(self) -> None:
        """Tell the broker everything: there is a new connection."""
        with self._lock:
            self._open = True
            self._leaving.clear()
            self._strays.clear()
            for some in _packets(self._gone):
                self._leave(some)
            for some in _packets(self._wanted):
                self._send(some)

    def closed(self) -> None:
        """Send nothing until there is another connection."""
        with self._lock:
            self._open = False

    def left(self, mid: int) -> None:
        """Forget the filters of an UNSUBSCRIBE that the broker has confirmed."""
        with self._lock:
            for name in self._leaving.pop(mid, ()):
                self._gone.pop(name, None)

    def stray(self, topic: str) -> None:
        """End the subscription that a message came by which nobody handles.

        An earlier process that was killed while it fetched an exact topic left it. Other filters
        cannot be told from the topic; their messages are only dropped.
        """
        with self._lock:
            told = topic in self._strays or len(self._strays) >= _STRAYS_TOLD
            if not told and self._open and self.handler(topic) is None:
                self._strays.add(topic)
                self._unsubscribe([topic])

    def handler(self, topic: str) -> "Handler | None":
        """Return one handler: for overlapping filters the broker sends a copy each."""
        with self._lock:
            exact = self._wanted.get(topic)
            if exact is not None:
                return exact[0]
            for name, (handler, _) in self._wanted.items():
                if matches(name, topic):
                    return handler
            return None

    def _send(self, names: Iterable[str]) -> None:
        self._subscribe([(name, self._wanted[name][1]) for name in names])

    def _leave(self, names: Sequence[str]) -> None:
        mid = self._unsubscribe(list(names))
        if mid is not None:
            self._leaving[mid] = names


def _packets(names: Iterable[str]) -> Iterator[Sequence[str]]:
    every = list(names)
    for first in range(0, len(every), FILTERS_A_PACKET):
        yield every[first : first + FILTERS_A_PACKET]
