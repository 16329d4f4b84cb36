"""What a simulated phone needs of the machine that it runs on."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from roost.protocol.phone.messages import PhoneTask
from roost.protocol.task.messages import FailureReason, Usage

OnProgress: TypeAlias = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Run:
    """A guest to run.

    Attributes:
        task: With its name, arguments, environment, limits and outputs.
        image: The file, verified.
        inputs: Folder that becomes ``/in``.
        mounts: Folders that become ``/data/<name>``.
        folder: Where the guest's files may lie; empty.
        wall_s: Time that is left.
    """

    task: PhoneTask
    image: Path
    inputs: Path
    mounts: Mapping[str, Path]
    folder: Path
    wall_s: float


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended.

    Attributes:
        reason: None: it succeeded; else the name of its failure.
        message: What happened and what to do.
        exit_code: The guest's own, where it got that far.
        stderr_tail: The last of its standard error.
        usage: What it took.
        outputs: The wanted files, by name.
        stopped: It was stopped from outside; the rest then says nothing.
    """

    reason: FailureReason | None
    message: str = ""
    exit_code: int | None = None
    stderr_tail: str = ""
    usage: Usage | None = None
    outputs: Mapping[str, Path] = field(default_factory=dict)
    stopped: bool = False


class Stop:
    """Lets another thread end a run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Callable[[], None]] = []
        self._event = threading.Event()

    @property
    def wanted(self) -> bool:
        """Whether the run shall end."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait until the run shall end; False when the time ended first."""
        return self._event.wait(seconds)

    def stop(self) -> None:
        """End the run now, or as soon as it begins."""
        with self._lock:
            self._event.set()
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    def when(self, call: Callable[[], None]) -> None:
        """Call this at the stop; at once if it was wanted already."""
        with self._lock:
            if not self.wanted:
                self._calls.append(call)
                return
        call()


class GuestRunner(Protocol):
    """Runs guests; the real one is Wasmtime's, in the ``roost`` command."""

    def run(self, run: Run, stop: Stop, on_progress: OnProgress) -> RunEnd:
        """Run a guest to its end."""
