"""Effects that every core may return; the runner carries them out after the commit.

A core's other effects are frozen dataclasses of its own with a ``lane``: effects of one lane
are performed one after the other. Every effect may be performed twice (after a crash between
doing it and marking it done), so doing it twice must be harmless.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

Level: TypeAlias = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish one message, QoS 1, done when the broker acknowledged it.

    Attributes:
        topic: Without the configured prefix.
        payload: The bytes; empty with ``retain`` clears the topic.
        retain: Whether the broker keeps it. Retained messages are also kept in the store, and
            published again after every reconnect, because a broker may forget.
        expiry_s: MQTT 5 message expiry in seconds; None: never.
        content_type: MQTT 5 content type.
        correlation: MQTT 5 correlation data.
        properties: MQTT 5 user properties, in order.
        durable: False: sent once after the commit, neither journalled nor repeated.
    """

    topic: str
    payload: bytes = b""
    retain: bool = False
    expiry_s: float | None = None
    content_type: str | None = None
    correlation: bytes | None = None
    properties: tuple[tuple[str, str], ...] = ()
    durable: bool = True


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Ask for ``TimerFired(key)`` at a time; replaces the timer of that key.

    Attributes:
        key: Names the timer.
        at: Unix seconds on this service's clock.
    """

    key: str
    at: float


@dataclass(frozen=True, slots=True)
class ClearTimer:
    """Forget the timer of that key, if there is one."""

    key: str


@dataclass(frozen=True, slots=True)
class Note:
    """Write a log event, and count it in ``roost_events_total{event,reason}``. Not journalled.

    Attributes:
        event: ``noun.verb_past``.
        level: Log level.
        reason: Why, when something was refused, ignored or failed.
        fields: Further log fields, in order.
    """

    event: str
    level: Level = "info"
    reason: str | None = None
    fields: tuple[tuple[str, Any], ...] = ()


@runtime_checkable
class ServiceEffect(Protocol):
    """An effect of one service, journalled as JSON and performed by its registered function."""

    @property
    def lane(self) -> str:
        """Effects of one lane are performed in order."""


Effect: TypeAlias = Publish | SetTimer | ClearTimer | Note | ServiceEffect


def note(event: str, level: Level = "info", reason: str | None = None, **fields: Any) -> Note:
    """Return a Note with its fields as keywords."""
    return Note(event, level, reason, tuple(fields.items()))
