"""One process that runs others: starts them in order, restarts them, ends them all.

It has a single thread on purpose: children are forked with a small function between fork and exec
(see `roost.cli.children`), which is only safe while no other thread can hold a lock.

A child that ends is started again after 0.5 s, then 1, 2, 4 … 30 s; one that has lived for 20 s is
after 0.1 s, and then from the beginning. SIGINT, SIGTERM or SIGHUP ends everything: the services
first, the broker last, so that their last words still get out; a second signal does not wait.
Should the supervisor itself be killed, the kernel sends its children SIGTERM (Linux;
PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from roost.cli.children import Child, Program
from roost.cli.errors import NoBroker
from roost.cli.logs import LogSink
from roost.cli.ports import is_open

__all__ = ["Supervisor"]

_LAST_READS = 8
_TICK_S = 0.02
_BROKER_WAIT_S = 15.0
_GRACE_S = 6.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """Runs a broker and, once it accepts connections, everything else.

    Args:
        broker: the broker's process, or None if it runs elsewhere.
        programs: the services.
        address: (host, port) of the broker.
        sink: where their lines go.
        on_event: told `started`, `ended` (with `code` and `restart_in_s`) and `stopping`.
        on_report: told each JSON object that a program wrote to its report pipe.
    """

    def __init__(
        self,
        broker: Program | None,
        programs: Sequence[Program],
        address: tuple[str, int],
        sink: LogSink,
        *,
        on_event: Callable[[str, str, dict[str, object]], None] = lambda *_: None,
        on_report: Callable[[str, dict[str, object]], None] = lambda *_: None,
    ) -> None:
        self._broker = Child(broker) if broker else None
        self._services = [Child(program) for program in programs]
        self._address = address
        self._sink = sink
        self._on_event = on_event
        self._on_report = on_report
        self._selector = selectors.DefaultSelector()
        self._stop_signals = 0
        self._reports: dict[int, bytes] = {}

    def run(self) -> int:
        """Supervise until a signal comes, then end everything.

        Returns:
            The number of the signal.

        Raises:
            NoBroker: the broker ended, or did not listen, before anything else was started.
        """
        with self._listening_to_signals():
            try:
                self._start_broker()
                for child in self._services:
                    child.start_at = time.monotonic()
                while not self._stop_signals:
                    self._start_due()
                    self._wait(self._until_next_start())
                return self._last_signal
            finally:
                self._on_event("stopping", "", {})
                self._end_all()
                self._sink.close()

    def stop(self) -> None:
        """Ask it to end, from a callback."""
        self._stop_signals = max(1, self._stop_signals)

    # --- starting -------------------------------------------------------------------------------

    def _start_broker(self) -> None:
        if self._broker is None:
            return
        self._start(self._broker)
        deadline = time.monotonic() + _BROKER_WAIT_S
        while not is_open(*self._address) and not self._stop_signals:
            self._wait(_TICK_S)
            if not self._broker.alive or time.monotonic() > deadline:
                said = "\n  ".join(self._broker.tail) or "nothing"
                raise NoBroker(
                    f"the broker did not start (`{' '.join(self._broker.program.argv)}`); "
                    f"it said:\n  {said}"
                )

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._everyone():
            if child.start_at is not None and child.start_at <= now:
                self._start(child)

    def _start(self, child: Child) -> None:
        child.start()
        self._selector.register(child.stdout, selectors.EVENT_READ, child)
        if child.report_pipe is not None:
            self._reports[child.report_pipe] = b""
            self._selector.register(child.report_pipe, selectors.EVENT_READ, child)
        assert child.process is not None
        self._on_event("started", child.program.name, {"pid": child.process.pid})

    def _until_next_start(self) -> float | None:
        waiting = [c.start_at for c in self._everyone() if c.start_at is not None]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    # --- listening ------------------------------------------------------------------------------

    def _wait(self, timeout_s: float | None) -> None:
        """Take what the children print, notice those that ended."""
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                os.read(key.fd, 64)  # the signals' wake-up pipe
            elif key.fd in self._reports:
                self._read_report(key.fd, key.data)
            else:
                self._read_output(key.data)
        for child in self._everyone():
            if child.alive:
                self._reap(child)

    def _read_output(self, child: Child) -> None:
        lines = child.lines()
        if lines is None:
            self._selector.unregister(child.stdout)
        for line in lines or ():
            self._sink.write(child.program.name, line)

    def _read_report(self, pipe: int, child: Child) -> None:
        chunk = os.read(pipe, 65_536)
        if not chunk:
            self._close_report(child)
            return
        *whole, self._reports[pipe] = (self._reports[pipe] + chunk).split(b"\n")
        for line in whole:
            self._on_report(child.program.name, json.loads(line))

    def _reap(self, child: Child) -> None:
        stdout = child.stdout
        code = child.reap_code()
        if code is None:
            return
        # What it printed last: a full pipe takes several reads. A grandchild may hold the pipe
        # open, so do not wait for its end.
        for _ in range(_LAST_READS):
            if stdout.fileno() in self._selector.get_map():
                self._read_output(child)
        if stdout.fileno() in self._selector.get_map():
            self._selector.unregister(stdout)
        stdout.close()
        self._close_report(child)
        delay_s = child.bury()
        if self._stop_signals:
            child.start_at = None
        else:
            self._on_event("ended", child.program.name, {"code": code, "restart_in_s": delay_s})

    def _close_report(self, child: Child) -> None:
        pipe = child.report_pipe
        if pipe is not None and self._reports.pop(pipe, None) is not None:
            self._selector.unregister(pipe)
            os.close(pipe)
            child.report_pipe = None

    # --- ending ---------------------------------------------------------------------------------

    def _end_all(self) -> None:
        self.stop()
        self._end(self._services)
        if self._broker is not None:
            self._end([self._broker])

    def _end(self, children: Sequence[Child]) -> None:
        for child in children:
            child.start_at = None
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        while any(child.alive for child in children):
            left = deadline - time.monotonic()
            if left <= 0 or self._stop_signals > 1:
                for child in children:
                    child.signal(signal.SIGKILL)
            self._wait(max(_TICK_S, min(left, _GRACE_S)))

    def _everyone(self) -> list[Child]:
        return ([self._broker] if self._broker else []) + self._services

    @contextmanager
    def _listening_to_signals(self) -> Iterator[None]:
        """Count the signals that end us, and wake `select` for those and for SIGCHLD."""
        self._last_signal = 0
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        self._selector.register(read_end, selectors.EVENT_READ, None)
        old_wakeup = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        old = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        old[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(old_wakeup)
            self._selector.close()
            os.close(read_end)
            os.close(write_end)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._last_signal = number
        self._stop_signals += 1
