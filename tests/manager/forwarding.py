"""What the tests of forwarding share."""

import threading

from .client import DEADLINE_S

RULES = (("in/+/out", "all"),)


class Drops:
    """Hears what was dropped."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self._changed = threading.Condition()

    def __call__(self, name: str, why: str) -> None:
        """Note it."""
        with self._changed:
            self.heard.append((name, why))
            self._changed.notify_all()

    def wait(self, count: int) -> list[tuple[str, str]]:
        """Wait for so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.heard) >= count, DEADLINE_S)
        return self.heard
