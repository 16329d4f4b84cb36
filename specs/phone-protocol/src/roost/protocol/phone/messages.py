"""Payloads of the phone protocol. Every field is described; specs/ is generated from here."""

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator
from roost.protocol.task.messages import (
    EnvName,
    FailureReason,
    FileName,
    Limits,
    MountName,
    Resources,
    ShortText,
    Text,
    Usage,
)
from roost.wire.ids import DerivedId, Id, Sha256
from roost.wire.message import AnyJson, Message, Part, Seconds

MINUTES_A_DAY: Final = 1440
Word = Annotated[str, StringConstraints(max_length=64)]
Url = Annotated[str, StringConstraints(max_length=256, pattern=r"^https?://\S+$")]


class Reading(Part):
    """What a phone's sensors say; whatever it cannot know it leaves out."""

    battery: float | None = Field(default=None, ge=0, le=100, description="percent")
    on_power: bool | None = Field(default=None, description="charging, or full on the charger")
    low_power: bool | None = Field(default=None, description="Low Power Mode is on")
    thermal: Word | None = Field(
        default=None, description="nominal, fair, serious, critical; other words are unknown"
    )
    local_minute: int | None = Field(
        default=None, ge=0, lt=MINUTES_A_DAY, description="minutes since midnight, phone's own day"
    )


class Holding(Part):
    """The attempt that a phone works on, or has finished and still keeps."""

    task_id: DerivedId
    attempt: int = Field(ge=1)


class PhoneState(Message):
    """All that the bridge needs to know of a phone that is awake."""

    connection_id: Id = Field(description="new for each connection; its last will names it")
    boot_id: Id = Field(description="changes when the app or page starts")
    app: Word = Field(description="name and version of the program")
    resources: Resources | None = None
    mounts: tuple[Id, ...] = Field(default=(), max_length=64, description="names of its data")
    reading: Reading = Field(default_factory=Reading)
    order_id: Id | None = Field(default=None, description="the order that it follows")
    holding: Holding | None = None


class PhoneAsleep(Message):
    """A phone goes to sleep, or has lost its connection: its last will."""

    connection_id: Id = Field(description="of the connection that ends")


class PhoneReportStatus(StrEnum):
    """How an attempt stands on a phone."""

    RUNNING = "running"
    PROGRESS = "progress"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self in (PhoneReportStatus.SUCCEEDED, PhoneReportStatus.FAILED)


class PhoneReport(Message):
    """News of the attempt that the present order names."""

    task_id: DerivedId
    attempt: int = Field(ge=1)
    status: PhoneReportStatus
    reason: FailureReason | None = Field(default=None, description="of a failure")
    pause: Word | None = Field(default=None, description="why it rests")
    message: ShortText | None = Field(default=None, description="what happened and what to do")
    exit_code: int | None = None
    stderr_tail: ShortText | None = None
    progress: dict[str, AnyJson] | None = Field(
        default=None, description="the guest's last JSON line"
    )
    usage: Usage | None = None

    @model_validator(mode="after")
    def _failure_has_a_reason(self) -> Self:
        if (self.status is PhoneReportStatus.FAILED) != (self.reason is not None):
            raise ValueError("a failed attempt has a reason, and no other status has one")
        return self


class PhoneFile(Part):
    """A file that the phone gets over HTTP by its digest."""

    name: FileName
    sha256: Sha256
    size: int = Field(ge=0, description="bytes")


class PhoneTask(Part):
    """One attempt of a task, with everything that a phone needs to run it."""

    task_id: DerivedId
    attempt: int = Field(ge=1)
    remaining_s: Seconds = Field(description="seconds left when the order was sent")
    image: PhoneFile = Field(description="the guest; its name is argv[0]")
    args: tuple[ShortText, ...] = Field(default=(), max_length=256)
    env: dict[EnvName, Text] = Field(default_factory=dict, max_length=256)
    inputs: tuple[PhoneFile, ...] = Field(default=(), max_length=64, description="files of /in")
    outputs: tuple[FileName, ...] = Field(
        default=(), max_length=16, description="files of /out to hand in; stdout where absent"
    )
    mounts: tuple[MountName, ...] = Field(
        default=(), max_length=16, description="names of /data/<mount>; a trailing ? is optional"
    )
    limits: Limits = Field(default_factory=Limits)


class PhoneOrder(Message):
    """All that a phone shall do now; each one takes the place of the one before."""

    order_id: Id
    task: PhoneTask | None = Field(default=None, description="absent: keep nothing, do nothing")
    pause: Word | None = Field(default=None, description="why work must rest; absent: work")


class InvitePhone(Message):
    """Order to the bridge: let whoever has this token become this device, once."""

    invite_id: Id
    token_sha256: Sha256 = Field(description="digest of the token's text; the token stays secret")
    device: Id = Field(description="the id that the phone gets, as device and as proplet")
    expires_s: float = Field(
        default=300.0, gt=0, le=604_800, description="at most an hour, whatever this says"
    )


class RevokePhone(Message):
    """Order to the bridge: this device is a phone of ours no longer."""

    reason: ShortText = "revoked"


class Wakefulness(StrEnum):
    """Whether a phone can work."""

    AWAKE = "awake"
    ASLEEP = "asleep"
    GONE = "gone"


class PhoneLine(Part):
    """One phone in the bridge's list."""

    device: Id
    presence: Wakefulness
    readiness: Word = Field(description="preferred, eligible, standby or paused")
    why: Word = Field(description="what decided that")
    app: Word | None = None
    task_id: DerivedId | None = Field(default=None, description="what it works on")


class InviteLine(Part):
    """One invitation that nobody has used yet."""

    invite_id: Id
    device: Id


class PhonesState(Message):
    """Retained list of the bridge's phones and open invitations."""

    phones: tuple[PhoneLine, ...] = ()
    invites: tuple[InviteLine, ...] = ()
    refusals: dict[str, int] = Field(default_factory=dict, description="orders refused, by reason")
    last_refusal: str | None = None


class BridgeStatus(StrEnum):
    """Whether the bridge is there."""

    ONLINE = "online"
    OFFLINE = "offline"


class BridgeCard(Message):
    """Retained card of the bridge; its last will says ``offline``."""

    status: BridgeStatus
    boot_id: Id
    url: Url | None = Field(default=None, description="where phones find it")


class PairRequest(Message):
    """What a phone posts to ``/pair``."""

    token: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{22}$")] = Field(
        description="128 bits in URL-safe base64"
    )


class PairReply(Message):
    """What a phone gets for its token."""

    device: Id
    secret: str = Field(description="password of HTTP and MQTT; kept by the phone alone")
    topic_prefix: str = Field(default="", description="goes before all topics")
