"""A Roost to which bad things are done: services stopped, killed, short of disk, doubled."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from roost.cli.broker import find_mosquitto
from roost.cli.digits_data import deal_digits
from roost.cli.ports import free_port
from roost.cli.state import StateDir

from .conftest import Roost, kill_outright, start

DEADLINE_S = 60.0
MODEL = ("model", "init", "--arch", "mlp", "--layers", "64,16,10")


@dataclass(frozen=True)
class Place:
    """A running `roost up` whose terminal is a file.

    Attributes:
        state: its state folder.
        terminal: what it printed.
        process: the supervisor.
        port: its broker's.
    """

    state: StateDir
    terminal: Path
    process: subprocess.Popen[bytes]
    port: int

    @property
    def at(self) -> list[object]:
        """Options that lead commands to it."""
        return ["--state", self.state.root]

    def said(self) -> str:
        """What it printed so far."""
        return self.terminal.read_text(errors="replace")

    def pid(self, program: str) -> int:
        """The process that runs a program now; its command line ends so, or has a setting so."""
        found: list[int] = []

        def look() -> bool:
            supervisor = self.process.pid
            tasks = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text()
            found[:] = [pid for pid in map(int, tasks.split()) if program in command(pid)]
            return bool(found)

        await_true(look, f"no process {program}")
        return found[0]

    @contextmanager
    def away(self, program: str) -> Iterator[None]:
        """Stop a process, as a machine that hangs would, and let it go on."""
        pid = self.pid(program)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def kill(self, program: str) -> None:
        """End a process outright; the supervisor starts it again."""
        kill_outright(self.pid(program))

    @contextmanager
    def beside(
        self, module: str, log: Path, **settings: object
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a service by hand at the same broker.

        Args:
            module: which service.
            log: gets what it prints.
            settings: without their ROOST_.
        """
        broker = {"ROOST_BROKER": f"mqtt://127.0.0.1:{self.port}"}
        env = {f"ROOST_{name.upper()}": str(value) for name, value in settings.items()}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", f"roost.{module}"],
                env={**os.environ, **broker, **env},
                stdout=out,
                stderr=out,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait(DEADLINE_S)

    def await_said(self, words: Callable[[str], bool], since: int, log: Path | None = None) -> str:
        """Wait until it, or a service beside it, printed something."""
        texts = [""]

        def look() -> bool:
            beside = log.read_text(errors="replace") if log is not None else ""
            texts[0] = self.said()[since:] + beside
            return words(texts[0])

        await_true(look, "it was not said")
        return texts[0]


def limit_files(pid: int, size: int) -> None:
    """Let no file of a process become larger, as on a full disk; the limit can be lifted again."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def command(pid: int) -> str:
    """A process's command line and the proplet it is; empty if it is gone."""
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        env = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    ids = [each.decode() for each in env if each.startswith(b"ROOST_PROPLET_ID=")]
    return " ".join([argv.strip(), *ids])


def await_true(is_so: Callable[[], bool], problem: str) -> None:
    """Wait until something is so."""
    deadline, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while not is_so():
        assert time.monotonic() < deadline, problem
        pause.wait(0.05)


@contextmanager
def open_place(folder: Path) -> Iterator[Place]:
    """Two proplets with digits, a model, a broker, all started by `roost up`."""
    state, port, terminal = StateDir.at(folder / "state"), free_port(), folder / "terminal"
    deal_digits(state, ["proplet-1", "proplet-2"], 0)
    broker = "mosquitto" if find_mosquitto() else "embedded"
    options = ["--proplets", 2, "--port", port, "--broker", broker, "--state", state.root]
    with terminal.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "roost.cli", "up", *map(str, options)], stdout=out, stderr=out
        )
    place = Place(state, terminal, process, port)
    try:
        place.await_said(lambda text: "Roost is up: 2 proplets" in text, 0)
        with start(*MODEL, "--state", state.root) as init:
            assert init.wait(DEADLINE_S) == 0
        yield place
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_S)


def run_round(place: Place, roost: Roost, *args: object) -> str:
    """Everything that `roost round start` prints; two participants unless said otherwise."""
    who = [] if "--participants" in args else ["--participants", "proplet-1,proplet-2"]
    answer = roost("round", "start", *who, *args, *place.at)
    return answer.out + answer.err
