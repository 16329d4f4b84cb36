"""The program of a worker process: compile one module, or run one guest, say how it ended, exit.

The job is a JSON object on standard input; the news go, a JSON line each, to a pipe of their own
(``{"news": "ready"}``, then one ``{"news": "end", ...}``), so that nothing a guest prints and no
exit status of Python's can be taken for an outcome. See ``roost.proplet.guest`` for the parent.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import time
from typing import Any, Final

from roost.proplet.worker.memory import LimitedMemory
from wasmtime import (
    Config,
    Engine,
    ExitTrap,
    Func,
    Linker,
    Module,
    Store,
    Trap,
    WasiConfig,
    WasmtimeError,
)

WASI: Final = "wasi_snapshot_preview1"
MAX_TABLE_ELEMENTS: Final = 1_000_000
MAX_TABLES: Final = 16
MAX_MEMORIES: Final = 4
_PR_SET_PDEATHSIG: Final = 1
_MESSAGE_CHARS: Final = 2000
_COMPILER_BYTES: Final = 8 * 1024**3


def main() -> None:
    """Do the job on standard input; ``argv``: parent's process id, number of the news pipe."""
    parent, news = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    job = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        end = compile_module(job) if job["do"] == "compile" else run(job, news)
    except Exception as error:  # noqa: BLE001 - whatever it was, the parent has to hear of it
        end = {"kind": "error", "message": f"{type(error).__name__}: {error}"[:_MESSAGE_CHARS]}
    tell(news, {"news": "end", **end})
    os._exit(0)  # nothing is left to clean up, and the engine's destructors take their time


def die_with(parent: int) -> None:
    """Let the kernel kill this process when the proplet ends, however it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)


def tell(pipe: int, news: dict[str, Any]) -> None:
    """Write one line of news."""
    os.write(pipe, json.dumps(news).encode() + b"\n")


def engine(memory: LimitedMemory) -> Engine:
    """Return the one engine configuration that compiles and runs guests.

    No interruption checks and no fuel: they slow tight loops down by 1.3 to 3.3 times and cannot
    interrupt a guest that sleeps; the parent kills the process instead. Garbage-collected objects would live
    outside the limited memory, and no preview 1 toolchain uses them.
    """
    config = Config()
    config.wasm_gc = False
    config.memory_init_cow = False  # its images only fit memories that the engine maps itself
    memory.install(config)
    return Engine(config)


def compile_module(job: dict[str, Any]) -> dict[str, Any]:
    """Compile ``wasm`` into the file ``out`` if it is a preview 1 command."""
    resource.setrlimit(resource.RLIMIT_AS, (_COMPILER_BYTES, _COMPILER_BYTES))
    host = engine(LimitedMemory(0))
    try:
        with open(job["wasm"], "rb") as source:  # noqa: PTH123 - pathlib costs start-up time
            module = Module(host, source.read())
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


def run(job: dict[str, Any], news: int) -> dict[str, Any]:
    """Run ``cwasm`` with its ``args``, ``env``, ``mounts`` and limits."""
    memory = LimitedMemory(job["memory_bytes"])
    host = engine(memory)
    try:
        module = Module.deserialize_file(host, job["cwasm"])
    except WasmtimeError as error:
        return {"kind": "stale", "message": first_line(error)}
    store = Store(host)
    store.set_limits(
        table_elements=MAX_TABLE_ELEMENTS, tables=MAX_TABLES, memories=MAX_MEMORIES, instances=1
    )
    store.set_wasi(wasi(job))
    linker = Linker(host)
    linker.define_wasi()
    largest = job["out_bytes"] + 1  # one byte more than allowed shows that the limit was hit
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    tell(news, {"news": "ready"})
    wall, cpu = time.perf_counter(), time.process_time()
    end = call(linker, store, module)
    return {
        **end,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "memory_bytes": memory.peak,
        "memory_refused": memory.refused,
        "peak_kb": peak_kb(),
    }


def peak_kb() -> int:
    """Return the largest resident size so far; ``ru_maxrss`` would begin with the parent's."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


def wasi(job: dict[str, Any]) -> WasiConfig:
    """Return what the guest sees: nothing but what the job names. Standard input is empty."""
    config = WasiConfig()
    config.argv = job["args"]
    config.env = list(job["env"].items())
    config.stdout_file = "/proc/self/fd/1"  # a pipe: unbuffered, so it can be followed live
    config.stderr_file = "/proc/self/fd/2"
    for host, guest, writable in job["mounts"]:
        config.preopen_dir(host, guest, writable)
    return config


def call(linker: Linker, store: Store, module: Module) -> dict[str, Any]:
    """Instantiate the module, call ``_start`` and name the end."""
    begun = False
    try:
        instance = linker.instantiate(store, module)
        start = instance.exports(store)["_start"]
        if not isinstance(start, Func):
            return {"kind": "refused", "message": "its _start is no function"}
        begun = True
        start(store)
    except ExitTrap as end:  # also for exit(0)
        return {"kind": "exit", "code": end.code}
    except Trap as trap:
        code = trap.trap_code
        name = first_line(trap) if code is None else code.name.lower().replace("_", " ")
        return {"kind": "trap", "message": f"{name}{where(trap)}"}
    except WasmtimeError as error:
        if begun:
            return {"kind": "trap", "message": first_line(error)}
        return {"kind": "refused", "message": f"it does not start: {first_line(error)}"}
    return {"kind": "exit", "code": 0}


def where(trap: Trap) -> str:
    """Name the innermost functions of a trap, as far as the module carries names."""
    names = [frame.func_name for frame in trap.frames[:3]]
    known = [name for name in names if name]
    return f" in {' < '.join(known)}" if known else ""


def first_line(error: Exception) -> str:
    """Return the gist of an engine's message, which may go on for pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    gist = " ".join(line for line in lines if line != "Caused by:")
    return gist[:300]


if __name__ == "__main__":
    main()
