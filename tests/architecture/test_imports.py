"""Proof 2: the import contracts hold, and each of them breaks when something is planted.

``.importlinter`` states them: the task side forbids the learning side, services are independent,
``__main__`` > adapters > ports > core, and cores know no clock, I/O, randomness or log.
"""

import ast
import configparser
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .task_side import ROOT

CONTRACTS = ROOT / ".importlinter"
SOURCES = (
    "specs/wire", "specs/task-protocol", "specs/round-protocol", "specs/phone-protocol",
    "specs/tooling", "chassis",
    "manager", "proplet", "coordinator", "model-server", "client-wasm",
    "ios-bridge", "cli",
)  # fmt: skip
IMPURE = frozenset({"open", "print", "input", "breakpoint", "exec", "eval", "__import__"})
PLANTED = [
    ("task-side", "manager/core/task.py", "import numpy"),
    ("task-side", "proplet/adapters/outputs.py", "import roost.protocol.round.topics"),
    ("task-side", "chassis/effects.py", "import safetensors"),
    ("members", "coordinator/adapters/decode.py", "import roost.manager.settings"),
    ("members", "manager/__main__.py", "import roost.proplet.settings"),
    ("task-side", "protocol/phone/topics.py", "import roost.protocol.round.topics"),
    ("members", "wire/ids.py", "import roost.chassis.effects"),
    ("chassis", "chassis/service.py", "import roost.model_server.settings"),
    ("inside", "coordinator/core/state.py", "import roost.coordinator.adapters.spool"),
    ("inside", "model_server/ports.py", "import roost.model_server.adapters.files"),
    ("inside-manager", "manager/core/task.py", "import roost.manager.ports"),
    ("inside-manager", "manager/bindings.py", "import roost.manager.adapters.decode"),
    ("inside-proplet", "proplet/core/states.py", "import roost.proplet.guest.run"),
    ("inside-proplet", "proplet/ports.py", "import roost.proplet.adapters.decode"),
    ("inside-bridge", "ios_bridge/errors.py", "import roost.ios_bridge.core.states"),
    ("inside-simulator", "ios_bridge/simulator/ports.py", "import roost.ios_bridge.simulator.work"),
    ("worker", "proplet/worker/entry.py", "import roost.wire.ids"),
    ("pure", "manager/core/lifecycle.py", "import time"),
    ("pure", "manager/core/lifecycle.py", "import random"),
    ("pure", "coordinator/core/round.py", "import logging"),
    ("pure", "coordinator/core/round.py", "import roost.chassis.logs"),
    ("pure", "model_server/core/shelf.py", "import pathlib"),
    ("pure", "proplet/core/proplet.py", "import os"),
    ("pure", "ios_bridge/core/bridge.py", "import time"),
    ("pure", "ios_bridge/simulator/core/body.py", "import random"),
    ("task-side", "ios_bridge/core/states.py", "import roost.coordinator.core.round"),
    ("pure", "protocol/phone/policy.py", "import time"),
    ("pure", "protocol/round/update.py", "import datetime"),
]
"""What a contract forbids: the contract, a file below ``roost/``, and a line for its end."""
STRANGER = "model_server/helpers.py"
"""A module to which no layer was given."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of all sources, to plant things in."""
    root = tmp_path_factory.mktemp("sources")
    shutil.copy(CONTRACTS, root)
    for member in SOURCES:
        shutil.copytree(
            ROOT / member / "src", root / member / "src",
            ignore=shutil.ignore_patterns("__pycache__", "*.wasm", "*.npz", "*.gz"),
        )  # fmt: skip
    return root


def lint(root: Path) -> "subprocess.CompletedProcess[str]":
    """Run import-linter over the sources below ``root`` and return how it ended."""
    folders = [str(root / member / "src") for member in SOURCES]
    code = (
        # Before site-packages: what lies below root must be what is linted.
        f"import sys; sys.path[:0] = {folders!r}; "
        "from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    command = [sys.executable, "-c", code, "--no-cache"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def source(root: Path, file: str) -> Path:
    """Return where a file below ``roost/`` lies."""
    (place,) = (
        folder / "src" / "roost" / file
        for folder in (root / member for member in SOURCES)
        if (folder / "src" / "roost" / Path(file).parent).is_dir()
    )
    return place


@pytest.fixture(scope="module")
def broken(copy: Path) -> str:
    """Plant everything at once and return what import-linter says."""
    clean = lint(copy)
    assert clean.returncode == 0, clean.stdout + clean.stderr
    for _, file, text in PLANTED:
        place = source(copy, file)
        place.write_text(f"{place.read_text()}\n{text}\n")
    source(copy, STRANGER).write_text("X = 1\n")
    ended = lint(copy)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    return ended.stdout


def test_contracts_hold() -> None:
    """All contracts are kept (proof 2)."""
    ended = lint(ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 broken" in ended.stdout


@pytest.mark.parametrize(("contract", "file", "text"), PLANTED)
def test_a_planted_import_is_found(contract: str, file: str, text: str, broken: str) -> None:
    """Each contract is broken by an import that it forbids, and names it."""
    config = configparser.ConfigParser()
    config.read(CONTRACTS)
    name = config[f"importlinter:contract:{contract}"]["name"]
    assert f"{name} BROKEN" in broken
    (details,) = broken.split(f"\n{name}\n---")[1:]
    details = re.split(r"\n.*\n-{10,}\n", details.split("\n", 1)[1])[0]
    importer = "roost." + file.removesuffix(".py").replace("/", ".")
    assert f"{importer} -> {text.removeprefix('import ')} (l." in details


def test_a_module_without_a_layer_is_found(broken: str) -> None:
    """A new module of a service must be given its place among the layers."""
    assert "roost.model_server.helpers" in broken


def test_every_contract_has_a_plant() -> None:
    """No contract is stated that was never seen to break."""
    config = configparser.ConfigParser()
    config.read(CONTRACTS)
    stated = {name.rpartition(":")[2] for name in config.sections() if ":contract:" in name}
    assert stated == {contract for contract, _, _ in PLANTED}


def impure_calls(source: str) -> Iterator[str]:
    """Yield built-in functions that do I/O or run code, where a source calls them."""
    for node in ast.walk(ast.parse(source)):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id in IMPURE:
            yield f"line {called.lineno}: {called.id}()"


def core_files() -> list[Path]:
    """Return the sources of all cores and protocols."""
    cores = ROOT.glob("*/src/roost/*/core/*.py")
    protocols = [*ROOT.glob("specs/*/src/roost/wire/*.py"),
                 *ROOT.glob("specs/*/src/roost/protocol/*/*.py")]  # fmt: skip
    return sorted([*cores, *protocols])


def test_cores_call_no_io() -> None:
    """Cores and protocols call no built-in that does I/O; imports are not needed for those."""
    files = core_files()
    assert {path.relative_to(ROOT).parts[0] for path in files} == {
        "manager", "proplet", "coordinator", "model-server", "ios-bridge", "specs",
    }  # fmt: skip
    found = {str(path): calls for path in files if (calls := list(impure_calls(path.read_text())))}
    assert found == {}


def test_a_planted_call_is_found() -> None:
    """The search sees such a call wherever it stands."""
    assert list(impure_calls("def f():\n    return open('x').read()\n")) == ["line 2: open()"]
