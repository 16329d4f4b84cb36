"""Proof 1: manager and proplet need no learning package and no NumPy, neither locked nor found."""

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

from .task_side import LEARNING_PACKAGES, MEMBERS, ROOT, locked_closure

LOCK = """
[[package]]
name = "roost-manager"
dependencies = [{ name = "roost-chassis" }]
[[package]]
name = "roost-chassis"
[package.optional-dependencies]
fast = [{ name = "numpy" }]
[[package]]
name = "numpy"
"""


def installed_closure(package: str) -> set[str]:
    """Return the names of a package and all it needs, by what is installed."""
    seen: set[str] = set()
    pending = [package]
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            needed = requires(name) or ()
        except PackageNotFoundError:  # needed on other platforms only
            continue
        pending.extend(_name(line) for line in needed if "extra ==" not in line)
    return seen


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


@pytest.mark.parametrize("member", MEMBERS)
def test_locked_closure_holds_no_learning(member: str) -> None:
    """By uv.lock, on no platform and with no extra, a learning package comes along."""
    closure = locked_closure(ROOT / "uv.lock", member)
    assert closure & LEARNING_PACKAGES == set()
    assert "pydantic" in closure


@pytest.mark.parametrize("member", MEMBERS)
def test_installed_closure_holds_no_learning(member: str) -> None:
    """By the metadata of what is installed, no learning package comes along."""
    closure = installed_closure(member)
    assert closure & LEARNING_PACKAGES == set()
    assert "pydantic" in closure


def test_the_learning_side_is_told_apart() -> None:
    """The same look at the coordinator finds NumPy: the list and the walk can find something."""
    assert "numpy" in locked_closure(ROOT / "uv.lock", "roost-coordinator") & LEARNING_PACKAGES
    assert "numpy" in installed_closure("roost-coordinator") & LEARNING_PACKAGES


def test_a_planted_dependency_is_found(tmp_path: Path) -> None:
    """NumPy behind an extra of a package that the manager needs is found."""
    (tmp_path / "uv.lock").write_text(LOCK)
    assert "numpy" in locked_closure(tmp_path / "uv.lock", "roost-manager")
