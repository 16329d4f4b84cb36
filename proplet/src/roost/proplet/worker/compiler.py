"""Compiling one image, in a process that is thrown away afterwards."""

from __future__ import annotations

import resource

from roost.proplet.worker.texts import first_line
from wasmtime import Config, Engine, Module, WasmtimeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WASI = "wasi_snapshot_preview1"
ADDRESS_SPACE_BYTES = 8 * 1024**3


def compile_module(job: dict[str, Any]) -> dict[str, Any]:
    """Compile ``wasm`` into the file ``out`` if it is a preview 1 command.

    The configuration is that of ``roost.proplet.worker.runner``: the engine compares them when it
    loads the module.
    """
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    config = Config()
    config.wasm_gc = False
    config.memory_init_cow = False
    try:
        with open(job["wasm"], "rb") as source:  # noqa: PTH123 - pathlib costs start-up time
            module = Module(Engine(config), source.read())
    except WasmtimeError as error:
        return {"kind": "refused", "message": f"it does not compile: {first_line(error)}"}
    strange = [f"{i.module}.{i.name}" for i in module.imports if i.module != WASI]
    if strange:
        shown = ", ".join(strange[:3])
        return {"kind": "refused", "message": f"it imports {shown}; only {WASI} is there"}
    if "_start" not in {export.name for export in module.exports}:
        return {"kind": "refused", "message": "it exports no _start: it is no WASI command"}
    with open(job["out"], "wb") as target:  # noqa: PTH123
        target.write(module.serialize())
    return {"kind": "exit", "code": 0}
