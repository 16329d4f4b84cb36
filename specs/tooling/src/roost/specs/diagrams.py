"""State diagrams (Mermaid) from the transition tables of the services' cores."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any, Final

MACHINES: Final = {
    "task": "roost.manager.core.task",
}
"""Modules with a ``TRANSITIONS`` table, by the diagram's name."""


def diagram(name: str) -> str:
    """Return the diagram of a machine, as a Mermaid block."""
    return mermaid(import_module(MACHINES[name]).TRANSITIONS)


def mermaid(rows: Iterable[Any]) -> str:
    """Draw a table whose rows have ``source``, ``target`` and ``about``.

    A state that nothing leaves is final. Rows from one state to another share an arrow.
    """
    arrows: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        arrows.setdefault((str(row.source), str(row.target)), []).append(row.about)
    sources = {source for source, _ in arrows}
    targets = [target for _, target in arrows]
    first = next(iter(arrows))[0]
    lines = ["stateDiagram-v2", f"    [*] --> {first}"]
    lines += [
        f"    {source} --> {target}: {' / '.join(dict.fromkeys(why))}"
        for (source, target), why in arrows.items()
    ]
    final = dict.fromkeys(target for target in targets if target not in sources)
    lines += [f"    {state} --> [*]" for state in final]
    return "\n".join(["```mermaid", *lines, "```", ""])
