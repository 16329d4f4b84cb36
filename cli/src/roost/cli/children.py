"""A supervised process: what to run, what became of it, when to start it again."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from subprocess import DEVNULL, PIPE, STDOUT, Popen
from typing import IO

__all__ = ["REPORT_FD", "Child", "Program", "die_with", "restart_delay"]

_FIRST_DELAY_S = 0.5
_MAX_DELAY_S = 30.0
# What ran well was killed, most likely, and a round waits for it.
_STEADY_DELAY_S = 0.1
_STEADY_AFTER_S = 20.0
_TAIL_LINES = 12
_MAX_LINE = 64_000
_PR_SET_PDEATHSIG = 1
#: Tells a child the descriptor of its report pipe.
REPORT_FD = "ROOST_REPORT_FD"


def restart_delay(failures: int) -> float:
    """Seconds to wait before the start that follows `failures` quick ends in a row."""
    if failures == 0:
        return _STEADY_DELAY_S
    return float(min(_MAX_DELAY_S, _FIRST_DELAY_S * 2.0 ** (failures - 1)))


@dataclass(frozen=True)
class Program:
    """A process to run.

    Attributes:
        name: the service's name in logs.
        argv: the command.
        env: added to the supervisor's own environment.
        reports: whether it gets a pipe for reports (its descriptor is in ROOST_REPORT_FD).
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    reports: bool = False


class Child:
    """A `Program` with its process, if it has one now."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: Popen[bytes] | None = None
        self.report_pipe: int | None = None
        self.failures = 0
        self.start_at: float | None = None
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._started = 0.0
        self._partial = b""

    @property
    def alive(self) -> bool:
        """Whether its process runs, as far as was looked."""
        return self.process is not None

    @property
    def stdout(self) -> IO[bytes]:
        """The read end of its output; only while alive."""
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout

    def start(self) -> None:
        """Run the program now.

        Raises:
            OSError: it cannot be run at all.
        """
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **self.program.env}
        theirs: tuple[int, ...] = ()
        if self.program.reports:
            self.report_pipe, write_end = os.pipe()
            env[REPORT_FD] = str(write_end)
            theirs = (write_end,)
        try:
            self.process = Popen(  # noqa: S603 - what `roost up` was told to run
                self.program.argv,
                env=env,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                process_group=0,  # a terminal's Ctrl-C is for the supervisor alone
                pass_fds=theirs,
                preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - the supervisor has one thread
            )
        finally:
            for fd in theirs:
                os.close(fd)
        os.set_blocking(self.stdout.fileno(), False)
        self._started = time.monotonic()
        self.start_at = None

    def lines(self) -> list[str] | None:
        """What it has printed since the last call; None at the end of its output."""
        try:
            chunk = self.stdout.read(_MAX_LINE)
        except BlockingIOError:  # pragma: no cover - raw pipes answer None instead
            chunk = None
        if chunk is None:
            return []
        whole = (self._partial + chunk).split(b"\n")
        self._partial = whole.pop()
        if not chunk or len(self._partial) > _MAX_LINE:
            whole += [self._partial] if self._partial else []
            self._partial = b""
        lines = [line.decode(errors="replace").rstrip("\r") for line in whole]
        self.tail.extend(lines)
        return lines if chunk or lines else None

    def reap_code(self) -> int | None:
        """Its exit code once it has ended (negative: the signal that ended it), else None."""
        return None if self.process is None else self.process.poll()

    def bury(self) -> float:
        """Forget the ended process and plan the next start; the seconds until then."""
        now = time.monotonic()
        self.failures = 0 if now - self._started > _STEADY_AFTER_S else self.failures + 1
        delay_s = restart_delay(self.failures)
        self.start_at = now + delay_s
        self.process = None
        self._partial = b""
        return delay_s

    def signal(self, number: int) -> None:
        """Send it a signal; SIGKILL goes to its whole process group."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)


def die_with(parent: int) -> Callable[[], None]:
    """A function for the child, between fork and exec: end when `parent` ends."""

    def before_exec() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)

    return before_exec


#: Loaded before any fork: the function above must not import or allocate much.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
