"""Brokers and command lines for the tests of the `roost` command."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from roost.cli import app
from roost.cli.broker import BrokerPlan, find_mosquitto, plan_broker
from roost.cli.digits_data import deal_digits
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


def kill_outright(pid: int) -> None:
    """`kill -9`, and wait until it is gone: until then its port still answers."""
    process = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        ended, _, _ = select.select([process], [], [], 10)
        assert ended, f"{pid} outlived kill -9"
    finally:
        os.close(process)


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


PROPLETS = ("proplet-1", "proplet-2")
#: Writes "hi\n" to stdout and ends with the given exit code.
GREETER = """
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\03\\00\\00\\00")
  (data (i32.const 16) "hi\\0a")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const CODE))))
"""
SLEEPER = '(module (memory (export "memory") 1) (func (export "_start") (loop br 0)))'

Roost = Callable[..., Answer]


@dataclass(frozen=True)
class Running:
    """A running Roost."""

    state: StateDir
    ready: dict[str, Any]

    @property
    def at(self) -> list[object]:
        """Options that lead commands to it."""
        return ["--state", self.state.root]


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two proplets with digits, a model, one broker."""
    state = StateDir.at(tmp_path_factory.mktemp("up") / "state")
    deal_digits(state, list(PROPLETS), 0)
    broker = "mosquitto" if find_mosquitto() else "embedded"
    options = ["--proplets", 2, "--port", free_port(), "--broker", broker]
    with up(state, *options) as ready:
        init = ["model", "init", "--arch", "mlp", "--layers", "64,16,10", "--state", state.root]
        with start(*init) as process:
            assert process.wait(60) == 0
        yield Running(state, ready)


def wasm(folder: Path, text: str) -> Path:
    """A Wasm file."""
    file = folder / "app.wasm"
    file.write_bytes(wasmtime.wat2wasm(text))
    return file
