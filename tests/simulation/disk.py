"""What outlives a process: its files and its store. Every touch is a place to crash at."""

import errno
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self
from unittest.mock import patch

from roost.chassis.core import Key
from roost.chassis.effects import Publish
from roost.chassis.store import Store

Point = Callable[[str, str], None]
"""Told a kind and a name; raises ``Killed`` where the process is to end, or OSError."""


@dataclass(slots=True)
class File:
    """Bytes and the moment of the last change."""

    content: bytes
    changed: float


def _empty() -> bytes:
    """Return an empty store, so that not every run has to make its tables."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    with patch.object(Store, "_connect", lambda *_: database):
        Store(Path("state.sqlite"), {}, ())
    return bytes(database.serialize())


_EMPTY = _empty()


class Disk:
    """A service's folder, and the database in it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.files: dict[str, File] = {}
        self.clock = clock
        self.point: Point = lambda _kind, _what: None
        self.database = sqlite3.connect(":memory:", isolation_level=None)
        self.database.deserialize(_EMPTY)

    def keeps(self, name: str) -> bool:
        """Tell whether the store has a retained topic or an entity of that name."""
        query = "SELECT 1 FROM retained WHERE topic=? UNION SELECT 1 FROM entities WHERE id=?"
        return self.database.execute(query, (name, name)).fetchone() is not None

    def path(self, name: str) -> "MemoryPath":
        """Return a file's path, whether or not it exists."""
        return MemoryPath(self, name)

    def names(self, folder: str) -> list[str]:
        """Return the names of all files below a folder."""
        return [name for name in sorted(self.files) if name.startswith(folder)]

    def write(self, name: str, content: bytes) -> None:
        """Write a file; a crash may leave the first half of it."""
        self.files[name] = File(content[: len(content) // 2], self.clock())
        self.point("write", name)
        self.files[name] = File(content, self.clock())

    def write_whole(self, name: str, content: bytes) -> None:
        """Write a file that is whole or absent."""
        self.write(name + ".part", content)
        self.path(name + ".part").replace(self.path(name))

    def remove_all(self, folder: str) -> None:
        """Remove a folder."""
        for name in self.names(folder):
            del self.files[name]


@dataclass(frozen=True)
class MemoryPath:
    """As much of ``pathlib.Path`` as the performers use."""

    disk: Disk
    name: str

    def __truediv__(self, name: str) -> "MemoryPath":
        return MemoryPath(self.disk, f"{self.name}/{name}" if self.name else name)

    def _file(self) -> File:
        if self.name not in self.disk.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", self.name)
        return self.disk.files[self.name]

    def exists(self) -> bool:
        """Whether there is such a file."""
        return self.name in self.disk.files

    def read_bytes(self) -> bytes:
        """Return the content."""
        return self._file().content

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the content as text."""
        return self.read_bytes().decode(encoding)

    def write_text(self, content: str, encoding: str = "utf-8") -> None:
        """Write the content as text."""
        self.write_bytes(content.encode(encoding))

    def with_suffix(self, suffix: str) -> "MemoryPath":
        """Return the path with another end of its name."""
        return MemoryPath(self.disk, self.name.partition(".")[0] + suffix)

    def write_bytes(self, content: bytes) -> None:
        """Write the content."""
        self.disk.write(self.name, content)

    def stat(self) -> Any:
        """Return the size and the moment of the last change."""
        file = self._file()
        return SimpleNamespace(st_size=len(file.content), st_mtime=file.changed)

    def touch(self) -> None:
        """Change the moment of the last change."""
        self._file().changed = self.disk.clock()

    def replace(self, target: "MemoryPath") -> None:
        """Give it another name, at once."""
        self.disk.point("rename", target.name)
        file = self._file()
        del self.disk.files[self.name]
        self.disk.files[target.name] = file

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete it."""
        self.disk.point("unlink", self.name)
        if not missing_ok:
            self._file()
        self.disk.files.pop(self.name, None)


class SimStore(Store):
    """The real store on a database that outlives its process."""

    def __init__(
        self, disk: Disk, core: Any, committed: Callable[[list[Any], list[Publish]], None]
    ) -> None:
        self._disk, self._committed = disk, committed
        self._changes: list[tuple[Key, Any]] = []
        self._kept: list[Publish] = []
        super().__init__(Path("state.sqlite"), core.kinds, core.effects)

    def _connect(self, path: Path) -> sqlite3.Connection:  # type: ignore[override]
        del path
        if self._disk.database.in_transaction:
            self._disk.database.execute("ROLLBACK")  # as the journal does after a kill
        return self._disk.database

    def close(self) -> None:
        """Leave the database to the next process."""

    def put(self, key: Key, state: Any | None) -> None:
        """Write one entity, and remember it for the oracle."""
        self._changes.append((key, state))
        super().put(key, state)

    def keep_retained(self, publish: Publish, at: float) -> None:
        """Keep the copy of a retained topic, and remember it for the oracle."""
        self._kept.append(publish)
        super().keep_retained(publish, at)

    def __enter__(self) -> Self:
        self._changes, self._kept = [], []
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            super().__exit__(kind, error, trace)
            return
        try:
            self._disk.point("commit", f"{len(self._changes)} states")
        except BaseException:
            super().__exit__(OSError, None, None)
            raise
        super().__exit__(None, None, None)
        self._committed(self._changes, self._kept)
        self._disk.point("committed", f"{len(self._changes)} states")

    def outbox_size(self) -> int:
        """Return how many effects are not done."""
        found: int = self._disk.database.execute("SELECT count(*) FROM outbox").fetchone()[0]
        return found


def rows(disk: Disk, table: str) -> Iterator[Any]:
    """Yield the rows of a table, whether or not a process runs."""
    yield from disk.database.execute(f"SELECT * FROM {table}")
