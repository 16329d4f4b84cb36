"""Files on the bridge's disk: what phones fetch by digest, and what they hand in."""

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from roost.chassis.files import sync
from roost.wire.blob import Manifest

_TEMPORARY: Final = "fetch-"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Shelf:
    """Files by digest, the most recently used ones first.

    Attributes:
        folder: Where they lie.
        max_bytes: Above it the files that were used longest ago go.
    """

    folder: Path
    max_bytes: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """Yield a path for a new file; what is left there afterwards is removed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self.folder))
        try:
            yield folder / "file"
        finally:
            shutil.rmtree(folder)

    def keep(self, path: Path) -> tuple[str, int]:
        """Put a file on the shelf and return its digest and size."""
        sha256, size = sha256_of(path), path.stat().st_size
        path.replace(self.folder / sha256)
        self._shrink(sha256)
        return sha256, size

    def find(self, sha256: str) -> Path | None:
        """Return where a file lies, or None; it then counts as used."""
        path = self.folder / sha256
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def sweep(self) -> None:
        """Remove what a fetch left that was killed."""
        if self.folder.is_dir():
            for path in self.folder.glob(f"{_TEMPORARY}*"):
                shutil.rmtree(path)

    def _shrink(self, keep: str) -> None:
        with self._lock:
            found = [(path, path.stat()) for path in self.folder.iterdir() if path.is_file()]
            size = sum(status.st_size for _, status in found)
            for path, status in sorted(found, key=lambda item: item[1].st_mtime_ns):
                if size > self.max_bytes and path.name != keep:
                    path.unlink(missing_ok=True)
                    size -= status.st_size


@dataclass(frozen=True, slots=True)
class Tray:
    """What phones hand in: ``{device}/{task_id}/{attempt}/{file}``.

    Attributes:
        folder: Where it lies.
    """

    folder: Path

    def attempt(self, device: str, task_id: str, attempt: int) -> Path:
        """Return the folder of an attempt, whether or not it exists."""
        return self.folder / device / task_id / str(attempt)

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Yield a path for a file that comes in; what is left there afterwards is removed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=self.folder)
        os.close(handle)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def put(self, path: Path, device: str, task_id: str, attempt: int, file: str) -> None:
        """Give a file that came in its place; it survives the loss of power from then on."""
        folder = self.attempt(device, task_id, attempt)
        folder.mkdir(parents=True, exist_ok=True)
        sync(path)
        path.replace(folder / file)
        sync(folder)

    def sweep(self) -> None:
        """Remove what came in halfway when the process ended."""
        if self.folder.is_dir():
            for path in self.folder.glob(f"{_TEMPORARY}*"):
                path.unlink()

    def note_offer(self, device: str, task_id: str, attempt: int, manifest: Manifest) -> None:
        """Write down a blob that will have to be withdrawn, before it is offered."""
        if manifest not in self.offered(device, task_id, attempt):
            path = self.attempt(device, task_id, attempt) / ".offered"
            with path.open("ab") as file:
                file.write(manifest.encode() + b"\n")

    def offered(self, device: str, task_id: str, attempt: int) -> list[Manifest]:
        """Return the blobs that an attempt offers."""
        path = self.attempt(device, task_id, attempt) / ".offered"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [Manifest.decode(line) for line in lines]

    def attempts(self, device: str, task_id: str) -> list[int]:
        """Return the attempts of a task that are on disk."""
        folder = self.folder / device / task_id
        return sorted(int(path.name) for path in folder.iterdir()) if folder.is_dir() else []

    def remove(self, device: str, task_id: str, attempt: int) -> None:
        """Remove an attempt, and the folders above it once they are empty."""
        folder = self.attempt(device, task_id, attempt)
        shutil.rmtree(folder, ignore_errors=True)
        for above in (folder.parent, folder.parent.parent):
            if above.is_dir() and not any(above.iterdir()):
                above.rmdir()
