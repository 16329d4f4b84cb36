"""What rounds are judged with beside themselves: others' states, and the settings."""

from dataclasses import dataclass

from roost.protocol.task.messages import TaskStatus

# Names are short; what comes from outside and is told ten thousand times has its limit.
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Link:
    """The present connection.

    Attributes:
        connected_at: Its begin.
        heard_at: When a proplet last showed itself on it that was not known before.
    """

    connected_at: float
    heard_at: float


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of a proplet; not stored, its topic is retained.

    Attributes:
        offline: Whether its last presence says so.
    """

    offline: bool = False


@dataclass(frozen=True, slots=True)
class TaskFact:
    """What is known of a participant's task; not stored, its topic is retained.

    Attributes:
        task_id: Its id.
        status: Where it stands.
        start_sha256: Digest of the start that launched it.
        reason: Name of its failure.
        detail: The failure in words, one short line.
        at: When this was learnt, in epoch seconds.
    """

    task_id: str
    status: TaskStatus
    start_sha256: str
    reason: str | None = None
    detail: str | None = None
    at: float = 0.0

    @property
    def name(self) -> str:
        """The failure's name."""
        return (self.reason or str(self.status))[:_LONGEST_NAME]

    @property
    def why(self) -> str:
        """The failure's name, and what is known beside it."""
        return f"{self.name}: {self.detail}" if self.detail else self.name


@dataclass(frozen=True, slots=True)
class Keep:
    """How long what has ended is kept.

    Attributes:
        rounds: How many ended rounds are remembered in full.
        spools: Of how many ended rounds the updates are kept.
        expiry_s: Seconds after which outcomes and states leave the broker.
    """

    rounds: int = 200
    spools: int = 5
    expiry_s: float = 604_800.0
