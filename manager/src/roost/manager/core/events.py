"""What can happen to the manager, beside the chassis' own events."""

from dataclasses import dataclass

from roost.manager.core.binding import Bindings
from roost.protocol.task.messages import Presence, Report


@dataclass(frozen=True, slots=True)
class Ordered:
    """A message came on a topic of orders, or on one that a workload binding names.

    Attributes:
        at: When.
        topic: Where.
        payload: Its bytes.
        retain: Whether the broker had kept it.
        response_topic: Where an answer is wanted.
        correlation: What the answer must carry.
    """

    at: float
    topic: str
    payload: bytes
    retain: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class ReportArrived:
    """A proplet reported on an attempt."""

    at: float
    proplet: str
    task_id: str
    report: Report


@dataclass(frozen=True, slots=True)
class PresenceArrived:
    """A proplet's presence, just sent or (``retained``) kept by the broker."""

    at: float
    presence: Presence
    retained: bool


@dataclass(frozen=True, slots=True)
class LifeSign:
    """A proplet's telemetry, just sent."""

    at: float
    proplet: str


@dataclass(frozen=True, slots=True)
class BindingsRead:
    """The workload bindings were read and are well formed."""

    at: float
    bindings: Bindings
    reload_id: str | None = None


@dataclass(frozen=True, slots=True)
class BindingsRefused:
    """The workload bindings were read and break a rule; those in force stay."""

    at: float
    why: str
    reload_id: str | None = None


@dataclass(frozen=True, slots=True)
class BindingsApplied:
    """The subscriptions are those of the bindings in force; or ``problem`` says what is not."""

    at: float
    reload_id: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ForwardDropped:
    """A message could not be forwarded and was dropped."""

    at: float
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class ReadBindings:
    """Effect: read the folder of workload bindings."""

    reload_id: str
    lane: str = "workloads"


@dataclass(frozen=True, slots=True)
class ApplyBindings:
    """Effect: subscribe to what the bindings read last name, and to no more.

    Attributes:
        launches_gone: Filters of launch rules that are no longer in force.
        forwards_gone: Filters of forward rules that are no longer in force.
        reload_id: The reload that brought them.
        lane: Bindings are read and applied one after the other.
    """

    launches_gone: tuple[str, ...] = ()
    forwards_gone: tuple[str, ...] = ()
    reload_id: str | None = None
    lane: str = "workloads"
