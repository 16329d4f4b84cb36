"""What can happen to the bridge. Each event carries its time, in seconds, as ``at``."""

from dataclasses import dataclass

from roost.ios_bridge.core.states import Outcome
from roost.protocol.phone.messages import (
    InvitePhone,
    PhoneFile,
    PhoneReport,
    PhoneState,
    Reading,
)
from roost.protocol.task.messages import StopReason, TaskSpec
from roost.wire.refusal import Refusal


@dataclass(frozen=True, slots=True)
class StartArrived:
    """The manager orders an attempt of a task."""

    at: float
    device: str
    task_id: str
    attempt: int
    remaining_s: float
    spec: TaskSpec


@dataclass(frozen=True, slots=True)
class StopArrived:
    """The manager ends an attempt and all before it, or has recorded its final report."""

    at: float
    device: str
    task_id: str
    attempt: int
    reason: StopReason


@dataclass(frozen=True, slots=True)
class ResendArrived:
    """Someone missed the outputs of a task."""

    at: float
    device: str
    task_id: str


@dataclass(frozen=True, slots=True)
class PhoneTold:
    """A phone that is awake says how it is."""

    at: float
    device: str
    state: PhoneState


@dataclass(frozen=True, slots=True)
class PhoneReported:
    """A phone has news of an attempt."""

    at: float
    device: str
    report: PhoneReport


@dataclass(frozen=True, slots=True)
class PhoneSlept:
    """A connection of a phone ended."""

    at: float
    device: str
    connection_id: str


@dataclass(frozen=True, slots=True)
class ReadingCame:
    """Something else than the phone's program knows how the phone is."""

    at: float
    device: str
    reading: Reading


@dataclass(frozen=True, slots=True)
class InviteArrived:
    """An operator invites a phone."""

    at: float
    invite: InvitePhone


@dataclass(frozen=True, slots=True)
class RevokeArrived:
    """An operator wants a phone to be forgotten."""

    at: float
    device: str


@dataclass(frozen=True, slots=True)
class OperatorRefused:
    """An operator's order could not be read."""

    at: float
    refusal: Refusal
    detail: str


@dataclass(frozen=True, slots=True)
class PairAsked:
    """Somebody shows a token and wants to be a phone; answered by ``Answer``.

    Attributes:
        at: When.
        request: Names the question.
        token_sha256: Digest of the token.
        secret_sha256: Digest of the password that the phone gets if the token is good.
    """

    at: float
    request: str
    token_sha256: str
    secret_sha256: str


@dataclass(frozen=True, slots=True)
class EntryAsked:
    """Somebody shows a phone's password; answered by ``Answer``.

    Attributes:
        at: When.
        request: Names the question.
        device: Who it says it is.
        secret_sha256: Digest of the password.
        output: Task, attempt and file that it wants to hand in; None: it only comes in.
    """

    at: float
    request: str
    device: str
    secret_sha256: str
    output: tuple[str, int, str] | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Image and inputs lie where the phone can get them."""

    at: float
    device: str
    task_id: str
    attempt: int
    image: PhoneFile
    inputs: tuple[PhoneFile, ...]


@dataclass(frozen=True, slots=True)
class Unprepared:
    """Image or inputs could not be had."""

    at: float
    device: str
    task_id: str
    attempt: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class OutputsSent:
    """The broker has all outputs of the attempt, or will never take them.

    Attributes:
        at: When.
        device: Whose task.
        task_id: Whose outputs.
        attempt: Of which attempt.
        refused: Why they can never be sent; None: they were.
    """

    at: float
    device: str
    task_id: str
    attempt: int
    refused: Outcome | None = None


@dataclass(frozen=True, slots=True)
class OutputsDelayed:
    """The outputs could not be sent just now."""

    at: float
    device: str
    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class OutputsMissing:
    """The phone reported success, and a file that it should have handed in is not here."""

    at: float
    device: str
    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Some seconds went by."""

    at: float
