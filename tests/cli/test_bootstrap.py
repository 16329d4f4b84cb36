"""Setting up from a bare Python: messages, targets, cleaning up."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, in a folder of its own."""
    shutil.copy(ROOT / "bootstrap.py", tmp_path)
    spec = importlib.util.spec_from_file_location("bootstrap", tmp_path / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec.loader.exec_module(module)
    return module


def test_make_knows_the_same_targets(bootstrap: ModuleType) -> None:
    """`make X` and `python3 bootstrap.py X` are the same."""
    text = (ROOT / "Makefile").read_text()
    found = re.search(r"^(demo [a-z ]+):\n", text, re.MULTILINE)
    assert found is not None
    assert set(found[1].split()) == set(bootstrap.TARGETS)
    assert all(name in bootstrap.__doc__ for name in bootstrap.TARGETS)


@pytest.mark.parametrize(("words", "code"), [(["help"], 0), ([], 0), (["nope"], 2)])
def test_help_is_what_the_script_says_of_itself(words: list[str], code: int) -> None:
    """Also for a word that is no target."""
    argv = [sys.executable, "-B", str(ROOT / "bootstrap.py"), *words]
    said = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert said.returncode == code
    assert "five proplets learn handwritten digits" in said.stdout


def test_a_python_without_venv_names_the_package(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Debian's does without python3.11-venv; nothing half made is left."""
    said = (
        b"The virtual environment was not created successfully because ensurepip is not available"
    )

    def run(*_: object, **__: object) -> subprocess.CompletedProcess[bytes]:
        bootstrap.VENV.mkdir()
        return subprocess.CompletedProcess([], 1, said)

    monkeypatch.setattr(bootstrap.subprocess, "run", run)
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    with pytest.raises(SystemExit, match=rf"apt-get install {re.escape(package)}"):
        bootstrap.make_venv()
    assert not bootstrap.VENV.exists()


def test_an_old_python_is_told_what_to_do(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless there is uv, which brings its own."""
    monkeypatch.setattr(bootstrap.shutil, "which", lambda _name: None)
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 2))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer and this is 3\.9"):
        bootstrap.find_uv()


@pytest.mark.parametrize(
    ("said", "recent"),
    [("uv 0.13.9 (x86_64)", True), ("uv 0.9.8", True), ("uv 0.9.7", False), ("nonsense", False)],
)
def test_only_a_uv_that_understands_the_workspace_is_used(
    bootstrap: ModuleType, tmp_path: Path, said: str, recent: bool
) -> None:
    """Otherwise pip installs one into .venv."""
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\necho '{said}'\n")
    uv.chmod(0o755)
    assert bootstrap.is_recent_uv(uv) is recent
    assert not bootstrap.is_recent_uv(tmp_path / "none")


def test_clean_removes_what_was_written_and_nothing_else(
    bootstrap: ModuleType, tmp_path: Path
) -> None:
    """Folders of the same name elsewhere, and .git, stay."""
    written = [
        ".venv/bin/python",
        ".roost/roost.json",
        "cli/src/__pycache__/x.pyc",
        ".mypy_cache/a",
        "tests/.pytest_cache/b",
        ".hypothesis/c",
        ".coverage",
    ]
    kept = [".git/__pycache__/x", "cli/build/keep", "manager/src/a.py", "uv.lock", ".gitignore"]
    for name in written + kept:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    bootstrap.clean([])
    left = {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()}
    assert left == {*kept, "bootstrap.py"}


def test_what_is_written_into_the_checkout_is_ignored_by_git(bootstrap: ModuleType) -> None:
    """So that a clean checkout stays clean after `make demo` and `make test`."""
    names = bootstrap.WRITTEN_HERE | bootstrap.WRITTEN_ANYWHERE
    paths = [f"{name}/x" for name in sorted(names)]
    argv = ["git", "check-ignore", *paths]
    found = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert sorted(found.stdout.split()) == sorted(paths)
