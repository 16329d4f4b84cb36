"""A whole Roost whose processes can be killed one by one, and started again or not."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from roost.cli.broker import plan_broker
from roost.cli.children import Program
from roost.cli.local import find_workloads, programs
from roost.cli.ports import free_port, wait_open
from roost.cli.state import StateDir

BROKER = "broker"
WAIT_S = 30.0


class Fleet:
    """The processes that `roost up` would run, each under our own hand."""

    def __init__(self, folder: Path, proplets: Sequence[str]) -> None:
        """Plan them; nothing runs yet."""
        state = StateDir.at(folder)
        state.images.mkdir(parents=True, exist_ok=True)
        self._logs = state.logs
        self._logs.mkdir(parents=True, exist_ok=True)
        plan = plan_broker("mosquitto", free_port(), state)
        self.url, self._address = plan.url, (plan.host, plan.port)
        wanted = programs(state, plan, proplets, find_workloads(None))
        services = {each.name: each for each in wanted if each.name != "desk"}
        self._programs = {BROKER: Program(BROKER, plan.argv), **services}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @contextmanager
    def running(self) -> Iterator["Fleet"]:
        """Run everything, and end it."""
        try:
            for name in self._programs:
                self.start(name)
            yield self
        finally:
            for name in reversed(self._programs):
                self._end(name)

    def start(self, name: str) -> None:
        """Start one process; the broker is awaited."""
        program = self._programs[name]
        with (self._logs / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                program.argv, env={**os.environ, **program.env}, stdout=log, stderr=log
            )
        if name == BROKER:
            assert wait_open(*self._address, WAIT_S)

    def kill(self, name: str) -> None:
        """`kill -9` a process with its workers, and wait until it is gone."""
        for worker in self.workers(name):
            _signal(worker, signal.SIGKILL)
        process = self._processes[name]
        process.kill()
        process.wait(WAIT_S)

    def kill_guest(self, proplet: str) -> None:
        """`kill -9` the processes that run a proplet's guests."""
        workers = self.workers(proplet)
        assert workers, f"{proplet} runs no guest"
        for worker in workers:
            _signal(worker, signal.SIGKILL)

    def workers(self, name: str) -> list[int]:
        """Return the ids of a process's children."""
        tasks = Path(f"/proc/{self._processes[name].pid}/task")
        with suppress(FileNotFoundError):
            return [int(pid) for each in tasks.iterdir()
                    for pid in (each / "children").read_text().split()]  # fmt: skip
        return []

    def runs(self, name: str) -> bool:
        """Tell whether a process is alive."""
        return self._processes[name].poll() is None

    def _end(self, name: str) -> None:
        process = self._processes.get(name)
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill(name)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
