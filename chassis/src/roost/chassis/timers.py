"""Timers by key. Which is due next is known without looking at all of them."""

import heapq
from collections.abc import Mapping
from typing import Final

_SPARE: Final = 64


class Timers:
    """Keys and the Unix seconds at which each is due."""

    def __init__(self, timers: Mapping[str, float]) -> None:
        """Begin with these."""
        self._at = dict(timers)
        self._heap: list[tuple[float, str]] = []
        self._renew()

    def set(self, key: str, at: float) -> None:
        """Set a timer, or put it to another time."""
        self._at[key] = at
        heapq.heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self._at) + _SPARE:
            self._renew()

    def clear(self, key: str) -> bool:
        """Forget a timer, and tell whether there was one."""
        return self._at.pop(key, None) is not None

    def take(self, key: str, at: float) -> bool:
        """Forget a timer if it is set to this very time, and tell whether it was."""
        if self._at.get(key) != at:
            return False
        del self._at[key]
        return True

    @property
    def due_at(self) -> float | None:
        """When the next one is due."""
        while self._heap and not self._holds(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float, limit: int) -> list[tuple[float, str]]:
        """Return time and key of the first that are due, the earliest first; ``take`` ends each."""
        found: list[tuple[float, str]] = []
        while self._heap and self._heap[0][0] <= now and len(found) < limit:
            entry = heapq.heappop(self._heap)
            if self._holds(*entry) and entry not in found[-1:]:
                found.append(entry)
        return found

    def _holds(self, at: float, key: str) -> bool:
        return self._at.get(key) == at

    def _renew(self) -> None:
        """Build the heap from what holds; cleared and moved timers leave entries behind."""
        self._heap = [(at, key) for key, at in self._at.items()]
        heapq.heapify(self._heap)
