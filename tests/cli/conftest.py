"""Brokers and command lines for the tests of the `roost` command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from roost.cli import app
from roost.cli.broker import BrokerPlan, find_mosquitto, plan_broker
from roost.cli.ports import free_port, wait_open
from roost.cli.state import StateDir

BROKERS = ("mosquitto", "embedded")


@dataclass(frozen=True)
class Answer:
    """What a command line printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        """Its lines as JSON objects."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def roost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Run a command line in an empty working directory, as the console script would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROOST_BROKER", raising=False)

    def run(*args: object) -> Answer:
        capfd.readouterr()
        code = app.main([str(arg) for arg in args])
        said = capfd.readouterr()
        return Answer(code, said.out, said.err)

    return run


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """An empty state folder."""
    return StateDir.at(tmp_path / "state")


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest, state: StateDir) -> Iterator[BrokerPlan]:
    """A running broker of each kind, as `roost up` would run it."""
    if request.param == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed: only the embedded broker is tested")
    plan = plan_broker(request.param, free_port(), state)
    with subprocess.Popen(plan.argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert wait_open(plan.host, plan.port, 15)
        yield plan
        process.terminate()


def start(*args: object) -> subprocess.Popen[str]:
    """A `roost` process of its own."""
    argv = [sys.executable, "-m", "roost.cli", *map(str, args)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def up(state: StateDir, *args: object) -> Iterator[dict[str, Any]]:
    """A running `roost up`; its `ready` event and the pid of each service."""
    process = start("up", "--json", "--state", state.root, *args)
    pids: dict[str, int] = {}
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            assert "error" not in event, event
            if event["event"] == "started":
                pids[event["service"]] = event["pid"]
            if event["event"] == "ready":
                break
        try:
            yield {**event, "pids": pids, "pid": process.pid}
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            assert process.wait(30) == 130
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())
