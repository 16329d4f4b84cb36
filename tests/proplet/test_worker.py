"""What the worker declares of Wasmtime's C API is what the package itself declares."""

import ctypes
import subprocess
import sys
from typing import Any

import pytest
from roost.proplet.guest.process import _paths, engine_library
from roost.proplet.worker import capi
from roost.proplet.worker.memory import LimitedMemory
from wasmtime import _bindings, _ffi, wat2wasm


def shape(kind: Any) -> str:
    """Return what a C type is to the calling convention: pointers are all alike."""
    if kind is None:
        return "nothing"
    pointers = (ctypes.POINTER(ctypes.c_int).__mro__[1], ctypes.CFUNCTYPE(None).__mro__[1])
    if kind in (ctypes.c_void_p, ctypes.c_char_p) or issubclass(kind, pointers):
        return "pointer"
    return str(kind.__name__)


@pytest.mark.parametrize("name", sorted(capi.SIGNATURES))
def test_signatures_are_the_package_s_own(name: str) -> None:
    """An upgrade of wasmtime that changes one of these functions fails here."""
    result, arguments = capi.SIGNATURES[name]
    theirs = getattr(_bindings, f"_{name}")
    assert shape(result) == shape(theirs.restype)
    assert [shape(kind) for kind in arguments] == [shape(kind) for kind in theirs.argtypes]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (capi.LinearMemory, _bindings.wasmtime_linear_memory_t),
        (capi.MemoryCreator, _bindings.wasmtime_memory_creator_t),
        (capi.Instance, _bindings.wasmtime_instance_t),
        (capi.Func, _bindings.wasmtime_func_t),
        (capi.Extern, _bindings.wasmtime_extern_t),
        (capi.ByteVec, _bindings.wasm_byte_vec_t),
    ],
)
def test_structures_are_the_package_s_own(ours: Any, theirs: Any) -> None:
    """Size, alignment and the place of every field agree."""
    assert ctypes.sizeof(ours) == ctypes.sizeof(theirs)
    assert ctypes.alignment(ours) == ctypes.alignment(theirs)
    places = [getattr(theirs, name).offset for name, *_ in theirs._fields_]
    assert [getattr(ours, name).offset for name, *_ in ours._fields_][: len(places)] == places


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (capi.NEW_MEMORY, _bindings.wasmtime_new_memory_callback_t),
        (capi.GET_MEMORY, _bindings.wasmtime_memory_get_callback_t),
        (capi.GROW_MEMORY, _bindings.wasmtime_memory_grow_callback_t),
    ],
)
def test_callbacks_are_the_package_s_own(ours: Any, theirs: Any) -> None:
    """The engine calls back as it declares."""
    assert shape(ours._restype_) == shape(theirs._restype_)
    mine = [shape(kind) for kind in ours._argtypes_]
    assert mine == [shape(kind) for kind in theirs._argtypes_]


def test_func_is_the_package_s_own_kind() -> None:
    """The number that says: this export is a function."""
    assert _ffi.WASMTIME_EXTERN_FUNC.value == capi.EXTERN_FUNC


def test_several_memories_share_one_limit() -> None:
    """Two memories cannot have twice the limit."""
    api = capi.load(engine_library())
    memory = LimitedMemory(api, 10)
    assert memory._allow(6)
    memory._sizes.append(6)
    assert not memory._allow(5)
    assert (memory.peak, memory.refused) == (6, 11)
    assert memory._allow(4)
    assert (memory.peak, memory.refused) == (10, 11)


def test_a_run_imports_next_to_nothing() -> None:
    """Neither the wasmtime package nor typing, json, re or pydantic: every task would pay."""
    code = (
        "import sys; sys.path[1:1] = sys.argv[1:]\n"
        "from roost.proplet.worker import entry, runner\n"
        "print(*sorted(set(sys.modules) & {'wasmtime', 'typing', 'json', 're', 'pydantic'}))"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *_paths()], capture_output=True, check=True
    )
    assert said.stdout.split() == []


def test_the_proplet_imports_the_engine_never() -> None:
    """An idle proplet carries neither the engine nor the HTTP client."""
    code = (
        "import sys, roost.proplet.__main__\n"
        "print(*sorted(set(sys.modules) & {'wasmtime', 'httpx', 'numpy'}))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert said.stdout.split() == []
    assert wat2wasm("(module)")
