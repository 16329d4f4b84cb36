"""What can happen to a proplet. Each event carries its time, in seconds, as ``at``."""

from dataclasses import dataclass
from typing import Any

from roost.proplet.core.states import Outcome
from roost.protocol.task.messages import StopReason, TaskSpec


@dataclass(frozen=True, slots=True)
class StartArrived:
    """The manager orders an attempt of a task."""

    at: float
    task_id: str
    attempt: int
    remaining_s: float
    spec: TaskSpec


@dataclass(frozen=True, slots=True)
class StopArrived:
    """The manager ends an attempt and all before it, or has recorded its final report."""

    at: float
    task_id: str
    attempt: int
    reason: StopReason


@dataclass(frozen=True, slots=True)
class ResendArrived:
    """Someone missed the outputs of a task."""

    at: float
    task_id: str


@dataclass(frozen=True, slots=True)
class GuestStarted:
    """Image and inputs are there, the guest begins."""

    at: float
    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class GuestProgressed:
    """The guest printed a JSON object."""

    at: float
    task_id: str
    attempt: int
    progress: dict[str, Any]


@dataclass(frozen=True, slots=True)
class GuestEnded:
    """The attempt is over, whether or not its guest ever began."""

    at: float
    task_id: str
    attempt: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class OutputsSent:
    """The broker has all outputs of the attempt.

    Attributes:
        at: When.
        task_id: Whose outputs.
        attempt: Of which attempt.
        refused: Why they can never be sent; None: they were.
    """

    at: float
    task_id: str
    attempt: int
    refused: Outcome | None = None


@dataclass(frozen=True, slots=True)
class OutputsDelayed:
    """The outputs could not be sent just now."""

    at: float
    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class SaidOffline:
    """Somebody said on this proplet's own topic that it is away: an earlier connection's will."""

    at: float


@dataclass(frozen=True, slots=True)
class MountsFound:
    """The names of all data mounts, said once at the start and whenever they change."""

    at: float
    mounts: tuple[str, ...]
