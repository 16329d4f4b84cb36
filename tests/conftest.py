"""Fixtures for all tests: a real mosquitto on a free loopback port."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings

CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence {persistence}
persistence_location {folder}/
max_packet_size 4194304
max_queued_messages 1000000
set_tcp_nodelay true
"""
DEADLINE_S = 10.0

# No example is judged by the time it takes: a busy machine would make tests fail. On CI the
# examples are always the same; elsewhere each run tries new ones.
settings.register_profile("roost", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("roost")

# A shell starts its background jobs with SIGINT ignored, and all their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def mosquitto_path() -> str | None:
    """Return where mosquitto is; Debian's place is not on an ordinary user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass
class Mosquitto:
    """A real broker of one test; ``kill`` and ``start`` lose and bring it back."""

    folder: Path
    port: int = field(default_factory=free_port)
    persistence: bool = False
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it listens."""
        path = mosquitto_path()
        assert path is not None
        config = self.folder / "mosquitto.conf"
        config.write_text(
            CONFIG.format(
                port=self.port, persistence=str(self.persistence).lower(), folder=self.folder
            )
        )
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen([path, "-c", config], stdout=log, stderr=log)
        self._await_listening()

    def _await_listening(self) -> None:
        for _ in range(int(DEADLINE_S * 100)):
            with socket.socket() as probe:
                probe.settimeout(DEADLINE_S)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            try:
                assert self.process is not None
                self.process.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError((self.folder / "mosquitto.log").read_text())
        raise AssertionError("mosquitto does not listen")

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
            self.process = None


@pytest.fixture
def make_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Mosquitto]]:
    """Start real brokers, each on a free port, and end them after the test."""
    if mosquitto_path() is None:
        pytest.skip("SKIPPED LOUDLY: mosquitto is not installed (Debian: apt install mosquitto)")
    started: list[Mosquitto] = []

    def make(*, persistence: bool = False) -> Mosquitto:
        broker = Mosquitto(tmp_path_factory.mktemp("broker"), persistence=persistence)
        started.append(broker)
        broker.start()
        return broker

    yield make
    for broker in started:
        broker.kill()


@pytest.fixture
def broker(make_broker: Callable[[], Mosquitto]) -> Mosquitto:
    """Return one real broker."""
    return make_broker()
