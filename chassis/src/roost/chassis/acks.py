"""Acknowledgements in the order in which their messages came (MQTT 5.0, [MQTT-4.6.0-2]).

Messages are finished in any order: a fetched chunk at once, an event after its commit. A broker
may end a connection whose PUBACKs are out of order, so an early one waits for those before it.
"""

import threading
from collections import deque
from collections.abc import Callable


class AckOrder:
    """Sends the acknowledgements of one connection; any thread may finish a message."""

    def __init__(self, send: Callable[[int], object]) -> None:
        """Use ``send`` to acknowledge a packet id."""
        self._send = send
        self._lock = threading.Lock()
        self._came: deque[int] = deque()
        self._finished: set[int] = set()
        self._generation = 0

    def restart(self, generation: int) -> None:
        """Forget the messages of the last connection; the broker sends them again."""
        with self._lock:
            self._generation = generation
            self._came.clear()
            self._finished.clear()

    def came(self, mid: int) -> None:
        """Take note of a message, in the order of arrival."""
        with self._lock:
            self._came.append(mid)

    def finish(self, generation: int, mid: int) -> None:
        """Acknowledge a message once all before it are; one of another connection is nobody's."""
        with self._lock:
            if generation != self._generation:
                return
            self._finished.add(mid)
            while self._came and self._came[0] in self._finished:
                first = self._came.popleft()
                self._finished.discard(first)
                self._send(first)
