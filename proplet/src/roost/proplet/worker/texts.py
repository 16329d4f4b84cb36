"""What to say of the engine's errors and traps; only failures need it, and pay for it."""

from __future__ import annotations

import ctypes

from wasmtime import Trap
from wasmtime._bindings import wasm_trap_t

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHARS = 300
_SHOWN_FRAMES = 3


def first_line(error: object) -> str:
    """Return the gist of an engine's message, which may go on for pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(line for line in lines if line != "Caused by:")[:_CHARS]


def describe_trap(pointer: Any) -> str:
    """Name a trap and the innermost functions, as far as the module carries names."""
    trap = Trap._from_ptr(ctypes.cast(pointer, ctypes.POINTER(wasm_trap_t)))  # noqa: SLF001
    code = trap.trap_code
    name = first_line(trap) if code is None else code.name.lower().replace("_", " ")
    names = [frame.func_name for frame in trap.frames[:_SHOWN_FRAMES]]
    known = [found for found in names if found]
    return f"{name} in {' < '.join(known)}" if known else name
