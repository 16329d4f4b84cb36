"""Linear memory with a limit that tells when it was hit.

``Store.set_limits`` makes ``memory.grow`` answer -1 in silence: a guest that then aborts cannot be
told from one that failed for a reason of its own. So the engine asks this module for its linear
memories (wasmtime's host memory creator), and a refused growth is remembered.

Each memory is one reservation, as the engine asks for it (4 GiB of address space and a guard), of
which only the part in use is accessible. Growing is an ``mprotect``; nothing ever moves.
"""

import ctypes
import mmap
from typing import Any, Final

from wasmtime import Config
from wasmtime import _bindings as c_api

_MAP_NORESERVE: Final = 0x4000
_MAP_FAILED: Final = ctypes.c_void_p(-1).value
_READ_WRITE: Final = mmap.PROT_READ | mmap.PROT_WRITE
_FINALIZER: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class LimitedMemory:
    """All linear memories of one guest, together at most ``limit`` bytes.

    Attributes:
        peak: Bytes in use now; linear memory never shrinks.
        refused: Bytes that all memories would have had after the first refused growth, or 0.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.peak = 0
        self.refused = 0
        self._sizes: list[int] = []
        self._callbacks: list[Any] = []  # C holds bare pointers: these must stay alive
        self._creator: Any = c_api.wasmtime_memory_creator_t()

    def install(self, config: Config) -> None:
        """Make an engine of this config take its linear memories from here."""
        new = c_api.wasmtime_new_memory_callback_t(self._new)
        self._creator.env = None
        self._creator.new_memory = new
        self._creator.finalizer = self._kept(_FINALIZER(_keep))
        self._callbacks.append(new)
        c_api.wasmtime_config_host_memory_creator_set(config.ptr(), ctypes.byref(self._creator))

    def _kept(self, callback: Any) -> Any:
        self._callbacks.append(callback)
        return callback

    def _new(
        self,
        _env: Any,
        _type: Any,
        minimum: int,
        _maximum: int,
        reserved: int,
        guard: int,
        result: Any,
    ) -> int:
        if not self._allow(minimum):
            return _error("the memory that the guest starts with is above its limit")
        capacity = max(reserved, minimum)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        base = _libc.mmap(None, capacity + guard, 0, flags, -1, 0)
        if base in (None, _MAP_FAILED):
            return _error("no address space for the guest's memory")
        if minimum and _libc.mprotect(base, minimum, _READ_WRITE) != 0:
            return _error("the device has no memory for the guest")
        index = len(self._sizes)
        self._sizes.append(minimum)

        def get(_env: Any, size: Any, room: Any) -> int:
            size[0] = self._sizes[index]
            room[0] = capacity
            return int(base)

        def grow(_env: Any, size: int) -> int:
            if not self._allow(size - self._sizes[index]):
                return _error("the guest's memory is at its limit")
            if size > capacity or _libc.mprotect(base, size, _READ_WRITE) != 0:
                self.refused = self.refused or self.peak
                return _error("the device has no memory for the guest")
            self._sizes[index] = size
            return 0

        memory = result[0]
        memory.env = None
        memory.get_memory = self._kept(c_api.wasmtime_memory_get_callback_t(get))
        memory.grow_memory = self._kept(c_api.wasmtime_memory_grow_callback_t(grow))
        memory.finalizer = self._kept(_FINALIZER(_keep))
        return 0

    def _allow(self, more: int) -> bool:
        wanted = sum(self._sizes) + more
        if wanted > self.limit:
            self.refused = self.refused or wanted
            return False
        self.peak = wanted
        return True


def _keep(_env: Any) -> None:
    """Unmap nothing: the process ends with its guest, and the kernel takes all back."""


def _error(message: str) -> int:
    """Make a C error; the engine takes it over and frees it."""
    pointer = ctypes.cast(c_api.wasmtime_error_new(message.encode()), ctypes.c_void_p)
    return int(pointer.value or 0)
