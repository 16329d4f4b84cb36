"""The real processes of a fleet: mosquitto, the services, and their lives after each kill."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roost.cli.broker.mosquitto import find_mosquitto, mosquitto_config
from roost.cli.local import find_workloads
from roost.cli.ports import free_port, wait_open

DEADLINE_S = 60.0
FAILPOINT = Path(__file__).with_name("failpoint.py")
WORKLOADS = find_workloads(str(Path(__file__).parents[2] / "workloads"))
PROPLETS = ("proplet-1", "proplet-2", "proplet-3")
SERVICES = ("manager", "model-server", "coordinator", *PROPLETS)


class DiedError(AssertionError):
    """A process ended that nobody had killed."""


@dataclass
class Life:
    """One process of a service, and those it had before.

    Attributes:
        name: The service.
        argv: How it is started.
        env: Its settings.
        log: Where it says what.
        pids: All processes it ever was.
        process: The present one, None after a kill.
    """

    name: str
    argv: Sequence[str]
    env: dict[str, str]
    log: Path
    pids: list[int] = field(default_factory=list)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Begin another life; failpoints find its pid in a file."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, env={**os.environ, **self.env}, stdout=log, stderr=log
            )
        self.pids.append(self.process.pid)
        self.log.with_name(f"{self.name}.pid").write_text(str(self.process.pid))

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        assert self.process is not None
        self.process.kill()
        self.bury()

    def bury(self) -> None:
        """Wait until it is gone, as it was killed."""
        assert self.process is not None
        code = self.process.wait(DEADLINE_S)
        assert code == -signal.SIGKILL, f"{self.name} ended with {code}\n{self.said()}"
        self.process = None

    def end(self) -> int:
        """Let it end in good order and return its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()

    def said(self, lines: int = 40) -> str:
        """Return the end of what it logged."""
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"--- {self.name}", *text])


class Broker(Life):
    """A real mosquitto with the configuration of `roost up`, or without its memory."""

    def __init__(self, folder: Path, *, persistence: bool) -> None:
        program = find_mosquitto()
        assert program is not None
        self.port = free_port()
        self.folder = folder
        self.persistence = persistence
        store = folder / "store"
        store.mkdir(parents=True, exist_ok=True)
        config = mosquitto_config(store, self.port)
        if not persistence:
            config = config.replace("persistence true", "persistence false")
        (folder / "mosquitto.conf").write_text(config)
        argv = (program, "-c", str(folder / "mosquitto.conf"))
        super().__init__("broker", argv, {}, folder / "broker.log")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin, and wait until it listens."""
        super().start()
        assert wait_open("127.0.0.1", self.port, DEADLINE_S), self.said()

    def save(self) -> None:
        """Let it write its memory down now: what comes later is lost with a kill."""
        assert self.process is not None
        store = self.folder / "store" / "mosquitto.db"
        store.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        for _ in ticks():
            if store.exists():  # renamed there when it is whole
                return


def ticks(deadline_s: float = DEADLINE_S, watched: "Sequence[Life]" = ()) -> Iterator[None]:
    """Yield now and again until the deadline; a watched process that ends is an error.

    Raises:
        DiedError: naming it, with what it said.
        AssertionError: the deadline passed.
    """
    handles = {os.pidfd_open(life.process.pid): life for life in watched if life.process}
    try:
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            yield
            ended, _, _ = select.select(list(handles), [], [], 0.02)
            if ended:
                life = handles[ended[0]]
                raise DiedError(f"{life.name} ended, and nobody had killed it\n{life.said()}")
    finally:
        for handle in handles:
            os.close(handle)
    raise AssertionError(f"it did not happen within {deadline_s:g} s")


def service(name: str, url: str, folder: Path, **settings: Any) -> Life:
    """Return a service that is not started yet, below a launcher that can kill it at an instant."""
    home = folder / name
    (home / "state").mkdir(parents=True)
    module = f"roost.{'proplet' if name in PROPLETS else name.replace('-', '_')}"
    env = {
        "ROOST_BROKER": url,
        "ROOST_STATE_DIR": str(home / "state"),
        "ROOST_LOG_FORMAT": "json",
        "ROOST_WORKLOADS": str(WORKLOADS),
        **{name: str(value) for name, value in settings.items()},
    }
    if name in PROPLETS:
        env |= {"ROOST_PROPLET_ID": name, "ROOST_DATA_DIR": str(home / "data"), "ROOST_SLOTS": "2"}
    argv = (sys.executable, str(FAILPOINT), module, str(folder), name, str(os.getpid()))
    return Life(name, argv, env, folder / f"{name}.log")
