"""What a proplet remembers of each task until the task's deadline."""

from dataclasses import dataclass
from enum import StrEnum

from roost.protocol.task.messages import FailureReason, TaskSpec, Usage


class Phase(StrEnum):
    """Where a held task stands."""

    QUEUED = "queued"  # accepted; waits for a run slot
    RUNNING = "running"  # image and inputs are being fetched, or the guest runs
    SENDING = "sending"  # the guest succeeded; its outputs are on their way
    ENDED = "ended"  # the final report is repeated until the manager has recorded it
    RECORDED = "recorded"  # outputs are kept, in case someone missed them
    STOPPED = "stopped"  # a tombstone: this attempt shall not run

    @property
    def busy(self) -> bool:
        """Whether it takes a run slot."""
        return self in (Phase.RUNNING, Phase.SENDING)

    @property
    def present(self) -> bool:
        """Whether the manager still waits for news of it, so that presence must list it."""
        return self in (Phase.QUEUED, Phase.RUNNING, Phase.SENDING, Phase.ENDED)


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
    """One task as this proplet holds it; durable.

    Attributes:
        task_id: Which.
        attempt: The highest attempt heard of, the only one that counts.
        phase: Where it stands.
        deadline: When it is forgotten, on this device's clock, fixed at the attempt's receipt.
        spec: What to run; None for a tombstone.
        outcome: How it ended, from ``sending`` on.
        tries: Sendings without an answer, of the final report or of the outputs.
    """

    task_id: str
    attempt: int
    phase: Phase
    deadline: float
    spec: TaskSpec | None = None
    outcome: Outcome | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """The connection and what was last said on it; volatile.

    Attributes:
        connected: Whether the broker is there.
        mounts: Names of the data mounts.
        presence: The presence last published, as bytes.
    """

    connected: bool = False
    mounts: tuple[str, ...] = ()
    presence: bytes = b""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this proplet is.

    Attributes:
        proplet_id: Its id.
        boot_id: Changes with every start of its process.
    """

    proplet_id: str
    boot_id: str
