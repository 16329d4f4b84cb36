"""What the bridge wants done; the adapters do it. Doing any of it twice does no harm."""

from dataclasses import dataclass

from roost.protocol.task.messages import TaskSpec


@dataclass(frozen=True, slots=True)
class Prepare:
    """Fetch image and inputs; comes back as Prepared or Unprepared.

    Attributes:
        device: For which phone.
        task_id: Whose.
        attempt: Which.
        spec: What it names.
        until: When the task's time is over.
    """

    device: str
    task_id: str
    attempt: int
    spec: TaskSpec
    until: float

    @property
    def lane(self) -> str:
        """One thing at a time for one task."""
        return f"task:{self.device}/{self.task_id}"


@dataclass(frozen=True, slots=True)
class SendOutputs:
    """Publish what the phone handed in; comes back as OutputsSent, -Delayed or -Missing."""

    device: str
    task_id: str
    attempt: int
    spec: TaskSpec
    until: float

    @property
    def lane(self) -> str:
        """One thing at a time for one task."""
        return f"task:{self.device}/{self.task_id}"


@dataclass(frozen=True, slots=True)
class Discard:
    """Remove what was handed in for a task's attempts before ``below``, and their blobs."""

    device: str
    task_id: str
    below: int

    @property
    def lane(self) -> str:
        """After what still uses the files."""
        return f"task:{self.device}/{self.task_id}"


@dataclass(frozen=True, slots=True)
class Cut:
    """Cut the connection of a phone that is none any more."""

    device: str

    @property
    def lane(self) -> str:
        """Each by itself."""
        return f"cut:{self.device}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a question that came over HTTP.

    Attributes:
        request: Which.
        device: The phone it is about.
        refusal: Name of the refusal; None: yes.
    """

    request: str
    device: str
    refusal: str | None = None

    @property
    def lane(self) -> str:
        """Each by itself."""
        return f"answer:{self.request}"


SERVICE_EFFECTS = (Prepare, SendOutputs, Discard, Cut, Answer)
