"""What the runner takes in, and what one group of events changes."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from roost.chassis.core import Key
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Token


class Inbox(Protocol):
    """Where items wait for their turn; ``queue.SimpleQueue`` is one."""

    def put(self, item: Any, /) -> None:
        """Add an item, from any thread."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest item, waiting for it.

        Raises:
            queue.Empty: none came in time.
        """

    def get_nowait(self) -> Any:
        """Take the oldest item.

        Raises:
            queue.Empty: there is none.
        """

    def qsize(self) -> int:
        """Return how many wait."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message came; its token acknowledges it."""

    received: Received
    token: Token


@dataclass(frozen=True, slots=True)
class Happened:
    """Something happened inside: a connection, a timer, a posted event."""

    event: Any


@dataclass(frozen=True, slots=True)
class Performed:
    """An effect was carried out, or ``given_up`` because of ``problem``."""

    entry: int
    events: tuple[Any, ...] = ()
    problem: str | None = None
    given_up: Any = None


@dataclass(frozen=True, slots=True)
class Stop:
    """The runner shall end."""


@dataclass(slots=True)
class Turn:
    """What one group of events changes."""

    puts: dict[Key, Any] = field(default_factory=dict)
    effects: list[Any] = field(default_factory=list)
    timers: dict[str, float | None] = field(default_factory=dict)
    set_aside: list[tuple[float, str, str]] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    republish: bool = False

    @property
    def durable(self) -> bool:
        """Whether there is anything to commit."""
        return bool(
            self.puts
            or self.timers
            or self.set_aside
            or any(not isinstance(effect, Publish) or effect.durable for effect in self.effects)
        )
