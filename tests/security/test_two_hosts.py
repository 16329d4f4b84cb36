"""Three hosts for real, as network namespaces: broker and services on one, a board on each other.

They are joined by a bridge of this machine; nothing leaves it. Needs root and `ip netns`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from roost.cli.broker import find_mosquitto

from .conftest import WORKLOADS, await_connected

DEADLINE_S = 120.0
HUB, BOARDS = "hub", ("attic", "cellar")
ADDRESSES = {"hub": "10.77.0.1", "attic": "10.77.0.2", "cellar": "10.77.0.3"}
ELSEWHERE = "10.77.0.99"


def may_make_namespaces() -> bool:
    """Whether this user, on this machine, may have hosts of its own."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"rt{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return made.returncode == 0


pytestmark = [pytest.mark.system, pytest.mark.slow]


class Host:
    """A network namespace with one address."""

    def __init__(self, name: str) -> None:
        self.name, self.space = name, f"rt{os.getpid()}-{name}"
        self.outside = f"rt{os.getpid() % 100_000}{name[0]}"
        self.address = ADDRESSES[name]

    def run(self, *argv: object) -> str:
        """Run a program there, to its end."""
        told = subprocess.run(
            self.argv(*argv), capture_output=True, text=True, check=False, timeout=DEADLINE_S
        )
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout

    def argv(self, *argv: object) -> list[str]:
        """A command line that runs there."""
        return ["ip", "netns", "exec", self.space, *map(str, argv)]

    def roost(self, *args: object) -> dict[str, Any]:
        """Run a `roost` command there; the last object that it printed."""
        lines = self.run(sys.executable, "-m", "roost.cli", *args, "--json").splitlines()
        found: dict[str, Any] = json.loads(lines[-1])
        return found

    def move(self, address: str) -> None:
        """Get another address, as from another DHCP server."""
        self.run("ip", "address", "flush", "dev", "eth0")
        self.run("ip", "address", "add", f"{address}/24", "dev", "eth0")

    def plug(self, hub: Host, *, plugged: bool) -> None:
        """Pull the cable, or put it back."""
        hub.run("ip", "link", "set", self.outside, "up" if plugged else "down")


@pytest.fixture
def hosts() -> Iterator[dict[str, Host]]:
    """A hub with a bridge, and boards with a cable to it."""
    if not may_make_namespaces() or find_mosquitto() is None:
        pytest.skip("SKIPPED LOUDLY: needs mosquitto, and root and `ip` for network namespaces")
    found = {name: Host(name) for name in (HUB, *BOARDS)}
    hub = found[HUB]
    try:
        for host in found.values():
            _ip("netns", "add", host.space)
            host.run("ip", "link", "set", "lo", "up")
        hub.run("ip", "link", "add", "br0", "type", "bridge")
        hub.run("ip", "address", "add", f"{hub.address}/24", "dev", "br0")
        hub.run("ip", "link", "set", "br0", "up")
        for host in (found[name] for name in BOARDS):
            _ip("link", "add", host.outside, "netns", hub.space, "type", "veth",
                "peer", "name", "eth0", "netns", host.space)  # fmt: skip
            hub.run("ip", "link", "set", host.outside, "master", "br0", "up")
            host.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
            host.run("ip", "link", "set", "eth0", "up")
        yield found
    finally:
        for host in found.values():
            subprocess.run(["ip", "netns", "delete", host.space], check=False)


def _ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, timeout=DEADLINE_S)


@contextmanager
def process(log: Path, argv: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process, ended after the block."""
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out, env=env) as running:
        try:
            yield running
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(DEADLINE_S)


@contextmanager
def up(hub: Host, state: Path) -> Iterator[None]:
    """`roost up --listen` on the hub, without proplets of its own."""
    argv = hub.argv(
        sys.executable, "-m", "roost.cli", "up", "--json", "--state", state, "--proplets", 0,
        "--listen", hub.address, "--workloads", WORKLOADS,
    )  # fmt: skip
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            events = [json.loads(line)["event"] for line in _until_ready(running.stdout)]
            assert events[-1] == "ready", events
            yield
        finally:
            running.send_signal(signal.SIGINT)
            running.communicate(timeout=DEADLINE_S)


def _until_ready(lines: Any) -> Iterator[str]:
    for line in lines:
        yield line
        if '"ready"' in line:
            return


@contextmanager
def watching(hub: Host, topic: str) -> Iterator[Iterator[dict[str, Any]]]:
    """What comes on a topic, read on the hub's loopback."""
    argv = hub.argv("mosquitto_sub", "-V", "5", "-t", topic, "-W", int(DEADLINE_S))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        yield (json.loads(line) for line in running.stdout if line.strip())
        running.terminate()


def join(host: Host, hub: Host, state: Path, folder: Path) -> dict[str, str]:
    """Invite a board, let it join, and give it data; the proplet's settings."""
    line = hub.roost("proplet", "invite", "--name", host.name, "--state", state)["line"]
    assert host.roost("proplet", "join", line, "--dir", folder)["proplet"] == host.name
    data = folder / "data" / "train"
    data.mkdir()
    np.save(data / "x.npy", np.array([[0.0, 1.0], [1.0, 0.0]], np.float32))
    np.save(data / "y.npy", np.array([0, 1], np.int64))
    lines = (folder / "proplet.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="mosquitto-clients is missing")
def test_a_round_outlives_a_pulled_cable_and_a_changed_address(
    hosts: dict[str, Host], tmp_path: Path
) -> None:
    """Joined by invitation over TLS, away in mid-round, back elsewhere: both updates count."""
    hub, attic = hosts[HUB], hosts["attic"]
    at = ["--state", tmp_path / "state"]
    with ExitStack() as stack:
        stack.enter_context(up(hub, tmp_path / "state"))
        for name in BOARDS:
            folder = tmp_path / name
            settings = join(hosts[name], hub, tmp_path / "state", folder)
            assert settings["ROOST_BROKER"] == f"mqtts://{hub.address}:8883"
            argv = hosts[name].argv(sys.executable, "-m", "roost.proplet")
            env = {"PATH": os.environ["PATH"], **settings}
            log = tmp_path / f"{name}.log"
            await_connected(log, stack.enter_context(process(log, argv, env)))
        hub.roost("model", "init", "--arch", "mlp", "--layers", "2,2", *at)
        presence = stack.enter_context(watching(hub, "proplets/attic/presence"))
        state = stack.enter_context(watching(hub, "fl/rounds/far/state"))
        assert next(presence)["status"] == "online"
        attic.plug(hub, plugged=False)
        hub.roost("round", "start", "--id", "far", "--participants", ",".join(BOARDS), "-k", 2,
                  "--time", DEADLINE_S, "--detach", *at)  # fmt: skip
        assert any(told["updates"] == 1 for told in state)
        assert any(told["status"] == "offline" for told in presence)
        attic.move(ELSEWHERE)
        attic.plug(hub, plugged=True)
        assert any(told["status"] == "online" for told in presence)
        told = hub.roost("round", "watch", "far", "--timeout", DEADLINE_S, *at)
        assert (told["outcome"], told["updates"]) == ("completed", 2), told
