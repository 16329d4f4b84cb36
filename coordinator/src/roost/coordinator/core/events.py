"""What happens to the coordinator. Every event carries its time in epoch seconds."""

from dataclasses import dataclass
from typing import TypeAlias

from roost.chassis.core import Connected, Disconnected, Started, TimerFired
from roost.coordinator.core.facts import TaskFact
from roost.coordinator.core.seats import Arrival
from roost.protocol.round.messages import (
    Adopt,
    ExperimentStart,
    ModelIndex,
    Rollback,
    RoundStart,
)
from roost.wire.blob import Manifest
from roost.wire.refusal import Refusal


@dataclass(frozen=True, slots=True)
class RoundOrdered:
    """A readable start came; ``payload`` is its text as it came."""

    at: float
    start: RoundStart
    payload: str
    sha256: str


@dataclass(frozen=True, slots=True)
class RoundUnreadable:
    """A start came of which only the id can be read."""

    at: float
    round_id: str
    sha256: str
    refusal: Refusal
    detail: str


@dataclass(frozen=True, slots=True)
class OrderRefused:
    """An order or update came that belongs to no round."""

    at: float
    refusal: Refusal
    detail: str


@dataclass(frozen=True, slots=True)
class UpdateArrived:
    """A readable update lies in the spool; ``round_id`` is the source topic's."""

    at: float
    round_id: str
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class UpdateOffered:
    """An update came as a manifest."""

    at: float
    round_id: str
    sender: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class UpdateUnreadable:
    """An update came that cannot be used whatever the round; nothing of it is kept."""

    at: float
    round_id: str
    sender: str
    refusal: Refusal
    detail: str


@dataclass(frozen=True, slots=True)
class TaskChanged:
    """The state of a task that a start launched."""

    at: float
    round_id: str
    participant: str
    fact: TaskFact


@dataclass(frozen=True, slots=True)
class PropletSeen:
    """A presence came, retained or not; it may say that the proplet is offline."""

    at: float
    proplet_id: str
    offline: bool = False


@dataclass(frozen=True, slots=True)
class IndexRead:
    """The index came on the present connection."""

    at: float
    index: ModelIndex


@dataclass(frozen=True, slots=True)
class BaseRead:
    """A model file was fetched, verified and kept; answers ``FetchModel``."""

    at: float
    for_id: str
    shapes: str
    dtypes: str
    summary: str


@dataclass(frozen=True, slots=True)
class BaseUnavailable:
    """A model file could not be fetched; answers ``FetchModel``."""

    at: float
    for_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class Averaged:
    """The average is on disk; answers ``Average``."""

    at: float
    round_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class AverageFailed:
    """There is no average; answers ``Average``."""

    at: float
    round_id: str
    refusal: Refusal
    detail: str


@dataclass(frozen=True, slots=True)
class RollbackOrdered:
    """A rollback was asked for."""

    at: float
    order: Rollback


@dataclass(frozen=True, slots=True)
class AdoptionOrdered:
    """A model shall be taken for this coordinator's own."""

    at: float
    order: Adopt


@dataclass(frozen=True, slots=True)
class ExperimentOrdered:
    """An experiment was asked for; ``payload`` is its text as it came."""

    at: float
    order: ExperimentStart
    payload: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ExperimentStopOrdered:
    """An experiment shall end after its running round."""

    at: float
    experiment_id: str
    reason: str


RoundEvent: TypeAlias = (
    UpdateArrived
    | UpdateOffered
    | UpdateUnreadable
    | TaskChanged
    | PropletSeen
    | IndexRead
    | BaseRead
    | BaseUnavailable
    | Averaged
    | AverageFailed
    | Connected
    | Disconnected
    | TimerFired
)
"""What can happen to a round that was started."""

Event: TypeAlias = (
    RoundEvent
    | Started
    | RoundOrdered
    | RoundUnreadable
    | OrderRefused
    | RollbackOrdered
    | AdoptionOrdered
    | ExperimentOrdered
    | ExperimentStopOrdered
)
