"""Images compiled once per device and engine, for as many runs as they get.

A compiled module is native code that the engine maps into a process: it is made here and nowhere
else, under a temporary name, and renamed. (Writing over a mapped file kills whoever runs it.)
"""

import hashlib
import os
import platform
import threading
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from roost.proplet.errors import ImageRefused, PropletError, TaskStopped
from roost.proplet.guest.folders import remove, sweep
from roost.proplet.guest.process import Ended, Stopper, Watch, work

COMPILE_LIMIT_S: Final = 120.0
SUFFIX: Final = ".cwasm"
COMPILING: Final = "compile-"
_MODULE: Final = b"\0asm\x01\0\0\0"
_COMPONENT: Final = b"\0asm\x0d\0\x01\0"
_MAGIC: Final = b"\0asm"
_LOCKS: Final = tuple(threading.Lock() for _ in range(16))


@dataclass(frozen=True, slots=True)
class ModuleCache:
    """Compiled modules below one folder, which belongs to this process alone.

    Attributes:
        folder: Holds ``modules/``, ``bytecode/`` and short-lived folders.
        max_bytes: Above it the modules that were used longest ago go.
    """

    folder: Path
    max_bytes: int = 512 * 1024**2

    @property
    def modules(self) -> Path:
        """Where the compiled modules lie; absolute, because workers have another directory."""
        return self.folder.absolute() / "modules"

    @property
    def bytecode(self) -> Path:
        """Where the workers' Python files lie compiled."""
        return self.folder.absolute() / "bytecode"

    def compiled(
        self, image: Path, digest: str | None = None, stopper: Stopper | None = None
    ) -> Path:
        """Return the compiled module of an image file, compiling it if need be.

        Args:
            image: A Wasm file.
            digest: Its SHA-256 if known: then the file is not read when the cache has it.
            stopper: Ends a compilation early.

        Raises:
            ImageRefused: it is no core Wasm module, is broken, or no WASI preview 1 command.
            PropletError: this device cannot compile it now.
            TaskStopped: by the stopper.
        """
        image = image.absolute()
        if digest is None:
            with image.open("rb") as source:
                digest = hashlib.file_digest(source, "sha256").hexdigest()
        place = self.modules / f"{digest}-{engine_key()}{SUFFIX}"
        with _LOCKS[hash(place) % len(_LOCKS)]:  # others wait instead of compiling it again
            if place.exists():
                os.utime(place)
            else:
                self._compile(image, place, stopper)
        return place

    def _compile(self, image: Path, place: Path, stopper: Stopper | None) -> None:
        check_magic(image)
        self.modules.mkdir(parents=True, exist_ok=True)
        folder = Path(mkdtemp(prefix=COMPILING, dir=self.modules))
        try:
            made = folder / "module"
            job = {"do": "compile", "wasm": str(image), "out": str(made)}
            watch = Watch(start_s=COMPILE_LIMIT_S, stopper=stopper)
            _judge(work(job, watch, self.bytecode))
            with made.open("rb") as module:
                os.fsync(module.fileno())
            made.replace(place)
        finally:
            remove(folder)
        self._shrink(keep=place)

    def forget(self, place: Path) -> None:
        """Drop a module that the engine refused: it is compiled again at its next use."""
        place.unlink(missing_ok=True)

    def sweep(self, *, shared: bool) -> None:
        """Remove what compilations left that were killed; a shared folder's only after an hour."""
        sweep(self.modules, COMPILING, shared=shared)

    def _shrink(self, keep: Path) -> None:
        found = [(path, path.stat()) for path in self.modules.glob(f"*{SUFFIX}")]
        size = sum(status.st_size for _, status in found)
        for path, status in sorted(found, key=lambda item: item[1].st_mtime_ns):
            if size <= self.max_bytes:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                size -= status.st_size


def check_magic(image: Path) -> None:
    """Tell a module from what only looks like one; the engine would also take text.

    Raises:
        ImageRefused: it does not begin as a core module does.
    """
    with image.open("rb") as source:
        begin = source.read(len(_MODULE))
    if begin == _MODULE:
        return
    if begin == _COMPONENT:
        raise ImageRefused(
            "it is a component; build a core module for wasm32-wasi (preview 1) instead"
        )
    if begin.startswith(_MAGIC):
        raise ImageRefused(f"it is Wasm of the unknown version {begin[4:].hex()}")
    raise ImageRefused(f"it is no Wasm file: it begins with {begin[:8]!r}")


def _judge(ended: Ended) -> None:
    if ended.news is not None:
        kind = ended.news["kind"]
        if kind == "device":
            raise PropletError(f"this proplet could not compile it: {ended.news['message']}")
        if kind != "exit":
            raise ImageRefused(ended.news["message"])
    elif ended.killed == "stopped":
        raise TaskStopped("stopped while its image was being compiled")
    elif ended.killed is not None:
        raise ImageRefused(f"compiling it took more than {COMPILE_LIMIT_S:.0f} s")
    else:
        raise ImageRefused(f"the compiler died of it (status {ended.status})")


@cache
def engine_key() -> str:
    """Name the engine and the processor that a compiled module is for."""
    with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
        features = {line for line in lines if line.startswith(("flags", "Features"))}
    text = "\n".join([platform.machine(), *sorted(features)])
    return f"{version('wasmtime')}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
