"""Files that hold secrets: whole or not at all, and readable by their owner alone."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked", "private_folder", "write_private"]

_OWNER_ONLY = 0o600
_OWNER_FOLDER = 0o700
_PASSABLE_FOLDER = 0o711


def write_private(file: Path, content: bytes | str, *, owner: str | None = None) -> None:
    """Replace a file; readers see the old or the new one, whole.

    Args:
        file: Where it goes; only its owner may read it.
        content: What it holds.
        owner: Who shall own it; None leaves it with who writes.
    """
    data = content.encode() if isinstance(content, str) else content
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    if owner is not None:
        shutil.chown(partial, owner)
    partial.replace(file)


def private_folder(folder: Path, *, owner: str | None = None, passable: bool = False) -> Path:
    """Make a folder that only its owner may look into; one that is there keeps what is in it.

    Args:
        folder: Where.
        owner: Who shall own it; None leaves it with who makes it.
        passable: Whether others may get to what is theirs in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(_PASSABLE_FOLDER if passable else _OWNER_FOLDER)
    if owner is not None:
        shutil.chown(folder, owner)
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time change what is in a folder; others wait."""
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
        yield
