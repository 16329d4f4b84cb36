"""Running one guest to its end."""

from __future__ import annotations

import ctypes
import resource
import time

from roost.proplet.worker import capi
from roost.proplet.worker.memory import LimitedMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_TABLE_ELEMENTS = 1_000_000
MAX_TABLES = 16
MAX_MEMORIES = 4
ANY = -1


def run(job: dict[str, Any], ready: Callable[[], None]) -> dict[str, Any]:
    """Run ``cwasm`` with its ``args``, ``env``, ``mounts`` and limits.

    Args:
        job: What to run.
        ready: Called just before the guest begins.
    """
    api = capi.load(job["library"])
    memory = LimitedMemory(api, job["memory_bytes"])
    guest = _Guest(api, memory)
    problem = guest.load(job["cwasm"])
    if problem is not None:
        return {"kind": "stale", "message": problem}
    guest.prepare(job)
    largest = job["out_bytes"] + 1  # one byte more than allowed shows that the limit was hit
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    ready()
    wall, cpu = time.perf_counter(), time.process_time()
    error, trap = guest.call()
    usage = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    peak = peak_kb()
    end = guest.describe(error, trap)
    return {**end, **usage, "memory_refused": memory.refused, "peak_kb": peak}


def peak_kb() -> int:
    """Return the largest resident size so far; ``ru_maxrss`` would begin with the parent's."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


class _Guest:
    """One store with one module. Nothing is freed: the process ends with its guest."""

    def __init__(self, api: Any, memory: LimitedMemory) -> None:
        self._api = api
        self._memory = memory  # C holds pointers into it
        self._engine = self._make_engine()
        self._module = ctypes.c_void_p()
        self._store = api.wasmtime_store_new(self._engine, None, None)
        self._context = api.wasmtime_store_context(self._store)
        self._linker = api.wasmtime_linker_new(self._engine)
        self._instantiated = False

    def _make_engine(self) -> Any:
        """Make the engine, configured as the compiler's.

        No interruption checks and no fuel: they slow tight loops down by 1.3 to 3.3 times and
        cannot interrupt a guest that sleeps; the parent kills the process instead. No garbage
        collection: its objects would live outside the limited memory. No copy-on-write images of
        memory: they only fit memories that the engine maps itself.
        """
        api = self._api
        config = api.wasm_config_new()
        api.wasmtime_config_wasm_gc_set(config, False)  # noqa: FBT003 - a C function
        api.wasmtime_config_memory_init_cow_set(config, False)  # noqa: FBT003
        api.wasmtime_config_host_memory_creator_set(config, ctypes.byref(self._memory.creator))
        return api.wasm_engine_new_with_config(config)

    def load(self, path: str) -> str | None:
        """Map the compiled module; the answer is why the engine will not have it."""
        error = self._api.wasmtime_module_deserialize_file(
            self._engine, path.encode(), ctypes.byref(self._module)
        )
        return self._text(error) if error else None

    def prepare(self, job: dict[str, Any]) -> None:
        """Give the guest what it sees: nothing but what the job names. Its stdin is empty."""
        api = self._api
        api.wasmtime_store_limiter(
            self._store, ANY, MAX_TABLE_ELEMENTS, 1, MAX_TABLES, MAX_MEMORIES
        )
        wasi = api.wasi_config_new()
        names, values = list(job["env"]), list(job["env"].values())
        done = [
            api.wasi_config_set_argv(wasi, len(job["args"]), capi.strings(job["args"])),
            api.wasi_config_set_env(wasi, len(names), capi.strings(names), capi.strings(values)),
            # Pipes: unbuffered, so that they can be followed live.
            api.wasi_config_set_stdout_file(wasi, b"/proc/self/fd/1"),
            api.wasi_config_set_stderr_file(wasi, b"/proc/self/fd/2"),
        ]
        for host, seen, writable in job["mounts"]:
            done.append(api.wasi_config_preopen_dir(wasi, host.encode(), seen.encode(), writable))
        if not all(done):
            raise RuntimeError(f"args, env, output and mounts could not all be set up: {done}")
        for error in (
            api.wasmtime_context_set_wasi(self._context, wasi),
            api.wasmtime_linker_define_wasi(self._linker),
        ):
            if error:
                raise RuntimeError(self._text(error))

    def call(self) -> tuple[Any, Any]:
        """Instantiate the module, call ``_start``, return the engine's error and trap."""
        api, trap = self._api, ctypes.c_void_p()
        instance, start = capi.Instance(), capi.Extern()
        error = api.wasmtime_linker_instantiate(
            self._linker, self._context, self._module, ctypes.byref(instance), ctypes.byref(trap)
        )
        self._instantiated = not error and not trap
        if self._instantiated:
            name = b"_start"
            found = api.wasmtime_instance_export_get(
                self._context, ctypes.byref(instance), name, len(name), ctypes.byref(start)
            )
            if not found or start.kind != capi.EXTERN_FUNC:
                error = api.wasmtime_error_new(b"its _start is no function")
                self._instantiated = False
                return error, trap
            error = api.wasmtime_func_call(
                self._context, ctypes.byref(start.func), None, 0, None, 0, ctypes.byref(trap)
            )
        return error, trap

    def describe(self, error: Any, trap: Any) -> dict[str, Any]:
        """Name the end that ``call`` returned."""
        if error:
            code = self._exit_code(error)  # also exit(0) comes as an error
            if code is not None:
                return {"kind": "exit", "code": code}
            if not self._instantiated:
                return {"kind": "refused", "message": f"it does not start: {self._text(error)}"}
            return {"kind": "trap", "message": self._text(error)}
        if trap:
            from roost.proplet.worker.texts import describe_trap  # noqa: PLC0415 - costs 70 ms

            return {"kind": "trap", "message": describe_trap(trap)}
        return {"kind": "exit", "code": 0}

    def _exit_code(self, error: Any) -> int | None:
        code = ctypes.c_int()
        exited = self._api.wasmtime_error_exit_status(error, ctypes.byref(code))
        return code.value if exited else None

    def _text(self, error: Any) -> str:
        from roost.proplet.worker.texts import first_line  # noqa: PLC0415 - costs 70 ms

        message = capi.ByteVec()
        self._api.wasmtime_error_message(error, ctypes.byref(message))
        raw = ctypes.string_at(message.data, message.size)
        return first_line(raw.decode(errors="replace"))
