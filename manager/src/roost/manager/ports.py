"""What the manager's adapters need of each other and of the chassis."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

Post: TypeAlias = Callable[[Any], None]
"""Hands an event to the core, from any thread."""


class Forwards(Protocol):
    """Sends messages on by the rules in force."""

    def apply(self, pairs: Iterable[tuple[str, str]], gone: Iterable[str] = ()) -> str | None:
        """Put other rules in force; return what went wrong."""


class LaunchTopics(Protocol):
    """Takes in the messages of launch rules."""

    def apply(self, topics: Iterable[str], gone: Iterable[str] = ()) -> None:
        """Subscribe to these filters, and no longer to those that are gone."""
