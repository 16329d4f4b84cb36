"""The few functions of Wasmtime's C API that a run needs, called directly.

The package ``wasmtime`` binds all of the C API; importing it costs some 70 ms of processor time,
which every task would pay. These are the same functions of the same library. A test compares each
signature here with the package's own, so that an upgrade cannot change one unnoticed; compiling
and the texts of failures still go through the package.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_bool, c_char_p, c_int, c_int64, c_size_t, c_uint8, c_uint64, c_void_p

TYPE_CHECKING = False  # as in typing, whose import would cost 5 ms
if TYPE_CHECKING:
    from typing import Any

NEW_MEMORY = ctypes.CFUNCTYPE(
    c_size_t, c_void_p, c_void_p, c_size_t, c_size_t, c_size_t, c_size_t, c_void_p
)
GET_MEMORY = ctypes.CFUNCTYPE(c_size_t, c_void_p, POINTER(c_size_t), POINTER(c_size_t))
GROW_MEMORY = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_size_t)
FINALIZER = ctypes.CFUNCTYPE(None, c_void_p)
EXTERN_FUNC = 0


class LinearMemory(ctypes.Structure):
    """``wasmtime_linear_memory_t``: a memory that this side made."""

    _fields_ = (
        ("env", c_void_p),
        ("get_memory", GET_MEMORY),
        ("grow_memory", GROW_MEMORY),
        ("finalizer", FINALIZER),
    )


class MemoryCreator(ctypes.Structure):
    """``wasmtime_memory_creator_t``: makes memories for an engine."""

    _fields_ = (("env", c_void_p), ("new_memory", NEW_MEMORY), ("finalizer", FINALIZER))


class Instance(ctypes.Structure):
    """``wasmtime_instance_t``."""

    _fields_ = (("store_id", c_uint64), ("private", c_size_t))


class Func(ctypes.Structure):
    """``wasmtime_func_t``."""

    _fields_ = (("store_id", c_uint64), ("private", c_void_p))


class Extern(ctypes.Structure):
    """``wasmtime_extern_t``; of its union only the function is looked at."""

    _fields_ = (("kind", c_uint8), ("func", Func), ("padding", c_uint64))


class ByteVec(ctypes.Structure):
    """``wasm_byte_vec_t``."""

    _fields_ = (("size", c_size_t), ("data", POINTER(ctypes.c_ubyte)))


STRINGS = POINTER(c_char_p)
# Every opaque pointer is a void pointer here.
SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "wasm_config_new": (c_void_p, ()),
    "wasmtime_config_wasm_gc_set": (None, (c_void_p, c_bool)),
    "wasmtime_config_memory_init_cow_set": (None, (c_void_p, c_bool)),
    "wasmtime_config_host_memory_creator_set": (None, (c_void_p, POINTER(MemoryCreator))),
    "wasm_engine_new_with_config": (c_void_p, (c_void_p,)),
    "wasmtime_module_deserialize_file": (c_void_p, (c_void_p, c_char_p, POINTER(c_void_p))),
    "wasmtime_store_new": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "wasmtime_store_context": (c_void_p, (c_void_p,)),
    "wasmtime_store_limiter": (None, (c_void_p, c_int64, c_int64, c_int64, c_int64, c_int64)),
    "wasi_config_new": (c_void_p, ()),
    "wasi_config_set_argv": (c_bool, (c_void_p, c_size_t, STRINGS)),
    "wasi_config_set_env": (c_bool, (c_void_p, c_size_t, STRINGS, STRINGS)),
    "wasi_config_set_stdout_file": (c_bool, (c_void_p, c_char_p)),
    "wasi_config_set_stderr_file": (c_bool, (c_void_p, c_char_p)),
    "wasi_config_preopen_dir": (c_bool, (c_void_p, c_char_p, c_char_p, c_bool)),
    "wasmtime_context_set_wasi": (c_void_p, (c_void_p, c_void_p)),
    "wasmtime_linker_new": (c_void_p, (c_void_p,)),
    "wasmtime_linker_define_wasi": (c_void_p, (c_void_p,)),
    "wasmtime_linker_instantiate": (
        c_void_p,
        (c_void_p, c_void_p, c_void_p, POINTER(Instance), POINTER(c_void_p)),
    ),
    "wasmtime_instance_export_get": (
        c_bool,
        (c_void_p, POINTER(Instance), c_char_p, c_size_t, POINTER(Extern)),
    ),
    "wasmtime_func_call": (
        c_void_p,
        (c_void_p, POINTER(Func), c_void_p, c_size_t, c_void_p, c_size_t, POINTER(c_void_p)),
    ),
    "wasmtime_error_new": (c_void_p, (c_char_p,)),
    "wasmtime_error_exit_status": (c_bool, (c_void_p, POINTER(c_int))),
    "wasmtime_error_message": (None, (c_void_p, POINTER(ByteVec))),
}


def load(path: str) -> Any:
    """Load Wasmtime's shared library and declare the functions above."""
    library = ctypes.CDLL(path)
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


def strings(texts: list[str]) -> Any:
    """Return a C array of strings."""
    return (c_char_p * len(texts))(*[text.encode() for text in texts])
