"""State diagrams (Mermaid) from the transition tables of the services' cores.

The services are imported by name, and only when a diagram is drawn: nothing else here needs them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from roost.specs import held_task

END: Final = "[*]"


@dataclass(frozen=True, slots=True)
class Row:
    """One transition: where from, why, where to."""

    source: str
    why: str
    target: str


def diagram(name: str) -> str:
    """Return the diagram of a machine, as a Mermaid block."""
    return mermaid(MACHINES[name]())


def mermaid(rows: Iterable[Row]) -> str:
    """Draw a machine. It begins where the first row does; a state that nothing leaves is final.

    Rows with the same ends share an arrow.
    """
    arrows: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        arrows.setdefault((row.source, row.target), {})[row.why] = None
    left = {source for source, _ in arrows}
    reached = dict.fromkeys(target for _, target in arrows)
    first = next(iter(arrows))[0]
    lines = ["stateDiagram-v2"]
    if first != END:
        lines.append(f"    {END} --> {first}")
    lines += [
        f"    {source} --> {target}: {_label(why)}" for (source, target), why in arrows.items()
    ]
    lines += [f"    {state} --> {END}" for state in reached if state not in left and state != END]
    return "\n".join(["```mermaid", *lines, "```", ""])


def _label(why: Iterable[str]) -> str:
    """Join reasons; Mermaid ends a label at a colon or semicolon."""
    return " / ".join(why).replace(":", ",").replace(";", ",")


def _of_rows(module: str) -> list[Row]:
    """Read a table of rows with ``source``, ``target`` and ``about``."""
    table = import_module(module).TRANSITIONS
    return [Row(str(row.source), row.about, str(row.target)) for row in table]


def _of_mapping(module: str) -> list[Row]:
    """Read a table of the form ``{source: {trigger: target}}``."""
    table: Mapping[Any, Mapping[Any, Any]] = import_module(module).TRANSITIONS
    return [
        Row(str(source), str(trigger), str(target))
        for source, targets in table.items()
        for trigger, target in targets.items()
    ]


def _of_proplet() -> list[Row]:
    """Walk the proplet's table: its actions say by what they do where they lead."""
    return [Row(source, why, target or END) for source, why, target in held_task.walk()]


MACHINES: Final[Mapping[str, Callable[[], list[Row]]]] = {
    "a task": lambda: _of_rows("roost.manager.core.task"),
    "a held task": _of_proplet,
    "a round": lambda: _of_mapping("roost.coordinator.core.guards"),
    "an experiment": lambda: _of_mapping("roost.coordinator.core.experiment"),
}
"""Machines by the name of their diagram."""
