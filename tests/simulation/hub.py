"""Virtual time on one thread: events in the order of their moments, and tasks that wait.

A task is a greenlet: code that waits, such as a real performer that awaits an acknowledgement,
runs in one unchanged, and can be killed wherever it waits.
"""

import heapq
import queue
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from greenlet import greenlet

EPOCH: Final = 1_800_000_000.0
"""Unix seconds at which every run begins."""


class Killed(BaseException):
    """Ends everything that a process was doing; ``except Exception`` does not hold it up."""


class Hub:
    """The virtual clock and what happens next."""

    def __init__(self) -> None:
        self.now = EPOCH
        self._count = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._main = greenlet.getcurrent()

    def at(self, moment: float, call: Callable[[], None]) -> None:
        """Call something at a moment; calls of one moment keep their order."""
        self._count += 1
        heapq.heappush(self._events, (max(moment, self.now), self._count, call))

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something after a while."""
        self.at(self.now + seconds, call)

    def run(self, until: float) -> None:
        """Let everything happen up to a moment."""
        events = self._events
        while events and events[0][0] <= until:
            moment, _, call = heapq.heappop(events)
            self.now = moment
            call()
        self.now = max(self.now, until)

    def spawn(self, work: Callable[[], None]) -> "Task":
        """Begin a task now; it runs until it waits for the first time."""
        return Task(self, work)

    def suspend(self) -> Any:
        """Leave the present task, until somebody resumes it; return what it is given."""
        return self._main.switch()

    @property
    def in_task(self) -> bool:
        """Whether a task is running."""
        return greenlet.getcurrent() is not self._main

    def sleep(self, seconds: float) -> None:
        """Let the present task wait."""
        task = greenlet.getcurrent()
        self.after(seconds, lambda: None if task.dead else task.switch())
        self.suspend()


class Task:
    """Work that may wait, and may be killed while it does."""

    def __init__(self, hub: Hub, work: Callable[[], None]) -> None:
        self._greenlet = greenlet(work, hub._main)
        self._greenlet.switch()

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return bool(self._greenlet.dead)

    def kill(self) -> None:
        """End it where it waits."""
        if not self._greenlet.dead and self._greenlet is not greenlet.getcurrent():
            self._greenlet.throw(Killed)


class SimQueue:
    """``queue.Queue`` and ``queue.SimpleQueue`` for tasks: waiting takes virtual time."""

    hub: Hub

    def __init__(self, maxsize: int = 0) -> None:
        self._room = maxsize or sys.maxsize
        self._items: deque[Any] = deque()
        self._waiting: deque[Any] = deque()

    def put(self, item: Any) -> None:
        """Add an item and wake the task that waits longest."""
        self._items.append(item)
        if self._waiting:
            waiter = self._waiting.popleft()
            self.hub.after(0.0, lambda: None if waiter.dead else waiter.switch())

    def put_nowait(self, item: Any) -> None:
        """Add an item.

        Raises:
            queue.Full: there is no room.
        """
        if len(self._items) >= self._room:
            raise queue.Full
        self.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest item, waiting for it.

        Raises:
            queue.Empty: none came in time.
        """
        if not self._items and block:
            self._wait(timeout)
        if not self._items:
            raise queue.Empty
        return self._items.popleft()

    def _wait(self, timeout: float | None) -> None:
        me = greenlet.getcurrent()
        self._waiting.append(me)
        if timeout is not None:
            self.hub.after(timeout, lambda: self._give_up(me))
        self.hub.suspend()

    def _give_up(self, waiter: Any) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            if not waiter.dead:
                waiter.switch()
