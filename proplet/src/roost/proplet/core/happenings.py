"""What an event means to a task, given the attempt that is held."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from roost.proplet.core.events import (
    GuestEnded,
    GuestProgressed,
    GuestStarted,
    OutputsDelayed,
    OutputsSent,
    ResendArrived,
    StartArrived,
    StopArrived,
)
from roost.proplet.core.states import Held
from roost.protocol.task.messages import StopReason


class Happening(StrEnum):
    """What an event means to a task, given the attempt that is held."""

    NEW_START = "new start"  # of an attempt not heard of before
    SAME_START = "same start"
    STOP = "stop"
    RECORDED = "recorded"
    RESEND = "resend"
    SLOT = "slot free"
    STARTED = "guest started"
    PROGRESSED = "guest progressed"
    SUCCEEDED = "guest succeeded"
    FAILED = "attempt failed"
    SENT = "outputs sent"
    REFUSED = "outputs refused"
    DELAYED = "outputs delayed"
    RETRY = "time to repeat"
    DEADLINE = "deadline"
    STALE = "stale"  # of an attempt before the one that counts


@dataclass(frozen=True, slots=True)
class SlotFreed:
    """A run slot is this task's now."""

    at: float
    task_id: str


@dataclass(frozen=True, slots=True)
class RetryDue:
    """It is time to send again what was not answered."""

    at: float
    task_id: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The task's time is over."""

    at: float
    task_id: str


def classify(held: Held | None, event: Any) -> Happening:
    """Tell what an event means, given the attempt that is held."""
    known = 0 if held is None else held.attempt
    if isinstance(event, StartArrived):
        if event.attempt > known:
            return Happening.NEW_START
        return Happening.SAME_START if event.attempt == known else Happening.STALE
    if isinstance(event, StopArrived):
        if event.attempt < known:
            return Happening.STALE
        recorded = event.reason is StopReason.RECORDED
        return Happening.RECORDED if recorded else Happening.STOP
    plain = _PLAIN.get(type(event))
    if plain is not None:
        return plain
    return _classify_news(event) if event.attempt == known else Happening.STALE


_PLAIN: Final[Mapping[type, Happening]] = {
    ResendArrived: Happening.RESEND,
    SlotFreed: Happening.SLOT,
    RetryDue: Happening.RETRY,
    DeadlinePassed: Happening.DEADLINE,
}
_NEWS: Final[Mapping[type, Happening]] = {
    GuestStarted: Happening.STARTED,
    GuestProgressed: Happening.PROGRESSED,
    OutputsDelayed: Happening.DELAYED,
}


def _classify_news(event: Any) -> Happening:
    if isinstance(event, GuestEnded):
        return Happening.FAILED if event.outcome.reason else Happening.SUCCEEDED
    if isinstance(event, OutputsSent):
        return Happening.REFUSED if event.refused else Happening.SENT
    return _NEWS[type(event)]
