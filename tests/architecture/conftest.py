"""A real mosquitto with a configuration of the test's own."""

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEADLINE_S = 10.0


@pytest.fixture(scope="session")
def mosquitto() -> str:
    """Return where mosquitto is; Debian's place is not on an ordinary user's PATH."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("SKIPPED LOUDLY: mosquitto is not installed (Debian: apt install mosquitto)")
    return found


@pytest.fixture(scope="session")
def start_mosquitto(mosquitto: str) -> Callable[[Path, str], Iterator[int]]:
    """Return a generator function: it starts a broker, yields its port, and ends it."""

    def start(folder: Path, more: str) -> Iterator[int]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port: int = server.getsockname()[1]
        user = "user root\n" if folder.owner() == "root" else ""
        (folder / "mosquitto.conf").write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest stderr\n{user}{more}"
        )
        log = (folder / "log").open("wb")
        process = subprocess.Popen(
            [mosquitto, "-c", folder / "mosquitto.conf"], stdout=log, stderr=log
        )
        try:
            _await_listening(port, process, folder / "log")
            yield port
        finally:
            process.kill()
            process.wait(DEADLINE_S)
            log.close()

    return start


def _await_listening(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(int(DEADLINE_S * 100)):
        with socket.socket() as probe:
            probe.settimeout(DEADLINE_S)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(log.read_text())
    raise AssertionError("mosquitto does not listen")
