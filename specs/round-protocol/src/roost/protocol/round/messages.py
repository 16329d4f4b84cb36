"""JSON payloads of the round protocol. Every field is described; specs/ is generated from here.

Updates and models, which also come in binary, are in ``update`` and ``model``.
"""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints
from roost.wire.ids import DerivedId, Id, Sha256
from roost.wire.message import MAX_WHOLE, AnyJson, Count, Message, Part, Seconds

MODEL_NAME_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9-]{0,31}(?:_[A-Za-z0-9-]{1,32}){0,3}"
DEFAULT_MODEL_NAME: Final = "global_model"
MAX_PARTICIPANTS: Final = 10_000
MAX_SAMPLES: Final = 1_000_000_000
MAX_VERSION: Final = 999_999_999

ModelName = Annotated[str, StringConstraints(pattern=rf"^{MODEL_NAME_PATTERN}$")]
ModelUri = Annotated[
    str, StringConstraints(pattern=rf"^fl/models/{MODEL_NAME_PATTERN}_v[0-9]{{1,9}}$")
]
ImageRef = Annotated[str, StringConstraints(pattern=r"^(oci://|blob:|file:)\S+$", max_length=512)]
ShortText = Annotated[str, StringConstraints(max_length=4096)]
Metrics = Annotated[dict[str, float], Field(max_length=64)]


class OnTimeout(StrEnum):
    """What becomes of a round that its time ends with fewer than k updates."""

    FAIL = "fail"
    AGGREGATE = "aggregate"


class RoundPolicy(Part):
    """How a round is run: image, participants, quorum, time."""

    task_wasm_image: ImageRef
    participants: tuple[Id, ...] = Field(max_length=MAX_PARTICIPANTS)
    hyperparams: dict[str, AnyJson] = Field(default_factory=dict, description="given to the guest")
    k_of_n: int = Field(ge=1, le=MAX_WHOLE, description="updates that close the round: the quorum")
    timeout_s: float = Field(default=300.0, gt=0, le=604_800, description="seconds from receipt")
    guest_s: float = Field(
        default=604_800.0, gt=0, le=604_800, description="run time of a guest; beyond it has failed"
    )
    on_timeout: OnTimeout = Field(default=OnTimeout.FAIL, strict=False)
    min_updates: int = Field(
        default=1,
        ge=1,
        le=MAX_WHOLE,
        description="with on_timeout aggregate: fewer than these still fail",
    )
    max_samples: int = Field(
        default=MAX_SAMPLES, ge=1, le=MAX_SAMPLES, description="cap on num_samples of an update"
    )


class RoundStart(Message, RoundPolicy):
    """Order to run a round (``fl/rounds/start``)."""

    round_id: DerivedId
    model_uri: ModelUri = Field(description="retained topic of the base model")


class RoundStatus(StrEnum):
    """The states of a round."""

    PREPARING = "preparing"
    OPEN = "open"
    AGGREGATING = "aggregating"
    PUBLISHING = "publishing"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether the round has ended."""
        return self in (RoundStatus.COMPLETED, RoundStatus.FAILED)


class RoundState(Message):
    """Retained live progress of a round."""

    round_id: DerivedId
    state: RoundStatus
    model_uri: str
    k_of_n: Count
    participants: Count = Field(description="how many were invited")
    updates: Count = Field(description="how many were accepted")
    missing: tuple[str, ...] = Field(
        default=(), description="the first who were invited and have nothing accepted yet"
    )
    offline: tuple[str, ...] = Field(default=(), description="missing, and known to be away")
    failed: dict[str, str] = Field(
        default_factory=dict, description="the first whose tasks failed: name and words"
    )
    failures: int = Field(default=0, description="how many tasks failed")
    refusals: dict[str, Count] = Field(default_factory=dict, description="refused, by reason")
    last_refusal: str | None = None
    time_left_s: float | None = Field(default=None, description="seconds when this was written")
    message: str | None = None


class RoundComplete(Message):
    """Retained outcome of a round; written only after the index lists the new version."""

    round_id: DerivedId
    outcome: RoundStatus = Field(description="completed or failed")
    reason: str | None = Field(default=None, description="name of the failure")
    message: str | None = Field(default=None, description="what was wrong and what exists")
    model_version: Count | None = None
    model_topic: str | None = None
    model_digest: Sha256 | None = None
    base_model: str | None = None
    updates: Count = 0
    samples: Count = 0
    metrics: dict[str, float] = Field(
        default_factory=dict, description="averages over participants, weighted by num_samples"
    )
    verdicts: dict[str, str] = Field(
        default_factory=dict,
        description="per participant: accepted, missing, not_asked, or what was wrong; "
        "'(uninvited)' counts the others",
    )
    duration_s: Seconds = 0.0


class ModelVersion(Part):
    """One version in the index."""

    version: int = Field(ge=0, le=MAX_VERSION)
    topic: str
    digest: Sha256 = Field(description="over the tensors, see specs")
    sha256: Sha256 = Field(description="of the file")
    size: Count = Field(description="bytes of the file")
    form: str = Field(description="json or safetensors")
    parent: Count | None = None
    publish_id: DerivedId
    metrics: dict[str, float] = Field(default_factory=dict)
    architecture: str | None = None


class ModelLine(Part):
    """All kept versions of one model name, oldest first."""

    latest: int = Field(ge=0, le=MAX_VERSION)
    versions: tuple[ModelVersion, ...]


class RefusedPublish(Part):
    """A publish request that was turned down."""

    publish_id: str | None = None
    name: str | None = None
    version: Count | None = None
    code: Count
    reason: str


class ModelIndex(Message):
    """Retained list of model versions; always written last."""

    models: dict[str, ModelLine] = Field(default_factory=dict)
    refusals: tuple[RefusedPublish, ...] = Field(default=(), description="the last ones")

    def find(self, model_uri: str) -> ModelVersion | None:
        """Return the version whose topic this is."""
        for line in self.models.values():
            for version in line.versions:
                if version.topic == model_uri:
                    return version
        return None


class Rollback(Message):
    """Order to make a new version with the content of an old one."""

    name: ModelName = DEFAULT_MODEL_NAME
    version: int = Field(ge=0, le=MAX_VERSION)
    rollback_id: Id | None = Field(default=None, description="absent: derived from the content")


class Adopt(Message):
    """Order to go on from a model whose versions this coordinator did not make."""

    name: ModelName = DEFAULT_MODEL_NAME
    version: int = Field(ge=0, description="its latest one, as the index lists it")


class ExperimentStart(Message, RoundPolicy):
    """Order to run many rounds in a row (``fl/experiments/start``)."""

    experiment_id: Id
    rounds: int = Field(ge=1, le=100_000)
    model_uri: ModelUri = Field(description="base model of the first round")


class ExperimentStop(Message):
    """Wish to end an experiment after its running round."""

    reason: ShortText = "stopped"


class ExperimentStatus(StrEnum):
    """The states of an experiment."""

    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def final(self) -> bool:
        """Whether the experiment has ended."""
        return self not in (ExperimentStatus.RUNNING, ExperimentStatus.STOPPING)


class ExperimentState(Message):
    """Retained progress of an experiment."""

    experiment_id: Id
    state: ExperimentStatus
    rounds: Count
    rounds_completed: Count
    current_round: str | None = None
    model_topic: str | None = Field(default=None, description="newest version it made")
    message: str | None = None


class CoordinatorState(Message):
    """Retained summary of the coordinator: what is open and what was refused before any round."""

    open_rounds: tuple[str, ...] = ()
    running_experiments: tuple[str, ...] = ()
    unadopted: tuple[str, ...] = Field(
        default=(), description="models that rounds unknown here made; none starts on them"
    )
    refusals: dict[str, Count] = Field(default_factory=dict)
    last_refusal: str | None = None
