"""The commands of joining, and a fleet of this machine and one board: `roost up --listen`."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from roost.cli import app
from roost.cli.broker import find_mosquitto
from roost.cli.ports import free_port, wait_open
from roost.cli.security.board import Board, fetch_authority, unit_text
from roost.cli.security.folder import BrokerFolder
from roost.cli.security.invitations import JoinLine

from .conftest import NOW, WORKLOADS, await_connected, make_site

DEADLINE_S = 120.0
HIGHEST_PORT = 65_000
Roost = Callable[..., tuple[int, str, str]]


@pytest.fixture
def roost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Roost:
    """Run a command line in an empty working directory: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROOST_BROKER", raising=False)

    def run(*args: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = app.main([str(arg) for arg in args])
        said = capfd.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> BrokerFolder:
    """The folder that commands in this working directory use."""
    made = BrokerFolder(tmp_path / ".roost" / "broker")
    made.setup(make_site(tmp_path), NOW)
    return made


def test_invite_prints_one_line_and_a_qr_code(folder: BrokerFolder, roost: Roost) -> None:
    """For people both; as JSON the line alone (JOIN-001)."""
    code, out, err = roost("proplet", "invite", "--name", "attic", "--label", "room=attic")
    assert code == 0
    assert "Nothing answers there yet" in err
    assert "attic" in out
    assert "bootstrap.py join 'roost-join://127.0.0.1:" in out
    assert "█" in out
    assert "█" not in roost("proplet", "invite", "--no-qr")[1]
    told = json.loads(roost("proplet", "invite", "--json")[1])
    assert told["line"].startswith("roost-join://")
    assert told["minutes"] == 60


def test_show_names_who_is_invited(folder: BrokerFolder, roost: Roost) -> None:
    """Until they have joined, or their time is over."""
    roost("proplet", "invite", "--name", "attic", "--no-qr")
    assert json.loads(roost("broker", "show", "--json")[1])["invited"] == ["attic"]
    assert "invited: attic, until" in roost("broker", "show")[1]
    code, out, _ = roost("proplet", "revoke", "attic")
    assert (code, "had not joined yet" in out) == (0, True)
    assert json.loads(roost("broker", "show", "--json")[1])["invited"] == []


@pytest.mark.system
def test_joining_is_served_beside_a_broker_of_ones_own(folder: BrokerFolder, roost: Roost) -> None:
    """By a command of its own, where `roost up` does not run it; it ends at a signal."""
    told = json.loads(roost("proplet", "invite", "--json")[1])
    with command("broker", "join-server", "--folder", folder.paths.root) as process:
        try:
            assert wait_open("127.0.0.1", folder.site().join_port, DEADLINE_S)
            assert fetch_authority(JoinLine.parse(told["line"]))
        finally:
            process.terminate()
            process.communicate(timeout=DEADLINE_S)


def test_invite_where_no_broker_was_set_up(roost: Roost) -> None:
    """The message names the command that does it."""
    code, _, err = roost("proplet", "invite")
    assert (code, "roost broker setup" in err) == (2, True)


def test_boards_without_wasmtime_are_told_so(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence, before anything is asked."""
    monkeypatch.setattr("platform.machine", lambda: "armv7l")
    code, _, err = roost("proplet", "join", "roost-join://h:1/x")
    assert (code, "64-bit" in err) == (2, True)


def test_line_may_come_from_standard_input(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where other users of the board cannot see it."""
    monkeypatch.setattr("sys.stdin", io.StringIO("roost-join://h:1/short\n"))
    code, _, err = roost("proplet", "join", "-")
    assert (code, "no whole invitation" in err) == (2, True)


def test_a_proplet_is_not_joined_over(roost: Roost, tmp_path: Path) -> None:
    """Its credentials would be lost."""
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "proplet.env").write_text("")
    line = f"roost-join://127.0.0.1:1/{'a' * 22}.{'A' * 43}"
    code, _, err = roost("proplet", "join", line, "--dir", "board")
    assert (code, "proplet's already" in err) == (2, True)


def test_listen_needs_mosquitto(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded broker has neither TLS nor rights, so it is refused (BROKER-001)."""
    code, _, err = roost(
        "up", "--listen", "0.0.0.0", "--broker", "embedded", "--port", free_port(),
        "--workloads", WORKLOADS,
    )  # fmt: skip
    assert (code, "neither TLS nor rights" in err) == (2, True)


@pytest.mark.skipif(find_mosquitto() is None, reason="SKIPPED LOUDLY: mosquitto is not installed")
def test_listen_on_the_loopback_is_what_there_is_already(roost: Roost) -> None:
    """It would only demand passwords of this very machine (BROKER-001)."""
    listen = ["--listen", "127.0.0.1", "--workloads", WORKLOADS]
    code, _, err = roost("up", *listen, "--port", free_port())
    assert (code, "only this machine reaches" in err) == (2, True)


@pytest.mark.skipif(find_mosquitto() is None, reason="SKIPPED LOUDLY: mosquitto is not installed")
def test_taken_port_is_named_before_anything_starts(roost: Roost) -> None:
    """Devices, operators and joining need one each."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = roost(
            "up", "--listen", f"0.0.0.0:{port - 2}", "--port", free_port(),
            "--workloads", WORKLOADS,
        )  # fmt: skip
    assert (code, f"port {port} is in use by" in err) == (3, True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_unit_is_one(tmp_path: Path) -> None:
    """As systemd itself reads it."""
    board = Board(tmp_path)
    board.settings.write_text("")
    board.unit.write_text(unit_text(board, sys.executable, "root"))
    argv = ["systemd-analyze", "verify", board.unit]
    told = subprocess.run(argv, capture_output=True, text=True, check=False)
    mine = [line for line in told.stderr.splitlines() if board.unit.name in line]
    assert (told.returncode, mine) == (0, [])


def command(*args: object, **more: Any) -> subprocess.Popen[str]:
    """A `roost` process of its own."""
    argv = [sys.executable, "-m", "roost.cli", *map(str, args)]
    return subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )


def answer(*args: object, **more: Any) -> dict[str, Any]:
    """The last JSON object that a command printed; it must succeed."""
    with command(*args, "--json", **more) as process:
        out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, out
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


@contextmanager
def up(*args: object) -> Iterator[None]:
    """`roost up` until it says that it is ready, and then for the length of a block."""
    process = command("up", "--json", *args)
    said = []
    assert process.stdout is not None
    try:
        for text in process.stdout:
            said.append(text)
            if json.loads(text).get("event") == "ready":
                break
        else:
            raise AssertionError("".join(said))
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)


@contextmanager
def proplet(settings: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The proplet of a board, with what joining wrote."""
    lines = (line.partition("=") for line in settings.read_text().splitlines())
    env = {"PATH": os.environ["PATH"], **{key: value for key, _, value in lines}}
    argv = [sys.executable, "-m", "roost.proplet"]
    log = settings.with_name("log")
    with log.open("wb") as out, subprocess.Popen(argv, env=env, stdout=out, stderr=out) as process:
        try:
            await_connected(log, process)
            yield process
        finally:
            process.terminate()
            process.wait(DEADLINE_S)


@pytest.mark.skipif(find_mosquitto() is None, reason="SKIPPED LOUDLY: mosquitto is not installed")
@pytest.mark.system
@pytest.mark.slow
def test_a_board_joins_learns_and_is_revoked(tmp_path: Path) -> None:
    """From the invitation to a model that it helped to make, and out (JOIN-003, JOIN-006)."""
    at = ["--state", tmp_path / "state"]
    port = next(port for port in iter(free_port, None) if port < HIGHEST_PORT)
    for data in (tmp_path / "state/proplets/proplet-1/data/train", tmp_path / "board/data/train"):
        data.mkdir(parents=True)
        np.save(data / "x.npy", np.array([[0.0, 1.0], [1.0, 0.0]], np.float32))
        np.save(data / "y.npy", np.array([0, 1], np.int64))
    listen = ["--listen", f"0.0.0.0:{port}", "--host", "127.0.0.1"]
    with up(*at, "--proplets", 1, "--port", free_port(), *listen, "--workloads", WORKLOADS):
        line = answer("proplet", "invite", "--name", "attic", *at)["line"]
        joined = answer("proplet", "join", line, "--dir", tmp_path / "board")
        assert joined["proplet"] == "attic"
        with proplet(tmp_path / "board" / "proplet.env") as board:
            answer("model", "init", "--arch", "mlp", "--layers", "2,2", *at)
            told = answer("round", "start", "--participants", "proplet-1,attic", "-k", 2, *at)
            assert told["outcome"] == "completed", told
            assert answer("proplet", "revoke", "attic", *at)["outcome"] == "disconnected"
            assert board.wait(DEADLINE_S) == 1
        listed = command("proplet", "list", "--json", *at)
        out, _ = listed.communicate(timeout=DEADLINE_S)
        assert [json.loads(row)["proplet"] for row in out.splitlines()] == ["proplet-1"]
