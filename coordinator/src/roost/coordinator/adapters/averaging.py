"""Averaging spooled updates into a file, block by block.

Memory: one block of each buffer, whatever the size of the model and the number of updates. The
file is written in the order of the tensors' names, so the model's digest comes along for free.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from roost.coordinator.core.average import weighted_sum
from roost.protocol.round.refusals import NOT_FINITE
from roost.protocol.round.tensorfile import (
    Array,
    Layout,
    blocks,
    digest_entry_header,
    make_header,
    read_layout,
)
from roost.wire.refusal import Refused

BLOCK: Final = 65_536
_MAX_OPEN: Final = 256
_HEADER_PROBE: Final = 8


@dataclass(frozen=True, slots=True)
class _Source:
    """Where each tensor of one update lies, in the order of names."""

    path: Path
    dtypes: tuple[str, ...]
    starts: tuple[int, ...]


class Updates:
    """Reads the same block of many files, with few of them open."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the headers of all files."""
        self._sources = [_source(path) for path in paths]
        self._handles: dict[Path, int] = {}
        self._bytes = bytearray(BLOCK * 8)

    def __enter__(self) -> Self:
        """Nothing is open yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what is open."""
        for handle in self._handles.values():
            os.close(handle)

    def read(self, tensor: int, start: int, stop: int) -> Iterator[Array]:
        """Yield elements ``start`` to ``stop`` of a tensor, update by update.

        Each block is overwritten by the next.
        """
        for source in self._sources:
            dtype = np.dtype(source.dtypes[tensor])
            view = memoryview(self._bytes)[: (stop - start) * dtype.itemsize]
            self._fill(source.path, view, source.starts[tensor] + start * dtype.itemsize)
            yield np.frombuffer(view, dtype)

    def _fill(self, path: Path, view: memoryview, offset: int) -> None:
        handle = self._handles.get(path)
        if handle is not None:
            _read_fully(handle, view, offset)
            return
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if len(self._handles) < _MAX_OPEN:
            self._handles[path] = handle
            _read_fully(handle, view, offset)
            return
        try:
            _read_fully(handle, view, offset)
        finally:
            os.close(handle)


def _read_fully(handle: int, view: memoryview, offset: int) -> None:
    if os.preadv(handle, [view], offset) != len(view):
        raise OSError(f"a spooled update ends before byte {offset + len(view)}")


def _source(path: Path) -> _Source:
    entries = file_layout(path).entries
    return _Source(
        path,
        tuple(entry.dtype for entry in entries),
        tuple(entry.start for entry in entries),
    )


def file_layout(path: Path) -> Layout:
    """Return the layout of a safetensors file."""
    with path.open("rb") as file:
        return read_layout(np.memmap(file, np.uint8, "r").data)


def average(paths: Sequence[Path], weights: Sequence[int], base: Layout, into: Path) -> str:
    """Write the weighted mean of updates as a safetensors file and return its digest.

    Args:
        paths: The updates' files, in the order of summation.
        weights: Their ``num_samples``.
        base: Names, types and shapes of the result; its metadata goes along.
        into: Written, synced, not renamed.

    Raises:
        Refused: not_finite, when a sum leaves the range of numbers.
    """
    header, layout = make_header(
        ((entry.name, entry.dtype, entry.shape) for entry in base.entries), base.metadata
    )
    sha = hashlib.sha256()
    out, scratch = np.empty(BLOCK), np.empty(BLOCK)
    with Updates(paths) as updates, into.open("wb") as file, np.errstate(over="ignore"):
        file.write(header)
        for tensor, entry in enumerate(layout.entries):
            sha.update(digest_entry_header(entry.name, entry.dtype, entry.shape))
            file.seek(entry.start)
            for start, stop in blocks(entry.size, BLOCK):
                size = stop - start
                blocks_ = updates.read(tensor, start, stop)
                mean = weighted_sum(blocks_, weights, out[:size], scratch[:size])
                block = mean.astype(entry.dtype)
                if not np.isfinite(block).all():
                    raise Refused(NOT_FINITE, f"the mean of tensor '{entry.name}' is not finite")
                sha.update(block.data)
                file.write(block.data)
        file.flush()
        os.fsync(file.fileno())
    return sha.hexdigest()
