"""Making what is on disk durable, and reading it without copying."""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file's bytes, or the names in a folder, survive the loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """Map a file read-only; an empty one, which cannot be mapped, gives an empty view.

    Whoever keeps a part of the view beyond the context makes its end fail with ``BufferError``,
    unless the context ends with an exception: its traceback keeps parts of the view in its
    frames, so the mapping goes with the exception, and says nothing instead of it.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield memoryview(b"")
            return
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    view = memoryview(content)
    yield view
    view.release()
    content.close()
