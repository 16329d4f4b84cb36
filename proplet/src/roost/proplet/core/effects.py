"""What a proplet wants done; the adapters do it. Doing any of it twice does no harm."""

from dataclasses import dataclass

from roost.protocol.task.messages import TaskSpec


@dataclass(frozen=True, slots=True)
class Execute:
    """Fetch image and inputs, run the guest; comes back as GuestEnded.

    Attributes:
        task_id: Whose.
        attempt: Which.
        spec: What to run.
        until: When the task's time is over, on this device's clock.
    """

    task_id: str
    attempt: int
    spec: TaskSpec
    until: float

    @property
    def lane(self) -> str:
        """One thing at a time for one task."""
        return f"task:{self.task_id}"


@dataclass(frozen=True, slots=True)
class StopGuest:
    """Kill the guest of an attempt, or do not let it begin."""

    task_id: str
    attempt: int

    @property
    def lane(self) -> str:
        """Not behind the run that it is to end."""
        return "stop"


@dataclass(frozen=True, slots=True)
class SendOutputs:
    """Publish the outputs of an attempt; comes back as OutputsSent or OutputsDelayed."""

    task_id: str
    attempt: int
    spec: TaskSpec
    until: float

    @property
    def lane(self) -> str:
        """One thing at a time for one task."""
        return f"task:{self.task_id}"


@dataclass(frozen=True, slots=True)
class Discard:
    """Remove the files of a task's attempts before ``below``, and the blobs that carry them."""

    task_id: str
    below: int

    @property
    def lane(self) -> str:
        """After the run that still writes them."""
        return f"task:{self.task_id}"


@dataclass(frozen=True, slots=True)
class Sweep:
    """Remove what lay on disk at the start, but the files of these attempts.

    A crash, or a state folder that was lost in part, left it.
    """

    keep: tuple[tuple[str, int], ...]

    @property
    def lane(self) -> str:
        """Files of nobody."""
        return "sweep"
