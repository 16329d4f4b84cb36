"""What the coordinator remembers: frozen, digests instead of arrays, stored as JSON.

A round holds counters alone. Whatever there is one of for each participant is in ``seats``: so
what one update costs does not depend on how many were invited.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from roost.protocol.round.messages import (
    ExperimentStatus,
    OnTimeout,
    RoundPolicy,
    RoundStatus,
)


@dataclass(frozen=True, slots=True)
class Policy:
    """The part of a start that decides about a round.

    Attributes:
        k: How many updates close the round.
        timeout_s: Seconds from receipt to the deadline.
        on_timeout: What becomes of too few updates at the deadline.
        min_updates: With ``aggregate``: fewer than these still fail.
        max_samples: Cap on one update's weight.
    """

    k: int = 0
    timeout_s: float = 0.0
    on_timeout: OnTimeout = OnTimeout.FAIL
    min_updates: int = 1
    max_samples: int = 1

    @classmethod
    def of(cls, policy: RoundPolicy) -> "Policy":
        """Take from a start what decides about the round."""
        return cls(
            policy.k_of_n,
            policy.timeout_s,
            policy.on_timeout,
            policy.min_updates,
            policy.max_samples,
        )

    @property
    def fewest(self) -> int:
        """How many updates suffice when no more can come."""
        return self.min_updates if self.on_timeout is OnTimeout.AGGREGATE else self.k


@dataclass(frozen=True, slots=True)
class Base:
    """The model that a round starts from.

    Attributes:
        version: Its number.
        digest: Over its tensors.
        size: Bytes of its file.
        binary: Whether it is a safetensors file.
        shapes: Digest over names and shapes; None until the file was read.
        dtypes: Digest over names and types; None until the file was read.
        summary: Its tensors, for people.
    """

    version: int
    digest: str
    size: int
    binary: bool
    shapes: str | None = None
    dtypes: str | None = None
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """A model on its way to the model server.

    Attributes:
        publish_id: What made it; one publish_id becomes one version.
        name: Name of the model.
        digest: Over its tensors; also names the file with its content.
        binary: Whether it is a safetensors file.
        parent: Version it was made from.
        metrics: Said in its label.
        version: The number it was last sent with.
        tries: How often it was sent.
    """

    publish_id: str
    name: str
    digest: str
    binary: bool
    parent: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    version: int | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """One round.

    Attributes:
        round_id: Its id.
        start_sha256: Digest of the accepted start's bytes.
        model_uri: Topic of the base model.
        policy: How it is run.
        status: Where it stands.
        started_at: Epoch seconds of the receipt.
        invited: How many participants it has; who they are says its roster.
        base: The base model, once an index listed it.
        updates: How many updates were accepted.
        held: How many wait until the base was read.
        failures: How many participants' tasks cannot bring an update.
        out: How many from whom no update can be expected any more, nor was one accepted.
        first_failed: The first participants whose tasks failed, for the live state.
        refusals: How many updates were refused, by reason.
        uninvited: How many updates came from others.
        last_refusal: For people.
        unreachable_since: When the participants' failures first made k unreachable.
        checks: How often missing task states and updates were asked for.
        check_at: When that is done next.
        publication: The averaged model on its way.
        version: Number of the new version, once listed.
        model_topic: Topic of the new version, once listed.
        reason: Name of the failure.
        message: What went wrong and what exists, for people.
        ended_at: Epoch seconds of the end.
    """

    round_id: str
    start_sha256: str
    model_uri: str
    policy: Policy
    status: RoundStatus
    started_at: float
    invited: int = 0
    base: Base | None = None
    updates: int = 0
    held: int = 0
    failures: int = 0
    out: int = 0
    first_failed: tuple[str, ...] = ()
    refusals: Mapping[str, int] = field(default_factory=dict)
    uninvited: int = 0
    last_refusal: str | None = None
    unreachable_since: float | None = None
    checks: int = 0
    check_at: float | None = None
    publication: Publication | None = None
    version: int | None = None
    model_topic: str | None = None
    reason: str | None = None
    message: str | None = None
    ended_at: float | None = None

    @property
    def deadline(self) -> float:
        """Epoch seconds at which the time is up."""
        return self.started_at + self.policy.timeout_s

    @property
    def collecting(self) -> bool:
        """Whether updates can still be accepted."""
        return self.status in (RoundStatus.PREPARING, RoundStatus.OPEN)


@dataclass(frozen=True, slots=True)
class Start:
    """The bytes of an accepted start, kept while the round runs."""

    payload: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome as it was told, to be told again."""

    payload: str


@dataclass(frozen=True, slots=True)
class Past:
    """What is kept for ever of a round: enough to know its id again."""

    start_sha256: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Experiment:
    """Many rounds in a row under one policy.

    Attributes:
        experiment_id: Its id.
        order_sha256: Digest of the accepted order's bytes.
        order: The order itself as JSON: the next start is made of it.
        rounds: How many there shall be.
        completed: How many there were.
        status: Where it stands.
        current_round: Id of the round that runs or was the last.
        model_uri: Base of the current round.
        message: Why it ended, for people.
    """

    experiment_id: str
    order_sha256: str
    order: str
    rounds: int
    status: ExperimentStatus
    model_uri: str
    completed: int = 0
    current_round: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Rollback:
    """An old version on its way to become a new one.

    Attributes:
        rollback_id: Its id, also the new version's publish_id.
        model_uri: Topic of the old version.
        publication: What becomes of it.
        ready: Whether the content was fetched.
    """

    rollback_id: str
    model_uri: str
    publication: Publication
    ready: bool = False


@dataclass(frozen=True, slots=True)
class Lineage:
    """A model whose versions this coordinator numbers.

    Attributes:
        since: Its latest version when that began.
    """

    since: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the coordinator's own state topic says."""

    open_rounds: tuple[str, ...] = ()
    running_experiments: tuple[str, ...] = ()
    unadopted: tuple[str, ...] = ()
    refusals: Mapping[str, int] = field(default_factory=dict)
    last_refusal: str | None = None
