"""A `roost up` that another command runs for itself and ends with itself."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from roost.cli.children import die_with
from roost.cli.errors import CliError, NoBroker, UsageProblem, WaitedTooLong
from roost.cli.state import StateDir

__all__ = ["BackgroundRoost", "running_roost"]

_READY_S = 90.0
_END_S = 20.0
Event = dict[str, Any]


class BackgroundRoost:
    """The JSON events of a `roost up --json`, read on a thread of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self.on_ended: Callable[[Event], None] = lambda _event: None
        threading.Thread(target=self._read, daemon=True).start()

    def ready(self, logs: StateDir) -> Event:
        """Wait until everything runs.

        Raises:
            CliError: it ended instead, as its own error says, or some proplet did not come.
            WaitedTooLong: it did neither.
        """
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise WaitedTooLong(
                    f"Roost did not come up in {_READY_S:g} s: see {logs.logs}"
                ) from None
            if event is None:
                raise CliError(f"`roost up` ended at once: see {logs.logs / 'up.log'}")
            if "error" in event:
                raise _as_error(event)
            if event.get("event") == "ready":
                if event["missing"]:
                    names = ", ".join(event["missing"])
                    raise CliError(f"{names} did not come up: see {logs.logs}")
                return event

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event.get("event") == "ended":
                self.on_ended(event)
            self._events.put(event)
        self._events.put(None)


@contextmanager
def running_roost(state: StateDir, *options: str) -> Iterator[BackgroundRoost]:
    """Run `roost up` on a state folder while the block runs.

    Args:
        state: the folder.
        options: further options of `roost up`.
    """
    state.logs.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "roost.cli", "up", "--json", "--state", str(state.root), *options]
    with (state.logs / "up.log").open("a") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            process_group=0,
            preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - no thread runs yet
        )
    try:
        yield BackgroundRoost(process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _as_error(event: Event) -> CliError:
    """The child's error as our own, of the same kind."""
    kinds = {kind.exit_code: kind for kind in (CliError, UsageProblem, NoBroker, WaitedTooLong)}
    return kinds.get(event.get("exit_code", 1), CliError)(str(event["error"]))
