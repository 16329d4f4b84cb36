"""`roost guest run`: a program on this machine, as it would run on a proplet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wasmtime
from roost.cli.architectures import fresh_mlp
from roost.cli.digits import Split, write_xy
from roost.client_wasm import guest_path
from safetensors.numpy import save

from .conftest import Answer

Roost = Callable[..., Answer]

LOOP = '(module (memory (export "memory") 1) (func (export "_start") (loop br 0)))'
TRAP = '(module (memory (export "memory") 1) (func (export "_start") unreachable))'


@pytest.fixture
def training(tmp_path: Path) -> list[object]:
    """The training guest with a model and some data."""
    rng = np.random.default_rng(0)
    x = rng.random((40, 64), dtype=np.float32)
    write_xy(tmp_path / "train", Split(x, rng.integers(0, 10, 40)))
    (tmp_path / "model").write_bytes(save(fresh_mlp([64, 8, 10], 0)))
    env = {
        "ROUND_ID": "r-1",
        "MODEL_URI": "fl/models/global_model_v0",
        "PROPLET_ID": "p",
        "HYPERPARAMS": '{"epochs":2}',
    }
    options: list[object] = [guest_path(), "--in", tmp_path / "model", "--data", tmp_path / "train"]
    for name, value in env.items():
        options += ["--env", f"{name}={value}"]
    return options


def test_the_training_guest_runs_without_a_broker(
    roost: Roost, training: list[object], tmp_path: Path
) -> None:
    """Its progress is printed, its update is kept with --out."""
    answer = roost("guest", "run", *training, "--out", "kept")
    assert answer.code == 0, answer
    events = [json.loads(line) for line in answer.out.splitlines()]
    assert [e["epoch"] for e in events if e["event"] == "epoch_finished"] == [1, 2]
    assert "succeeded" in answer.err
    assert (tmp_path / "kept" / "update").stat().st_size > 64 * 8 * 4
    assert f"/out/update: {(tmp_path / 'kept' / 'update').stat().st_size} bytes" in answer.err


def test_the_outcome_in_json(roost: Roost, training: list[object]) -> None:
    """Everything in one object."""
    answer = roost("guest", "run", *training, "--json")
    assert answer.code == 0
    (found,) = answer.json
    assert (found["outcome"], found["exit_code"], found["reason"]) == ("succeeded", 0, None)
    assert [file["file"] for file in found["files"]] == ["update"]
    assert found["usage"]["memory_mb"] > 0
    assert '"epoch_finished"' in found["stdout"]


def test_a_missing_input_is_the_guests_own_failure(roost: Roost, training: list[object]) -> None:
    """With the guest's own words."""
    answer = roost("guest", "run", *training[:1], *training[3:], "--json")
    assert answer.code == 1
    assert answer.json[0]["reason"] == "exit_code"
    assert "/in/model" in answer.json[0]["stderr_tail"]


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [(LOOP, ["--wall-s", "0.2"], "time_limit"), (TRAP, [], "trap")],
)
def test_limits_are_those_of_a_proplet(
    roost: Roost, tmp_path: Path, text: str, options: list[str], reason: str
) -> None:
    """Each failure has its name."""
    (tmp_path / "app.wasm").write_bytes(wasmtime.wat2wasm(text))
    answer = roost("guest", "run", "app.wasm", *options, "--json")
    assert answer.code == 1
    assert answer.json[0]["reason"] == reason


def test_a_source_file_is_no_guest(roost: Roost, tmp_path: Path) -> None:
    """Said in words, with what to do."""
    (tmp_path / "guest.c").write_text("int main(){}")
    answer = roost("guest", "run", "guest.c")
    assert answer.code == 2
    assert answer.err == ("error: guest.c is no Wasm module: compile it for wasm32-wasi first\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--in", "nothing"], "there is no file nothing"),
        (["--in", "a/b=app.wasm"], "cannot be its name in /in"),
        (["--in", "m=app.wasm", "--in", "m=app.wasm"], "is taken"),
        (["--data", "nowhere"], "there is no folder nowhere"),
        (["--env", "NOVALUE"], "write NAME=VALUE"),
        (["--env", "A=1", "--env", "A=2"], "'A' is given twice"),
        (["--out", "."], "is not empty"),
        (["--memory-mb", "0"], "memory_mb"),
    ],
)
def test_what_cannot_be_given_is_a_usage_problem(
    roost: Roost, tmp_path: Path, options: list[str], said: str
) -> None:
    """Before anything runs."""
    (tmp_path / "app.wasm").write_bytes(wasmtime.wat2wasm(TRAP))
    answer = roost("guest", "run", "app.wasm", *options)
    assert answer.code == 2
    assert said in answer.err
