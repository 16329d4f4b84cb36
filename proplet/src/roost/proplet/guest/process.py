"""One worker process: started, fed, drained, watched and, where need be, killed."""

import ast
import contextlib
import marshal
import os
import platform
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

READ_BYTES: Final = 262_144
LOOK_S: Final = 0.1
START_LIMIT_S: Final = 60.0
_CODE: Final = (
    "import sys; sys.path[1:1] = sys.argv[3:]; from roost.proplet.worker.entry import main; main()"
)


class Stopper:
    """Ends a running guest from another thread."""

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.stopped = False

    def stop(self) -> None:
        """Kill the guest now, or as soon as it starts."""
        self.stopped = True
        os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable at ``stop``."""
        return self._event

    def __del__(self) -> None:
        os.close(self._event)


@dataclass(frozen=True, slots=True)
class Watch:
    """What ends a worker before its time, and who hears of what it does.

    Attributes:
        wall_s: Seconds from the guest's first instruction; None: no limit.
        start_s: Seconds until then.
        look: Called every 0.1 s while the guest runs; a text is the reason to kill it.
        sink: Called with ``"stdout"`` or ``"stderr"`` and bytes; a text is the reason to kill it.
        stopper: Lets another thread kill it.
    """

    wall_s: float | None = None
    start_s: float = START_LIMIT_S
    look: Callable[[], str | None] = lambda: None
    sink: Callable[[str, bytes], str | None] = lambda _stream, _chunk: None
    stopper: Stopper | None = None


@dataclass(slots=True)
class Ended:
    """How a worker process ended.

    Attributes:
        news: Its last line of news, or None if it died without one.
        killed: Why it was killed: ``time``, ``start``, ``stopped`` or a watcher's reason.
        status: Exit status as ``subprocess`` has it; negative: the signal.
        wall_s: Seconds since the guest began.
        cpu_s: Seconds of processor time of the whole process.
        peak_kb: Largest resident size seen.
    """

    news: dict[str, Any] | None = None
    killed: str | None = None
    status: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_kb: int = 0


def work(job: Mapping[str, Any], watch: Watch, bytecode: Path) -> Ended:
    """Run one worker process to its end.

    Args:
        job: What ``roost.proplet.worker.entry`` is to do.
        watch: When to kill it, who gets its output.
        bytecode: Folder for compiled Python files: without them a start takes three times as long.
    """
    news_read, news_write = os.pipe2(os.O_CLOEXEC)
    order = os.memfd_create("job", os.MFD_CLOEXEC)
    try:
        with open(order, "wb", closefd=False) as target:
            marshal.dump(dict(job), target)
        os.lseek(order, 0, os.SEEK_SET)
        process = subprocess.Popen(  # noqa: S603 - this very interpreter
            _command(news_write, bytecode),
            stdin=order,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(news_write,),
            start_new_session=True,
            env={},
            cwd="/",
        )
    except BaseException:
        os.close(news_read)
        raise
    finally:
        os.close(news_write)
        os.close(order)
    return _Supervision(process, news_read, watch).run()


def _command(news: int, bytecode: Path) -> list[str]:
    flags = ["-I", "-S", "-X", f"pycache_prefix={bytecode}"]
    return [sys.executable, *flags, "-c", _CODE, str(os.getpid()), str(news), *_paths()]


def _paths() -> list[str]:
    """Return where this package and wasmtime lie."""
    here = str(Path(__file__).resolve().parents[3])
    return list(dict.fromkeys((here, str(_wasmtime().parent))))


@cache
def _wasmtime() -> Path:
    """Return the folder of the package wasmtime, without importing it."""
    spec = find_spec("wasmtime")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package wasmtime is not installed: install roost-proplet again")
    return Path(spec.origin).parent


@cache
def engine_library() -> str:
    """Return the path of wasmtime's shared library for this machine.

    Raises:
        RuntimeError: wasmtime has none for it.
    """
    names = {"x86_64": "linux-x86_64", "amd64": "linux-x86_64", "aarch64": "linux-aarch64"}
    machine = platform.machine().lower()
    path = _wasmtime() / names.get(machine, machine) / "_libwasmtime.so"
    if not path.exists():
        raise RuntimeError(f"wasmtime does not run on this machine ({machine}): {path} is missing")
    return str(path)


@dataclass(slots=True)
class _Supervision:
    process: "subprocess.Popen[bytes]"
    news: int
    watch: Watch
    ended: Ended = field(default_factory=Ended)
    began: float | None = None
    _lines: bytes = b""

    def run(self) -> Ended:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        streams = {
            self.process.stdout.fileno(): "stdout",
            self.process.stderr.fileno(): "stderr",
            self.news: "news",
        }
        try:
            with selectors.DefaultSelector() as selector:
                for number, name in streams.items():
                    selector.register(number, selectors.EVENT_READ, name)
                if self.watch.stopper is not None:
                    selector.register(self.watch.stopper, selectors.EVENT_READ, "stop")
                self._loop(selector, set(streams))
        except BaseException:
            self._kill("stopped")
            raise
        finally:
            self._reap()
            self.process.stdout.close()
            self.process.stderr.close()
            os.close(self.news)
        return self.ended

    def _loop(self, selector: selectors.BaseSelector, open_streams: set[int]) -> None:
        start = look_at = time.monotonic()
        while open_streams:
            now = time.monotonic()
            self._check_time(now, start)
            if now >= look_at:
                self._look()
                look_at = now + LOOK_S
            for key, _events in selector.select(self._patience(now, look_at)):
                if key.data == "stop":
                    self._kill("stopped")
                    selector.unregister(key.fileobj)
                    continue
                chunk = os.read(key.fd, READ_BYTES)
                if chunk:
                    self._take(key.data, chunk)
                else:
                    selector.unregister(key.fd)
                    open_streams.discard(key.fd)

    def _patience(self, now: float, look_at: float) -> float:
        until = look_at
        limit = self.watch.wall_s
        if self.ended.killed is None and self.began is not None and limit is not None:
            until = min(until, self.began + limit)
        return max(0.0, until - now)

    def _take(self, stream: str, chunk: bytes) -> None:
        if stream == "news":
            self._lines += chunk
            *whole, self._lines = self._lines.split(b"\n")
            for line in whole:
                self._hear(ast.literal_eval(line.decode()))
        elif self.ended.killed is None:
            self._kill(self.watch.sink(stream, chunk))

    def _hear(self, news: dict[str, Any]) -> None:
        if news["news"] == "ready":
            self.began = time.monotonic()
        else:
            self.ended.news = news

    def _check_time(self, now: float, start: float) -> None:
        if self.began is None:
            if now - start > self.watch.start_s:
                self._kill("start")
        elif self.watch.wall_s is not None and now - self.began >= self.watch.wall_s:
            self._kill("time")

    def _look(self) -> None:
        self._measure()
        if self.began is not None and self.ended.killed is None:
            self._kill(self.watch.look())

    def _measure(self) -> None:
        """Note the peak resident size: ``ru_maxrss`` would begin with this process's own."""
        with contextlib.suppress(OSError, ValueError, IndexError):  # a zombie has none
            text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
            _, _, rest = text.partition("VmHWM:")
            self.ended.peak_kb = max(self.ended.peak_kb, int(rest.split(maxsplit=1)[0]))

    def _kill(self, reason: str | None) -> None:
        if reason is None or self.process.returncode is not None:
            return
        if self.ended.killed is None and self.ended.news is None:
            self.ended.killed = reason
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _reap(self) -> None:
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.ended.status = self.process.returncode
        self.ended.cpu_s = usage.ru_utime + usage.ru_stime
        if self.began is not None:
            self.ended.wall_s = time.monotonic() - self.began
