"""Payloads of the task protocol. Every field is described; specs/ is generated from here."""

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from roost.wire.ids import DerivedId, Id, Sha256
from roost.wire.message import MAX_WHOLE, AnyJson, Count, Message, Part, Seconds, Whole
from roost.wire.topic import topic_problem

MAX_FIELD_BYTES: Final = 1_000_000
Text = Annotated[str, StringConstraints(max_length=MAX_FIELD_BYTES)]
ShortText = Annotated[str, StringConstraints(max_length=4096)]


def _check_topic(topic: str) -> str:
    """Refuse a name that would cost whoever uses it the connection to the broker."""
    problem = topic_problem(topic)
    if problem is not None:
        raise ValueError(f"no topic: {problem}")
    return topic


TopicName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=r"^[^+#\x00]+$"),
    AfterValidator(_check_topic),
]
Attempt = Annotated[int, Field(ge=1, le=MAX_WHOLE)]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
MountName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\??$")]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
BlobRef = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}/[0-9a-f]{64}$")
]
ImageRef = Annotated[str, StringConstraints(pattern=r"^(oci://|blob:|file:)\S+$", max_length=512)]
_SOURCES: Final = ("topic", "blob", "text", "base64")


class TaskInput(Part):
    """One read-only file of ``/in``, taken from exactly one source."""

    name: FileName = Field(description="file name below /in")
    topic: TopicName | None = Field(default=None, description="retained topic to read")
    blob: BlobRef | None = Field(default=None, description="owner/sha256 of a blob")
    text: Text | None = Field(default=None, description="the content as text")
    base64: Text | None = Field(default=None, description="the content in base64")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"input '{self.name}' needs exactly one of {', '.join(_SOURCES)}")
        return self


class TaskOutput(Part):
    """One file of ``/out`` that is published when the guest succeeded."""

    file: FileName = Field(description="file below /out; stdout if the guest wrote no such file")
    topic: TopicName = Field(description="where its bytes are published")


class Limits(Part):
    """What a guest may use; going over any of them fails the task by that limit's name."""

    memory_mb: int = Field(default=256, ge=1, le=4096, description="linear memory")
    wall_s: float | None = Field(
        default=None, gt=0, le=604_800, description="run time; absent: until the deadline"
    )
    out_mb: int = Field(default=64, ge=1, le=4096, description="all files of /out together")
    stdout_mb: int = Field(default=16, ge=1, le=1024, description="stdout and stderr, each")


class TaskSpec(Part):
    """What a task runs: image, env, args, inputs, outputs, mounts, limits."""

    image: ImageRef = Field(
        description="oci://host/name:tag, oci://…@sha256:…, blob:owner/sha256, file:"
    )
    args: tuple[ShortText, ...] = Field(default=(), max_length=256)
    env: dict[EnvName, Text] = Field(default_factory=dict, max_length=256)
    inputs: tuple[TaskInput, ...] = Field(default=(), max_length=64)
    outputs: tuple[TaskOutput, ...] = Field(default=(), max_length=16)
    mounts: tuple[MountName, ...] = Field(
        default=(),
        max_length=16,
        description="names of /data/<mount>; a trailing ? makes it optional",
    )
    limits: Limits = Field(default_factory=Limits)


class TaskRequest(Message, TaskSpec):
    """A task request: where and how long beside what (``tasks/launch``)."""

    task_id: DerivedId
    proplet: Id | None = Field(default=None, description="run on this proplet and no other")
    selector: dict[Id, ShortText] = Field(
        default_factory=dict, max_length=32, description="else: labels that the proplet must have"
    )
    deadline_s: float = Field(
        default=300.0, gt=0, le=604_800, description="seconds from receipt until the task expires"
    )

    def spec(self) -> TaskSpec:
        """Return the part of the request that the proplet needs."""
        return TaskSpec.model_validate(
            {name: getattr(self, name) for name in TaskSpec.model_fields}
        )


class LaunchReply(Message):
    """Answer to a ``tasks/launch`` that named a response topic."""

    task_id: DerivedId | None = None
    accepted: bool
    code: Count | None = Field(default=None, description="number of the refusal")
    reason: str | None = None


class CancelTask(Message):
    """Wish to end a task that has not ended yet."""

    reason: ShortText = "cancelled"


class StopReason(StrEnum):
    """Why the manager tells a proplet to stop, or to stop repeating."""

    CANCELLED = "cancelled"
    STALE = "stale"
    EXPIRED = "expired"
    RECORDED = "recorded"


class StartTask(Message):
    """Order to a proplet: run this attempt."""

    attempt: Attempt
    remaining_s: Seconds = Field(description="seconds left until the deadline")
    task: TaskSpec


class StopTask(Message):
    """Order to a proplet: end this attempt; ``recorded`` answers a final report."""

    attempt: Count = Field(description="this attempt and earlier ones")
    reason: StopReason


class FailureReason(StrEnum):
    """The named ways in which a task fails."""

    EXIT_CODE = "exit_code"
    TRAP = "trap"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    STDOUT_LIMIT = "stdout_limit"
    OUTPUT_LIMIT = "output_limit"
    OUTPUT_MISSING = "output_missing"
    OUTPUT_TOO_LARGE = "output_too_large"
    IMAGE_UNAVAILABLE = "image_unavailable"
    IMAGE_REFUSED = "image_refused"
    INPUT_UNAVAILABLE = "input_unavailable"
    MOUNT_UNKNOWN = "mount_unknown"
    LOST = "lost"
    INTERNAL = "internal"


class Usage(Part):
    """What a run took."""

    wall_s: Seconds | None = None
    cpu_s: Seconds | None = None
    memory_mb: float | None = Field(default=None, ge=0, description="peak of the worker process")
    out_bytes: Count | None = None


class ReportStatus(StrEnum):
    """How an attempt stands on its proplet."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    PROGRESS = "progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self in (ReportStatus.SUCCEEDED, ReportStatus.FAILED)


class Report(Message):
    """News of one attempt; a final one is repeated until it is recorded."""

    attempt: Attempt
    boot_id: Id = Field(description="changes when the proplet's process starts")
    status: ReportStatus
    reason: FailureReason | None = None
    message: ShortText | None = Field(default=None, description="what happened and what to do")
    exit_code: Whole | None = None
    stderr_tail: ShortText | None = None
    progress: dict[str, AnyJson] | None = Field(
        default=None, description="the guest's last JSON line"
    )
    usage: Usage | None = None


class TaskStatus(StrEnum):
    """The states of a task."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """Whether the task has ended."""
        return self not in (TaskStatus.QUEUED, TaskStatus.DISPATCHED, TaskStatus.RUNNING)


class Durations(Part):
    """Seconds spent in each state so far."""

    queued_s: Seconds = 0.0
    dispatched_s: Seconds = 0.0
    running_s: Seconds = 0.0


class Launch(Part):
    """Which message launched a task."""

    topic: TopicName
    sha256: Sha256 = Field(description="digest of the launching message's bytes")
    key: DerivedId


class TaskState(Message):
    """Retained state of a task."""

    task_id: DerivedId
    state: TaskStatus
    proplet: Id | None = None
    attempt: Count = 0
    reason: str | None = None
    message: ShortText | None = None
    exit_code: Whole | None = None
    stderr_tail: ShortText | None = None
    progress: dict[str, AnyJson] | None = None
    usage: Usage | None = None
    durations: Durations = Field(default_factory=Durations)
    launch: Launch | None = None


class PresenceStatus(StrEnum):
    """Whether a proplet can take tasks."""

    ONLINE = "online"
    OFFLINE = "offline"
    ASLEEP = "asleep"


class Resources(Part):
    """What a proplet has."""

    cpus: int = Field(ge=1, le=MAX_WHOLE)
    memory_mb: int = Field(ge=1, le=MAX_WHOLE)
    arch: ShortText


class RunningTask(Part):
    """A task that a proplet holds."""

    task_id: DerivedId
    attempt: Attempt


class Presence(Message):
    """Retained card of a proplet; its last will says ``offline``."""

    proplet_id: Id
    status: PresenceStatus
    boot_id: Id
    labels: dict[Id, ShortText] = Field(default_factory=dict, max_length=64)
    resources: Resources | None = None
    runtimes: tuple[ShortText, ...] = Field(default=(), max_length=32)
    protocols: dict[ShortText, Count] = Field(default_factory=dict, max_length=32)
    mounts: tuple[Id, ...] = Field(
        default=(), max_length=1024, description="names of its data mounts"
    )
    running: tuple[RunningTask, ...] = Field(default=(), max_length=10_000)


class Telemetry(Message):
    """What a proplet's device feels like, every 10 s."""

    load: float | None = Field(default=None, ge=0, description="one-minute load average")
    memory_free_mb: Count | None = None
    battery: float | None = Field(default=None, ge=0, le=100, description="percent")
    on_power: bool | None = None
    thermal: ShortText | None = Field(
        default=None, description="nominal, fair, serious or critical"
    )
    running: Count = Field(default=0, description="tasks running now")
    readiness: ShortText | None = Field(
        default=None, description="preferred, eligible, standby or paused: how willing it is"
    )


class BindingState(Part):
    """One workload binding file as the manager sees it."""

    file: str
    sha256: Sha256
    launches: tuple[str, ...] = Field(default=(), description="topics that launch tasks")
    forwards: tuple[str, ...] = Field(default=(), description="'source -> destination'")


class WorkloadsState(Message):
    """Retained list of the bindings in force."""

    bindings: tuple[BindingState, ...] = ()
    refused: str | None = Field(
        default=None, description="why the last reload was refused (file and line); the old stay"
    )
    reload_id: str | None = Field(default=None, description="id of the last reload")
    refusals: dict[str, int] = Field(default_factory=dict, description="orders refused, by reason")
    last_refusal: str | None = None


class ReloadWorkloads(Message):
    """Order to read the binding files again."""

    reload_id: Id
