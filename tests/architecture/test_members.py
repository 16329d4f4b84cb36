"""Members of the workspace declare the Roost packages that they import, and no others.

Together with deptry, which does the same for everybody else's packages, this makes the lock file
tell the truth that ``test_closure`` relies on.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from .task_side import ROOT

PACKAGES = {
    "roost-wire": "roost.wire", "roost-task-protocol": "roost.protocol.task",
    "roost-round-protocol": "roost.protocol.round", "roost-specs": "roost.specs",
    "roost-chassis": "roost.chassis", "roost-manager": "roost.manager",
    "roost-proplet": "roost.proplet", "roost-coordinator": "roost.coordinator",
    "roost-model-server": "roost.model_server", "roost-client-wasm": "roost.client_wasm",
    "roost-cli": "roost.cli", "roost-phone-protocol": "roost.protocol.phone",
    "roost-ios-bridge": "roost.ios_bridge",
}  # fmt: skip
PROCESSES = {"roost-cli": {"roost-coordinator", "roost-model-server", "roost-manager"}}
"""What a member runs as processes, by name, and need not import."""
WORKSPACE = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]
MEMBERS = [ROOT / folder for folder in WORKSPACE["members"]]


def imports(source: str) -> Iterator[str]:
    """Yield the full names of all that a source imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def distribution(name: str) -> str | None:
    """Return the member whose package a name is in."""
    found = [each for each, package in PACKAGES.items() if f"{name}.".startswith(f"{package}.")]
    return found[0] if found else None


def used(member: Path) -> set[str]:
    """Return the members that a member's sources import, itself left out."""
    own = tomllib.loads((member / "pyproject.toml").read_text())["project"]["name"]
    found = {
        distribution(name)
        for path in (member / "src").rglob("*.py")
        for name in imports(path.read_text())
        if name.startswith("roost.")
    }
    assert None not in found, f"{member} imports a package of Roost that no member has"
    return {each for each in found if each is not None} - {own}


def declared(member: Path) -> set[str]:
    """Return the members that a member's pyproject.toml names as dependencies."""
    project = tomllib.loads((member / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[^a-z-]", line)[0] for line in project["dependencies"]}
    return {name for name in names if name.startswith("roost-")}


@pytest.mark.parametrize("member", MEMBERS, ids=lambda path: path.name)
def test_member_declares_what_it_imports(member: Path) -> None:
    """Neither more nor less than the sources import."""
    name = tomllib.loads((member / "pyproject.toml").read_text())["project"]["name"]
    processes = PROCESSES.get(name, set())
    assert used(member) <= declared(member)
    assert declared(member) - processes <= used(member)


def test_the_members_are_all_there() -> None:
    """Every member of the workspace is looked at under the package that it has."""
    names = {
        tomllib.loads((member / "pyproject.toml").read_text())["project"]["name"]
        for member in MEMBERS
    }
    assert names == set(PACKAGES)


def test_no_member_takes_the_namespace_for_itself() -> None:
    """``roost`` and ``roost.protocol`` are namespaces: no member may put an __init__ there."""
    for member in MEMBERS:
        roots = (member / "src" / "roost", member / "src" / "roost" / "protocol")
        assert not [root for root in roots if (root / "__init__.py").exists()]


def test_a_planted_import_is_found(tmp_path: Path) -> None:
    """An import deep inside a function counts, however it is written."""
    source = "def f():\n    from roost.protocol.round import topics\n    import roost.cli.app\n"
    found = {distribution(name) for name in imports(source)}
    assert found == {"roost-round-protocol", "roost-cli"}
