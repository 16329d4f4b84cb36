"""What supervised processes print: coloured on the console by service, and kept in files."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TextIO

from roost.cli.output import PALETTE, paint, wants_colour

__all__ = ["LogSink", "shorten"]

_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z ")
_SERVICE = re.compile(r" service=[\w-]+$")
_LEVEL = re.compile(r"\[(warning|error) *\]")
_LEVEL_COLOURS = {"warning": "33", "error": "31"}

#: A service's log is moved aside to NAME.log.1 beyond this size, so a folder holds twice that.
_ROTATE_AT = 5_000_000


def shorten(line: str) -> str:
    """A service's line for the console: local time of day, without the service's own name."""
    stamp = _STAMP.match(line)
    if stamp is None:
        return line
    at = datetime.fromisoformat(stamp[0].strip()).astimezone()
    return f"{at:%H:%M:%S} {_SERVICE.sub('', line[stamp.end() :])}"


class LogSink:
    """Takes the lines of all services.

    Args:
        folder: gets one NAME.log for each service.
        console: where a person reads along; None for files only.
        names: the services, to give each its colour and to align them.
    """

    def __init__(self, folder: Path, console: TextIO | None, names: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._console = console
        self._colours = {n: PALETTE[i % len(PALETTE)] for i, n in enumerate(names)}
        self._width = max((len(n) for n in names), default=0)
        self._tint = console is not None and wants_colour(console)
        self._files: dict[str, TextIO] = {}

    def write(self, name: str, line: str) -> None:
        """A line that service `name` printed."""
        self._to_file(name, line)
        if self._console is None:
            return
        prefix = f"{name:<{self._width}} |"
        line = shorten(line)
        if self._tint:
            prefix = paint(prefix, self._colours.get(name, "37"))
            line = _LEVEL.sub(lambda found: paint(found[0], _LEVEL_COLOURS[found[1]]), line)
        print(f"{prefix} {line}", file=self._console, flush=True)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _to_file(self, name: str, line: str) -> None:
        file = self._files.get(name)
        path = self._folder / f"{name}.log"
        if file is not None and file.tell() > _ROTATE_AT:
            file.close()
            path.replace(path.with_suffix(".log.1"))
            file = None
        if file is None:
            file = self._files[name] = path.open("a", encoding="utf-8", buffering=1)
            file.seek(0, 2)
        file.write(line + "\n")
