"""What an event means to a task, given the attempt that is held."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from roost.ios_bridge.core.events import (
    OutputsDelayed,
    OutputsMissing,
    OutputsSent,
    PhoneReported,
    Prepared,
    ResendArrived,
    StartArrived,
    StopArrived,
    Unprepared,
)
from roost.ios_bridge.core.states import Held
from roost.protocol.phone.messages import PhoneReportStatus
from roost.protocol.task.messages import StopReason


class Happening(StrEnum):
    """What an event means to a task, given the attempt that is held."""

    NEW_START = "new start"  # of an attempt not heard of before
    SAME_START = "same start"
    STOP = "stop"
    RECORDED = "recorded"
    RESEND = "resend"
    TURN = "phone free and willing"
    PREPARED = "prepared"
    UNPREPARED = "image or inputs not to be had"
    BEGUN = "phone began"
    PROGRESSED = "phone progressed"
    PAUSED = "phone rests"
    SUCCEEDED = "phone succeeded"
    FAILED = "phone failed"
    SENT = "outputs sent"
    REFUSED = "outputs refused"
    DELAYED = "outputs delayed"
    MISSING = "outputs missing"
    RETRY = "time to repeat"
    DEADLINE = "deadline"
    STALE = "stale"  # of an attempt before the one that counts


@dataclass(frozen=True, slots=True)
class TurnCame:
    """The phone is this task's now."""

    at: float
    device: str
    task_id: str


@dataclass(frozen=True, slots=True)
class RetryDue:
    """It is time to send again what was not answered."""

    at: float
    device: str
    task_id: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The task's time is over."""

    at: float
    device: str
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
    attempt = event.report.attempt if isinstance(event, PhoneReported) else event.attempt
    return _classify_news(event) if attempt == known else Happening.STALE


_PLAIN: Final[Mapping[type, Happening]] = {
    ResendArrived: Happening.RESEND,
    TurnCame: Happening.TURN,
    RetryDue: Happening.RETRY,
    DeadlinePassed: Happening.DEADLINE,
}
_REPORTED: Final[Mapping[PhoneReportStatus, Happening]] = {
    PhoneReportStatus.RUNNING: Happening.BEGUN,
    PhoneReportStatus.PROGRESS: Happening.PROGRESSED,
    PhoneReportStatus.PAUSED: Happening.PAUSED,
    PhoneReportStatus.SUCCEEDED: Happening.SUCCEEDED,
    PhoneReportStatus.FAILED: Happening.FAILED,
}
_NEWS: Final[Mapping[type, Happening]] = {
    Prepared: Happening.PREPARED,
    Unprepared: Happening.UNPREPARED,
    OutputsDelayed: Happening.DELAYED,
    OutputsMissing: Happening.MISSING,
}


def _classify_news(event: Any) -> Happening:
    if isinstance(event, PhoneReported):
        return _REPORTED[event.report.status]
    if isinstance(event, OutputsSent):
        return Happening.REFUSED if event.refused else Happening.SENT
    return _NEWS[type(event)]
