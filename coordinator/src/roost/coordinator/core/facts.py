"""What rounds are judged with beside themselves: others' states, and the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from roost.protocol.round.messages import ModelIndex
from roost.protocol.task.messages import TaskStatus


@dataclass(frozen=True, slots=True)
class TaskFact:
    """What is known of a participant's task; not stored, its topic is retained.

    Attributes:
        task_id: Its id.
        status: Where it stands.
        start_sha256: Digest of the start that launched it.
        reason: Name of its failure.
        detail: The failure in words, one short line.
    """

    task_id: str
    status: TaskStatus
    start_sha256: str
    reason: str | None = None
    detail: str | None = None

    @property
    def why(self) -> str:
        """The failure's name, and what is known beside it."""
        name = self.reason or str(self.status)
        return f"{name}: {self.detail}" if self.detail else name


@dataclass(frozen=True, slots=True)
class Facts:
    """What a round is judged with beside itself.

    Attributes:
        connected_at: Begin of the present connection; None without one.
        index: The index as received on the present connection.
        seen: Ids of all proplets of which a presence came.
        tasks: Facts by participant.
        claimed: Version numbers that other publications of this model were sent with.
        start: The accepted start's text.
    """

    connected_at: float | None = None
    index: ModelIndex | None = None
    seen: Mapping[str, object] = field(default_factory=dict)
    tasks: Mapping[str, TaskFact] = field(default_factory=dict)
    claimed: frozenset[int] = frozenset()
    start: str = ""

    def connected_for(self, at: float) -> float:
        """Return the seconds that the connection has lasted; -1 without one."""
        return -1.0 if self.connected_at is None else at - self.connected_at


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
