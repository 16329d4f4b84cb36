"""Line numbers of a TOML document's tables and keys, for messages that name the culprit.

``tomllib`` tells lines of syntax errors only. This reads a document that ``tomllib`` has already
accepted, so it need not judge, only count: headers, keys, and values that span lines.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

Path = tuple[str | int, ...]

_STRING: Final = (
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
)
_SKIP: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY: Final = re.compile(rf"(?:{_STRING})|[A-Za-z0-9_-]+", re.DOTALL)
_DOT: Final = re.compile(r"[ \t]*\.[ \t]*")
_VALUE: Final = re.compile(rf"(?P<string>{_STRING})|#[^\n]*|(?P<open>[\[{{])|(?P<close>[\]}}])"
                           r"|(?P<end>\n)|[^\n]", re.DOTALL)  # fmt: skip


@dataclass
class _Scan:
    text: str
    lines: dict[Path, int] = field(default_factory=dict)
    counts: dict[Path, int] = field(default_factory=dict)


def lines_of(text: str) -> dict[Path, int]:
    """Return the line, counted from 1, of each table, element of an array of tables, and key.

    Args:
        text: A TOML document without syntax errors.

    Returns:
        Lines by path; ``("launch", 0, "task")`` is the table ``task`` of the first ``[[launch]]``.
    """
    scan = _Scan(text)
    table: Path = ()
    for position, start in _statements(text):
        line = text.count("\n", 0, start) + 1
        header = text.startswith("[", start)
        names, _ = _names(text, position)
        if header:
            table = _resolve(scan, names, array=text.startswith("[[", start))
            scan.lines.setdefault(table, line)
            if isinstance(table[-1], int):
                scan.lines.setdefault(table[:-1], line)
        else:
            for length in range(1, len(names) + 1):
                scan.lines.setdefault((*table, *names[:length]), line)
    return scan.lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """Return the line of a path, or of the nearest thing around it; 1 for the document."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1


def _statements(text: str) -> Iterator[tuple[int, int]]:
    """Yield, for each statement, where its first key begins and where it begins itself."""
    position = _skip(text, 0)
    while position < len(text):
        start = position
        while text[position] in "[ \t":
            position += 1
        yield position, start
        _, position = _names(text, position)
        position = _skip(text, _end_of_value(text, position))


def _skip(text: str, position: int) -> int:
    found = _SKIP.match(text, position)
    assert found is not None  # it matches nothing too
    return found.end()


def _names(text: str, position: int) -> tuple[tuple[str, ...], int]:
    """Read a dotted key; return its names and where it ends."""
    names: list[str] = []
    while True:
        found = _KEY.match(text, position)
        assert found is not None  # tomllib saw a key here
        names.append(found[0].strip("\"'"))
        dot = _DOT.match(text, found.end())
        if dot is None:
            return tuple(names), found.end()
        position = dot.end()


def _end_of_value(text: str, position: int) -> int:
    """Return where the statement ends: at a line's end outside of strings and brackets."""
    depth = 0
    for token in _VALUE.finditer(text, position):
        if token["open"]:
            depth += 1
        elif token["close"]:
            depth = max(0, depth - 1)  # a header's own brackets close without opening
        elif token["end"] and depth == 0:
            return token.end()
    return len(text)


def _resolve(scan: _Scan, names: tuple[str, ...], *, array: bool) -> Path:
    """Turn a header's names into a path with the present index after each array of tables."""
    path: Path = ()
    for name in names[:-1]:
        path = (*path, name)
        if path in scan.counts:
            path = (*path, scan.counts[path])
    path = (*path, names[-1])
    if array:
        scan.counts[path] = scan.counts.get(path, -1) + 1
        path = (*path, scan.counts[path])
    return path
