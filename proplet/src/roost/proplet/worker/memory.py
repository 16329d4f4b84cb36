"""Linear memory with a limit that tells when it was hit.

``Store.set_limits`` makes ``memory.grow`` answer -1 in silence: a guest that then aborts cannot be
told from one that failed for a reason of its own. So the engine asks this module for its linear
memories (wasmtime's host memory creator), and a refused growth is remembered.

Each memory is one reservation, as the engine asks for it (4 GiB of address space and a guard), of
which only the part in use is accessible. Growing is an ``mprotect``; nothing ever moves.
"""

from __future__ import annotations

import ctypes
import mmap

from roost.proplet.worker.capi import (
    FINALIZER,
    GET_MEMORY,
    GROW_MEMORY,
    NEW_MEMORY,
    LinearMemory,
    MemoryCreator,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAP_NORESERVE = 0x4000
_MAP_FAILED = ctypes.c_void_p(-1).value
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class LimitedMemory:
    """All linear memories of one guest, together at most ``limit`` bytes.

    Attributes:
        peak: Bytes in use now; linear memory never shrinks.
        refused: Bytes that all memories would have had after the first refused growth, or 0.
    """

    def __init__(self, api: Any, limit: int) -> None:
        self.limit = limit
        self.peak = 0
        self.refused = 0
        self._api = api
        self._sizes: list[int] = []
        # C holds bare pointers to these: they must stay alive.
        self._finalizer = FINALIZER(_keep)
        self._new = NEW_MEMORY(self._new_memory)
        self._callbacks: list[Any] = []
        self.creator = MemoryCreator(None, self._new, self._finalizer)

    def _new_memory(
        self,
        _env: Any,
        _type: Any,
        minimum: int,
        _maximum: int,
        reserved: int,
        guard: int,
        result: int,
    ) -> int:
        if not self._allow(minimum):
            return self._error(b"the memory that the guest starts with is above its limit")
        capacity = max(reserved, minimum)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        base = _libc.mmap(None, capacity + guard, 0, flags, -1, 0)
        if base in (None, _MAP_FAILED):
            return self._error(b"no address space for the guest's memory")
        if minimum and _libc.mprotect(base, minimum, _READ_WRITE) != 0:
            return self._error(b"the device has no memory for the guest")
        get, grow = self._callbacks_of(len(self._sizes), base, capacity)
        self._sizes.append(minimum)
        memory = LinearMemory.from_address(result)
        memory.env = None
        memory.get_memory, memory.grow_memory = get, grow
        memory.finalizer = self._finalizer
        return 0

    def _callbacks_of(self, index: int, base: int, capacity: int) -> tuple[Any, Any]:
        def get(_env: Any, size: Any, room: Any) -> int:
            size[0] = self._sizes[index]
            room[0] = capacity
            return base

        def grow(_env: Any, size: int) -> int:
            if not self._allow(size - self._sizes[index]):
                return self._error(b"the guest's memory is at its limit")
            if size > capacity or _libc.mprotect(base, size, _READ_WRITE) != 0:
                self.refused = self.refused or self.peak
                return self._error(b"the device has no memory for the guest")
            self._sizes[index] = size
            return 0

        pair = GET_MEMORY(get), GROW_MEMORY(grow)
        self._callbacks.extend(pair)
        return pair

    def _allow(self, more: int) -> bool:
        wanted = sum(self._sizes) + more
        if wanted > self.limit:
            self.refused = self.refused or wanted
            return False
        self.peak = wanted
        return True

    def _error(self, message: bytes) -> int:
        """Make a C error; the engine takes it over and frees it."""
        return int(self._api.wasmtime_error_new(message))


def _keep(_env: Any) -> None:
    """Unmap nothing: the process ends with its guest, and the kernel takes all back."""
