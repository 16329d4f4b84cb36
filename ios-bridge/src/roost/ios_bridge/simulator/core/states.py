"""What a phone knows, what happens to it, and what it wants done."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from roost.protocol.phone.messages import (
    PhoneAsleep,
    PhoneOrder,
    PhoneReport,
    PhoneState,
    PhoneTask,
    Reading,
)
from roost.protocol.phone.policy import Senses
from roost.protocol.task.messages import FailureReason, Resources, Usage

Key: TypeAlias = tuple[str, int]
"""Task id and attempt."""


class Stage(StrEnum):
    """How far a phone is with the task of its order."""

    RESTING = "resting"  # not begun, or paused: the guest does not run
    WORKING = "working"  # files are fetched, or the guest runs
    HANDING_IN = "handing in"  # the guest succeeded, its outputs are on their way
    ENDED = "ended"  # the final report is said, and said again


@dataclass(frozen=True, slots=True)
class Model:
    """What never changes of a phone.

    Attributes:
        app: Name and version of its program.
        boot_id: Changes when the program starts.
        resources: What it has.
        mounts: Names of its data.
    """

    app: str
    boot_id: str
    resources: Resources | None = None
    mounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """The task that a phone holds.

    Attributes:
        task: As the order named it.
        until: When its time is over, on the phone's clock.
        stage: How far it is.
        report: The final report, from ``ended`` on; the success to come while handing in.
    """

    task: PhoneTask
    until: float
    stage: Stage = Stage.RESTING
    report: PhoneReport | None = None

    @property
    def key(self) -> Key:
        """Which attempt of which task."""
        return (self.task.task_id, self.task.attempt)


@dataclass(frozen=True, slots=True)
class Handset:
    """A phone.

    Attributes:
        model: What never changes.
        connection_id: Of the present connection; None: there is none.
        senses: What its sensors said last.
        reading: The last of them.
        low: As the policy's last verdict said.
        order_id: The order that it follows.
        pause: Why that order says to rest.
        job: The task that it holds.
    """

    model: Model
    connection_id: str | None = None
    senses: Senses = field(default_factory=Senses)
    reading: Reading = field(default_factory=Reading)
    low: bool = False
    order_id: str | None = None
    pause: str | None = None
    job: Job | None = None

    @property
    def follows(self) -> bool:
        """Whether an order came on the present connection: an older one may be out of date."""
        return self.connection_id is not None and self.order_id is not None


@dataclass(frozen=True, slots=True)
class Connected:
    """The phone is connected, and subscribed to its orders."""

    at: float
    connection_id: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is lost, or the phone has gone to sleep."""

    at: float


@dataclass(frozen=True, slots=True)
class Sleeps:
    """The system sends the phone to sleep: the guest stops, then the connection ends."""

    at: float


@dataclass(frozen=True, slots=True)
class OrderCame:
    """The bridge says all that there is to do."""

    at: float
    order: PhoneOrder


@dataclass(frozen=True, slots=True)
class Felt:
    """The sensors say something."""

    at: float
    reading: Reading


@dataclass(frozen=True, slots=True)
class Beat:
    """Ten seconds went by."""

    at: float


@dataclass(frozen=True, slots=True)
class Began:
    """Image and inputs are there, the guest begins."""

    at: float
    key: Key


@dataclass(frozen=True, slots=True)
class Progressed:
    """The guest printed a JSON object."""

    at: float
    key: Key
    progress: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """The guest ended, or could not begin.

    Attributes:
        at: When.
        key: Which attempt.
        reason: None: it succeeded; else the name of its failure.
        message: What happened.
        exit_code: The guest's own, where it got that far.
        stderr_tail: The last of its standard error.
        usage: What it took.
    """

    at: float
    key: Key
    reason: FailureReason | None
    message: str | None = None
    exit_code: int | None = None
    stderr_tail: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class HandedIn:
    """The bridge has the outputs, or does not want them any more.

    Attributes:
        at: When.
        key: Of which attempt.
        wanted: False: the bridge says that no order names them.
    """

    at: float
    key: Key
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class HandInDelayed:
    """The outputs could not be handed in just now."""

    at: float
    key: Key


@dataclass(frozen=True, slots=True)
class Say:
    """Publish a message of the phone's."""

    message: PhoneState | PhoneReport | PhoneAsleep


@dataclass(frozen=True, slots=True)
class Work:
    """Fetch what the task needs, check it, run the guest; comes back as Began and Ended."""

    task: PhoneTask
    wall_s: float


@dataclass(frozen=True, slots=True)
class HandIn:
    """Hand in the outputs of the attempt; comes back as HandedIn or HandInDelayed."""

    task: PhoneTask


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop the guest of an attempt at once."""

    key: Key


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget the outputs of an attempt."""

    key: Key


Want: TypeAlias = Say | Work | HandIn | Halt | Drop
