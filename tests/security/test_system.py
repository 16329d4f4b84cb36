"""A whole round through a secured broker: TLS, passwords, and each service's own rights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from roost.client_wasm import guest_path

from .conftest import WORKLOADS, Secured, await_connected, make_site, running

DEADLINE_S = 120.0
PROPLETS = ("p1", "p2")
PREFIX = "house-7/"

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Secured]:
    """A broker without a loopback listener: everyone needs TLS and a password."""
    with running(tmp_path, make_site(tmp_path, loopback_port=None, prefix=PREFIX)) as secured:
        for name in PROPLETS:
            secured.add(name)
        yield secured


@pytest.fixture
def services(tmp_path: Path, broker: Secured) -> Iterator[list[Path]]:
    """All services and two proplets, each with the settings that were written for it."""
    wanted: dict[str, tuple[str, dict[str, str]]] = {
        "manager": ("manager", {"ROOST_WORKLOADS": str(WORKLOADS)}),
        "coordinator": ("coordinator", {}),
        "model-server": ("model_server", {}),
    }
    environment = {name: broker.settings_of("services", name) for name in wanted}
    for number, name in enumerate(PROPLETS):
        data = tmp_path / name / "train"
        data.mkdir(parents=True)
        np.save(data / "x.npy", np.array([[0.0, 1.0], [1.0, number]], np.float32))
        np.save(data / "y.npy", np.array([0, 1], np.int64))
        wanted[name] = ("proplet", {
            "ROOST_PROPLET_ID": name, "ROOST_DATA_DIR": str(data.parent),
            "ROOST_FILE_IMAGES": str(guest_path().parent),
        })  # fmt: skip
        password = broker.passwords[name]
        environment[name] = broker.folder.environment(name, password, broker.site.url)
    processes, logs = [], []
    for name, (module, own) in wanted.items():
        logs.append(tmp_path / f"{name}.log")
        state = {"ROOST_STATE_DIR": str(tmp_path / "state" / name)}
        env = {"PATH": os.environ["PATH"], **environment[name], **own, **state}
        with logs[-1].open("wb") as log:
            argv = [sys.executable, "-m", f"roost.{module}"]
            processes.append(subprocess.Popen(argv, stdout=log, stderr=log, env=env))
    for log, process in zip(logs, processes, strict=True):
        await_connected(log, process)
    yield logs
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(DEADLINE_S)


@pytest.fixture
def roost(tmp_path: Path, broker: Secured) -> Callable[..., list[dict[str, Any]]]:
    """The `roost` command of an operator, far from the broker's machine."""
    env = {"PATH": os.environ["PATH"], **broker.settings_of("people", "operator")}

    def run(*args: object) -> list[dict[str, Any]]:
        argv = [sys.executable, "-m", "roost.cli", *map(str, args), "--json"]
        told = subprocess.run(
            argv, capture_output=True, text=True, check=False, env=env, cwd=tmp_path,
            timeout=DEADLINE_S,
        )  # fmt: skip
        assert told.returncode == 0, told.stdout + told.stderr
        return [json.loads(line) for line in told.stdout.splitlines()]

    return run


def test_a_round_runs_with_tls_passwords_and_rights(
    services: list[Path], roost: Callable[..., list[dict[str, Any]]]
) -> None:
    """Nobody is refused what it needs: model, round, two updates, outcome (WIRE-080, WIRE-081)."""
    roost("model", "init", "--arch", "mlp", "--layers", "2,2", "--timeout", DEADLINE_S)
    names = ",".join(PROPLETS)
    told = roost(
        "round", "start", "--participants", names, "--image", f"file:{guest_path()}",
        "-k", 2, "--time", DEADLINE_S, "--timeout", DEADLINE_S,
    )  # fmt: skip
    assert told[-1]["outcome"] == "completed", told
    assert {row["proplet"]: row["status"] for row in roost("proplet", "list")} == dict.fromkeys(
        PROPLETS, "online"
    )
    for log in services:
        assert "refused" not in log.read_text(), log.read_text()
