"""Where the files of one attempt lie."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from roost.proplet.guest.folders import remove


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """``tasks/{task_id}/{attempt}/``: inputs, outputs, standard output."""

    root: Path

    @property
    def inputs(self) -> Path:
        """What the guest sees as ``/in``."""
        return self.root / "in"

    @property
    def out(self) -> Path:
        """What the guest sees as ``/out``."""
        return self.root / "out"

    @property
    def stdout(self) -> Path:
        """What the guest printed."""
        return self.root / "stdout"

    @property
    def offered(self) -> Path:
        """The manifests of the blobs that carry its outputs, a JSON line each."""
        return self.root / "offered"


@dataclass(frozen=True, slots=True)
class TaskFolders:
    """All attempts on disk."""

    root: Path

    def attempt(self, task_id: str, attempt: int) -> AttemptFolder:
        """Return the folder of an attempt, whether or not it exists."""
        return AttemptFolder(self.root / task_id / str(attempt))

    def attempts(self, task_id: str) -> Iterator[tuple[int, AttemptFolder]]:
        """Yield the attempts of a task that are on disk."""
        folder = self.root / task_id
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.name.isdecimal():
                yield int(path.name), AttemptFolder(path)

    def all(self) -> Iterator[AttemptFolder]:
        """Yield every attempt on disk."""
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else []:
            for _, attempt in self.attempts(folder.name):
                yield attempt

    def remove(self, attempt: AttemptFolder) -> None:
        """Remove an attempt, and the task's folder once it is empty."""
        remove(attempt.root)
        task = attempt.root.parent
        if not any(task.iterdir()):
            task.rmdir()
