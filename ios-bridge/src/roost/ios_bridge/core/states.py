"""What the bridge remembers of phones, invitations and tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from roost.protocol.phone.messages import PhoneFile, PhoneLine, PhoneState
from roost.protocol.phone.policy import Senses, Verdict, judge
from roost.protocol.task.messages import FailureReason, TaskSpec, Usage


class Phase(StrEnum):
    """Where a held task stands."""

    QUEUED = "queued"  # accepted; waits until its phone is awake, willing and free
    PREPARING = "preparing"  # the bridge fetches image and inputs
    READY = "ready"  # the phone may begin
    RUNNING = "running"  # the phone has begun; it may rest, or sleep, and go on
    SENDING = "sending"  # the phone succeeded; the bridge publishes its outputs
    ENDED = "ended"  # the final report is repeated until the manager has recorded it
    RECORDED = "recorded"  # outputs are kept, in case someone missed them
    STOPPED = "stopped"  # a tombstone: this attempt shall not run

    @property
    def active(self) -> bool:
        """Whether it takes its phone: a phone has one such task."""
        return self in (Phase.PREPARING, Phase.READY, Phase.RUNNING)

    @property
    def present(self) -> bool:
        """Whether the manager still waits for news of it, so that presence must list it."""
        return self not in (Phase.RECORDED, Phase.STOPPED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        reason: None: it succeeded; else the name of its failure.
        message: What happened and what to do.
        exit_code: The guest's own, where it got that far.
        stderr_tail: The last of its standard error.
        usage: What it took.
    """

    reason: FailureReason | None
    message: str = ""
    exit_code: int | None = None
    stderr_tail: str = ""
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """One task that the bridge holds for one phone; durable.

    Attributes:
        device: Whose.
        task_id: Which.
        attempt: The highest attempt heard of, the only one that counts.
        phase: Where it stands.
        deadline: When it is forgotten, on this clock, fixed at the attempt's receipt.
        spec: What to run; None for a tombstone.
        image: The guest as the phone gets it, from ``ready`` on.
        inputs: Files of ``/in`` as the phone gets them, from ``ready`` on.
        outcome: How it ended, from ``sending`` on.
        tries: Sendings without an answer, of the final report or of the outputs.
    """

    device: str
    task_id: str
    attempt: int
    phase: Phase
    deadline: float
    spec: TaskSpec | None = None
    image: PhoneFile | None = None
    inputs: tuple[PhoneFile, ...] = ()
    outcome: Outcome | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Phone:
    """A paired phone; durable.

    Attributes:
        device: Its id, as device and as proplet.
        secret_sha256: Digest of its password.
        seen: When it was last known to be awake; written when it falls asleep.
    """

    device: str
    secret_sha256: str
    seen: float


@dataclass(frozen=True, slots=True)
class Invite:
    """An invitation that nobody has used yet; durable.

    Attributes:
        invite_id: Names it.
        token_sha256: Digest of the token.
        device: The id it gives.
        until: When it is over.
    """

    invite_id: str
    token_sha256: str
    device: str
    until: float


@dataclass(frozen=True, slots=True)
class Sent:
    """What the last order said.

    Attributes:
        order_id: Its id.
        task: Attempt and id of the task that it named.
        pause: Why work had to rest.
    """

    order_id: str
    task: tuple[str, int] | None
    pause: str | None


@dataclass(frozen=True, slots=True)
class Link:
    """What is known of a phone just now; volatile.

    Attributes:
        awake: Whether it is there.
        seen: When it last said something.
        told: What it last said of itself.
        senses: Its sensors, from wherever.
        verdict: What the policy said last.
        sent: The last order.
        presence: The presence last published for it, as bytes.
    """

    awake: bool = False
    seen: float = 0.0
    told: PhoneState | None = None
    senses: Senses = field(default_factory=Senses)
    verdict: Verdict = field(default_factory=lambda: judge(Senses(), 0.0, low=False))
    sent: Sent | None = None
    presence: bytes = b""


@dataclass(frozen=True, slots=True)
class Desk:
    """The bridge's own connection and lists; volatile.

    Attributes:
        connected: Whether the broker is there.
        orders: How many orders were made; their ids count them.
        refusals: Operators' orders that were refused, by reason.
        last_refusal: The last of them.
        lines: What the list says of each phone.
    """

    connected: bool = False
    orders: int = 0
    refusals: tuple[tuple[str, int], ...] = ()
    last_refusal: str | None = None
    lines: Mapping[str, PhoneLine] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who reports.

    Attributes:
        device: The phone, which is the proplet.
        boot_id: Of the bridge's process, which holds the tasks.
    """

    device: str
    boot_id: str
