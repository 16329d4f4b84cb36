"""What a core is: a pure function from an event and the present states to a decision."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from roost.chassis.effects import Effect

Key: TypeAlias = tuple[str, str]
"""Kind and id of an entity."""


class Event(Protocol):
    """Anything that happened, with its time in Unix seconds on this service's clock."""

    @property
    def at(self) -> float:
        """When it happened."""


@dataclass(frozen=True, slots=True)
class Started:
    """The process started; states and timers are loaded, the broker is not connected yet."""

    at: float


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted the connection.

    Attributes:
        at: When.
        generation: Counts the connections of this process from 1.
    """

    at: float
    generation: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection to the broker was lost."""

    at: float


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer's time came; the timer is gone."""

    at: float
    key: str


class View(Protocol):
    """The present states, read only."""

    def get(self, kind: str, id_: str, /) -> Any:
        """Return the state of one entity, or None."""

    def all(self, kind: str, /) -> Mapping[str, Any]:
        """Return all entities of a kind by id, oldest first."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What shall change and be done because of one event.

    Attributes:
        puts: New states by (kind, id); None deletes. Committed in one transaction.
        effects: Carried out after the commit, in order.
    """

    puts: Mapping[Key, Any] = field(default_factory=dict)
    effects: tuple[Effect, ...] = ()

    def __add__(self, other: "Decision") -> "Decision":
        """Join two decisions; the second one's states win."""
        return Decision({**self.puts, **other.puts}, (*self.effects, *other.effects))


NOTHING = Decision()


class Core(Protocol):
    """All decisions of one service. Pure: no clock, I/O, randomness or logging inside.

    Attributes:
        kinds: Durable kinds of entities and their frozen dataclasses, stored as JSON.
        volatile: Kinds that live in memory only.
        effects: The service's own effect classes, stored as JSON.

    A core may also have ``cold``, a set of durable kinds that live on disk only, because they grow
    for ever: ``View.get`` looks them up one by one, ``View.all`` does not know them.
    """

    kinds: Mapping[str, type[Any]]
    volatile: frozenset[str]
    effects: tuple[type[Any], ...]

    def handle(self, event: Any, view: View) -> Decision:
        """Decide what one event changes."""


def cold_kinds(core: Core) -> frozenset[str]:
    """Return the kinds of a core that live on disk only."""
    found: frozenset[str] = getattr(core, "cold", frozenset())
    return found
