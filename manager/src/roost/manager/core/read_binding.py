"""Reads one binding file: TOML to frozen rules, every problem with its line."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from roost.manager.core.binding import (
    Binding,
    BindingsInvalid,
    ForwardRule,
    LaunchRule,
    Leaf,
    Node,
    Problem,
    Sequence,
    Table,
)
from roost.manager.core.locate import Path, line_of, lines_of
from roost.manager.core.substitute import Template, TemplateError, is_field, parse

_FILE_KEYS: Final = ("launch", "forward")
_LAUNCH_KEYS: Final = ("topic", "key", "for_each", "defaults", "task")
_FORWARD_KEYS: Final = ("from", "to")

# The task request as templates; a test compares it with the request's own fields.
TEXT, NUMBER = "text", "number"
SHAPE: Final[Mapping[str, Any]] = {
    "image": TEXT,
    "proplet": TEXT,
    "selector": {"*": TEXT},
    "args": [TEXT],
    "env": {"*": TEXT},
    "inputs": [{"name": TEXT, "topic": TEXT, "blob": TEXT, "text": TEXT, "base64": TEXT}],
    "outputs": [{"file": TEXT, "topic": TEXT}],
    "mounts": [TEXT],
    "limits": {"memory_mb": NUMBER, "wall_s": NUMBER, "out_mb": NUMBER, "stdout_mb": NUMBER},
    "deadline_s": NUMBER,
}

_WANTED: Final[Mapping[str, str]] = {
    "str": "a text or a number, in quotes if it has fields",
    "list": "a list",
    "dict": "a table",
}


def read_binding(file: str, content: bytes) -> Binding:
    """Read a binding file.

    Args:
        file: Its name, for messages.
        content: Its bytes.

    Raises:
        BindingsInvalid: with every problem of this file, except those that ``rules`` finds.
    """
    try:
        text = content.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BindingsInvalid([Problem(file, line, "not UTF-8")]) from None
    except tomllib.TOMLDecodeError as error:
        raise BindingsInvalid([_syntax_problem(file, content, str(error))]) from None
    except RecursionError:
        raise BindingsInvalid([Problem(file, 1, "nested too deeply")]) from None
    reader = _Reader(file, lines_of(text))
    launches = tuple(reader.launch(*found) for found in reader.tables(document, "launch"))
    forwards = tuple(reader.forward(*found) for found in reader.tables(document, "forward"))
    reader.unknown_keys(document, _FILE_KEYS, ())
    if reader.problems:
        raise BindingsInvalid(reader.problems)
    return Binding(file, sha256(content).hexdigest(), launches, forwards)


def _syntax_problem(file: str, content: bytes, message: str) -> Problem:
    """Take the line out of tomllib's message: ``… (at line 3, column 7)`` or ``(at end of …)``."""
    what, _, place = message.rpartition(" (at ")
    line = place.removeprefix("line ").split(",")[0]
    last = content.count(b"\n") + 1
    return Problem(file, int(line) if line.isdigit() else last, f"not TOML: {what or place}")


@dataclass
class _Reader:
    file: str
    lines: dict[Path, int]
    problems: list[Problem] = field(default_factory=list)

    def where(self, path: Path) -> str:
        return f"{self.file}:{line_of(self.lines, path)}"

    def complain(self, path: Path, text: str) -> None:
        self.problems.append(Problem(self.file, line_of(self.lines, path), text))

    def unknown_keys(self, table: Mapping[str, Any], known: Iterable[str], path: Path) -> None:
        for key in table:
            if key not in known:
                self.complain((*path, key), f"unknown key '{key}'; known: {', '.join(known)}")

    def tables(self, document: Mapping[str, Any], name: str) -> Iterator[tuple[Path, Any]]:
        """Yield the path and content of each ``[[name]]``."""
        found = document.get(name, [])
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            self.complain((name,), f"write it as [[{name}]]")
            return
        for index, item in enumerate(found):
            yield (name, index), item

    def text(self, table: Mapping[str, Any], name: str, path: Path) -> str:
        """Return a required text, or complain and return nothing."""
        value = table.get(name)
        if isinstance(value, str) and value:
            return value
        problem = "is missing" if value is None else "must be a text, in quotes, and not empty"
        self.complain((*path, name), f"'{name}' {problem}")
        return ""

    def launch(self, path: Path, table: Mapping[str, Any]) -> LaunchRule:
        self.unknown_keys(table, _LAUNCH_KEYS, path)
        for_each = self._for_each(table, path)
        return LaunchRule(
            topic=self.text(table, "topic", path),
            key=self.template(self.text(table, "key", path), (*path, "key")),
            for_each=for_each,
            defaults=tuple(self._defaults(table.get("defaults", {}), "", (*path, "defaults"))),
            task=self._task(table.get("task"), (*path, "task")),
            where=self.where(path),
        )

    def forward(self, path: Path, table: Mapping[str, Any]) -> ForwardRule:
        self.unknown_keys(table, _FORWARD_KEYS, path)
        return ForwardRule(
            source=self.text(table, "from", path),
            to=self.text(table, "to", path),
            where=self.where(path),
        )

    def _for_each(self, table: Mapping[str, Any], path: Path) -> str | None:
        if "for_each" not in table:
            return None
        name = self.text(table, "for_each", path)
        if name and not is_field(name):
            self.complain((*path, "for_each"), f"'{name}' names no field; write it without braces")
        return name

    def _defaults(self, found: Any, outer: str, path: Path) -> Iterator[tuple[str, str]]:
        if not isinstance(found, dict):
            self.complain(path, "'defaults' must be a table of texts")
            return
        for name, value in found.items():
            if isinstance(value, dict):
                yield from self._defaults(value, f"{outer}{name}.", (*path, name))
            elif isinstance(value, str):
                yield f"{outer}{name}", value
            else:
                self.complain((*path, name), f"'{outer}{name}' must be a text: put it in quotes")

    def _task(self, found: Any, path: Path) -> Table:
        if not isinstance(found, dict):
            self.complain(path, "'task' is missing: write a table [launch.task]")
            return Table(())
        return self._table(found, SHAPE, path)

    def _table(self, found: dict[str, Any], shape: Mapping[str, Any], path: Path) -> Table:
        if "*" not in shape:
            self.unknown_keys(found, shape, path)
        items: list[tuple[str, Node]] = []
        for name, value in found.items():
            inner = shape.get(name, shape.get("*"))
            if inner is not None:
                items.append((name, self._node(value, inner, (*path, name))))
        return Table(tuple(items))

    def _node(self, value: Any, shape: Any, path: Path) -> Node:
        if isinstance(shape, dict) and isinstance(value, dict):
            return self._table(value, shape, path)
        if isinstance(shape, list) and isinstance(value, list):
            inner = (self._node(item, shape[0], (*path, i)) for i, item in enumerate(value))
            return Sequence(tuple(inner))
        number = shape == NUMBER
        if number and type(value) in (int, float):
            return Leaf(Template((repr(value),), self.where(path)), number=True)
        if isinstance(shape, str) and isinstance(value, str):
            return Leaf(self.template(value, path), number=number)
        self.complain(path, f"'{path[-1]}' must be {_WANTED[type(shape).__name__]}")
        return Table(())

    def template(self, text: str, path: Path) -> Template:
        try:
            return parse(text, self.where(path))
        except TemplateError as error:
            self.complain(path, str(error))
            return Template((), self.where(path))
