"""Workload bindings on disk: a folder of TOML files, read as a whole.

Usable without a broker: ``check(folder)`` is what ``roost workload check`` prints.
"""

from pathlib import Path

from roost.manager.core.binding import Binding, Bindings, BindingsInvalid, Problem
from roost.manager.core.read_binding import read_binding
from roost.manager.core.rules import check as check_rules

__all__ = ["Binding", "Bindings", "BindingsInvalid", "Problem", "check", "load"]


def load(folder: Path) -> Bindings:
    """Read every ``*.toml`` file of a folder, in the order of their names.

    Raises:
        BindingsInvalid: with every problem found, each with file and line.
    """
    if not folder.is_dir():
        text = "the folder of workload bindings does not exist; create it, or set ROOST_WORKLOADS"
        raise BindingsInvalid([Problem(str(folder), 1, text)])
    files: list[Binding] = []
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            files.append(read_binding(path.name, path.read_bytes()))
        except OSError as error:
            problems.append(Problem(path.name, 1, f"cannot be read: {error.strerror}"))
        except BindingsInvalid as error:
            problems.extend(error.problems)
    try:
        bindings = check_rules(files)
    except BindingsInvalid as error:
        problems.extend(error.problems)
    if problems:
        raise BindingsInvalid(problems)
    return bindings


def check(folder: Path) -> tuple[Problem, ...]:
    """Return all that is wrong with a folder of bindings; nothing if the manager takes it."""
    try:
        load(folder)
    except BindingsInvalid as error:
        return error.problems
    return ()
