"""Folders that a guest writes: measured and removed without trusting what it left there.

A guest may leave links, sparse files, and folders nested deeper than any recursion or path limit.
"""

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_ENTRIES: Final = 10_000
MAX_DEPTH: Final = 32
STALE_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Size:
    """What a folder holds.

    Attributes:
        size: Bytes of all regular files, by their length: a sparse file counts in full.
        excess: Why the folder is beyond counting, or None.
    """

    size: int
    excess: str | None = None


def measure(folder: Path) -> Size:
    """Add up a folder, while a guest may be changing it."""
    size = entries = 0
    pending = [(str(folder), 0)]
    while pending:
        path, depth = pending.pop()
        if depth > MAX_DEPTH:
            return Size(size, f"its folders are nested deeper than {MAX_DEPTH}")
        try:
            for status, inner in _entries(path):
                entries += 1
                if stat.S_ISDIR(status.st_mode):
                    pending.append((inner, depth + 1))
                else:
                    size += status.st_size
                if entries > MAX_ENTRIES:
                    return Size(size, f"it holds more than {MAX_ENTRIES} files")
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            return Size(size, f"it cannot be read: {error.strerror}")
    return Size(size)


def _entries(path: str) -> Iterator[tuple[os.stat_result, str]]:
    with os.scandir(path) as found:
        for entry in found:
            with contextlib.suppress(FileNotFoundError):
                yield entry.stat(follow_symlinks=False), entry.path


def remove(folder: Path) -> None:
    """Remove a folder with all it holds, however deep; a missing one is fine.

    Instead of descending, folders are moved up next to the first one and emptied there.
    """
    if not folder.is_dir() or folder.is_symlink():
        folder.unlink(missing_ok=True)
        return
    pending = [str(folder)]
    moved = 0
    while pending:
        path = pending[-1]
        with os.scandir(path) as found:
            inner = list(found)
        for entry in inner:
            if entry.is_dir(follow_symlinks=False):
                place = f"{folder}.gone-{moved}"
                moved += 1
                os.rename(entry.path, place)  # noqa: PTH104 - long paths, no objects
                pending.insert(0, place)
            else:
                os.unlink(entry.path)  # noqa: PTH108
        os.rmdir(path)  # noqa: PTH106
        pending.pop()


def sweep(folder: Path, prefix: str, *, shared: bool) -> None:
    """Remove temporary folders whose makers are gone.

    Args:
        folder: Holds them.
        prefix: How their names begin.
        shared: Whether other proplets use the folder, too: then only what is older than an hour
            goes, for younger ones may be in use.
    """
    for path in folder.glob(f"{prefix}*") if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            if not shared or time.time() - path.stat().st_mtime > STALE_S:
                remove(path)


def read_regular(folder: Path, name: str) -> int | None:
    """Open a regular file of the folder for reading; None if there is none of that name.

    Returns:
        A file descriptor. A link is not followed: it could point to what the guest may not read.
    """
    try:
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return None
    return handle
