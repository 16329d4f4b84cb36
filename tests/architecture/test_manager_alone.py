"""Proof 3: the manager's tests run where only the manager is installed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from .task_side import ROOT

TOOLS = ("pytest", "hypothesis")
LIMIT_S = 600
ABSENT = (
    "numpy", "safetensors", "msgpack", "wasmtime", "httpx",
    "roost.protocol.round", "roost.coordinator", "roost.model_server", "roost.proplet",
    "roost.client_wasm", "roost.cli", "roost.specs",
)  # fmt: skip


def find_uv() -> str:
    """Return uv: next to the running interpreter, or on PATH."""
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("uv", path=beside)
    if found is None:
        pytest.skip("SKIPPED LOUDLY: uv is neither next to python nor on PATH")
    return found


def uv(arguments: Sequence[str], environment: Path) -> None:
    """Run uv, from its cache alone if that suffices."""
    variables = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "UV")
    } | {"UV_PROJECT_ENVIRONMENT": str(environment)}
    told = ""
    for offline in (("--offline",), ()):
        ended = subprocess.run(
            [find_uv(), *arguments, *offline], cwd=ROOT, env=variables, timeout=LIMIT_S,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ended.returncode == 0:
            return
        told += ended.stderr
    raise AssertionError(told)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the Python of a new environment with the manager and the test tools."""
    environment = tmp_path_factory.mktemp("alone") / "venv"
    chosen = ["--python", sys.executable]
    uv(["sync", "--frozen", "--package", "roost-manager", "--no-default-groups", *chosen],
       environment)  # fmt: skip
    inside = str(environment / "bin" / "python")
    uv(["pip", "install", "--python", inside, *(f"{each}=={version(each)}" for each in TOOLS)],
       environment)  # fmt: skip
    return inside


@pytest.mark.slow
@pytest.mark.parametrize("name", ABSENT)
def test_nothing_else_is_installed(name: str, python: str) -> None:
    """Neither another service nor a learning package can be imported there."""
    code = f"import importlib; importlib.import_module({name!r})"
    ended = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError" in ended.stderr


@pytest.mark.slow
def test_the_managers_tests_pass_there(python: str) -> None:
    """The manager's own tests pass without the rest of Roost (proof 3)."""
    chosen = ["-m", "not slow and not system", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [python, "-m", "pytest", "tests/manager", *chosen],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert passed is not None
    assert int(passed[1]) > 300


@pytest.mark.slow
def test_the_managers_process_starts_there(python: str, tmp_path: Path) -> None:
    """All that its process imports is there: it comes as far as its bindings."""
    (tmp_path / "bad.toml").write_text("x = 1\n")
    ended = subprocess.run(
        [python, "-m", "roost.manager"], env={"ROOST_WORKLOADS": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "bad.toml:1: unknown key 'x'" in ended.stderr
