"""A real service process whose disk can be full, and a client that plays everyone else."""

import os
import queue
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Session, Token
from roost.chassis.settings import BrokerSettings
from roost.chassis.transfer import send_all
from roost.wire.topic import matches

DEADLINE_S = 30.0
_NO_ROOM = 1


class Service:
    """One service as a process of its own; its log comes through a pipe, which has no size."""

    def __init__(self, name: str, url: str, state: Path, **environment: str) -> None:
        """Prepare it; ``start`` starts it."""
        self.state, self._name = state, name
        self._environment = {
            **os.environ,
            "ROOST_BROKER": url,
            "ROOST_STATE_DIR": str(state),
            "ROOST_LOG_FORMAT": "json",
            **environment,
        }

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it in good order."""
        self.process.terminate()
        assert self.process.wait(DEADLINE_S) == 0

    def start(self) -> None:
        """Start the process and wait until it is connected."""
        self._start([sys.executable, "-m", f"roost.{self._name}"])
        self.log("broker.connected")

    def start_full(self) -> None:
        """Start the process where there is no room from the beginning."""
        module = [sys.executable, "-m", f"roost.{self._name}"]
        self._start(["/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *module])

    def _start(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, env=self._environment, stderr=subprocess.PIPE)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                self._lines.put(line.decode())

    def log(self, event: str) -> str:
        """Wait for a line of the log and return it."""
        while True:
            line = self._lines.get(timeout=DEADLINE_S)
            if f'"{event}"' in line:
                return line

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def fill_disk(self) -> None:
        """Let no file grow, whoever writes it."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (_NO_ROOM, -1))

    def make_room(self) -> None:
        """Let files grow again."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (-1, -1))


class Client:
    """Sends orders and hears everything."""

    def __init__(self, url: str) -> None:
        """Connect."""
        settings = BrokerSettings(broker=url)
        self.session = Session(settings, "hostile", rng=random.Random(1), clean=True)
        self._heard: list[Received] = []
        self._news = threading.Condition()
        self.session.subscribe("#", self._hear)
        self.session.start()
        assert self.session.wait_connected(DEADLINE_S)

    def _hear(self, received: Received, token: Token) -> None:
        self.session.ack(token)
        with self._news:
            self._heard.append(received)
            self._news.notify_all()

    def send(self, topic: str, payload: bytes, **more: object) -> None:
        """Publish and wait for the acknowledgement."""
        send_all(self.session, [Publish(topic, payload, **more)], DEADLINE_S)  # type: ignore[arg-type]

    def heard(self, topic: str, wanted: Callable[[Received], bool] = bool) -> bool:
        """Tell whether a wanted message came on a topic so far."""
        with self._news:
            return any(matches(topic, each.topic) and wanted(each) for each in self._heard)

    def wait(
        self, topic: str, wanted: Callable[[Received], bool] = bool, patience_s: float = DEADLINE_S
    ) -> bool:
        """Wait for a wanted message on a topic; return whether it came."""
        with self._news:
            return self._news.wait_for(
                lambda: any(matches(topic, each.topic) and wanted(each) for each in self._heard),
                patience_s,
            )

    def insist(
        self, order: tuple[str, bytes], answer: str, wanted: Callable[[Received], bool]
    ) -> None:
        """Give an order until it is answered: a service is connected before it subscribes."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            self.send(*order)
            if self.wait(answer, wanted, 1.0):
                return
        raise AssertionError(f"nothing wanted on {answer}")

    def close(self) -> None:
        """Disconnect."""
        self.session.stop()
