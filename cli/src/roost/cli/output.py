"""How a command speaks: to a person in text, to a program in JSON.

A command gets one `Output`. Results go to stdout, progress and errors to stderr, so that a pipe
only ever carries results. With `--json` every result is one line of JSON and progress is silent.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

__all__ = ["PALETTE", "Output", "dump", "paint", "wants_colour"]

#: ANSI codes that stay readable on dark and on light backgrounds.
PALETTE = ("36", "33", "35", "32", "34", "96", "93", "95", "92", "94")
_CLEAR_LINE = "\r\x1b[2K"
#: The column whose texts are cut for people.
MESSAGE = "message"
_LONGEST = 100


def wants_colour(stream: TextIO) -> bool:
    """Colour only where a person looks: a terminal, and NO_COLOR not set (no-color.org)."""
    return not os.environ.get("NO_COLOR") and stream.isatty()


def paint(text: str, code: str) -> str:
    """`text` in the ANSI colour `code`."""
    return f"\x1b[{code}m{text}\x1b[0m"


def dump(value: object) -> str:
    """`value` as one line of JSON; what JSON has no word for becomes its text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


class Output:
    """Where a command writes.

    Args:
        as_json: one JSON object per result instead of text.
        out: results.
        err: progress and errors.
    """

    def __init__(
        self, *, as_json: bool = False, out: TextIO | None = None, err: TextIO | None = None
    ) -> None:
        self.as_json = as_json
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._status_shown = False

    def line(self, text: str = "") -> None:
        """A line of the answer, for people only."""
        if not self.as_json:
            self._drop_status()
            print(text, file=self._out, flush=True)

    def result(self, value: Mapping[str, object], text: str | None = None) -> None:
        """The answer: `value` as JSON, or `text` for people (nothing if None)."""
        self._drop_status()
        if self.as_json:
            print(dump(value), file=self._out, flush=True)
        elif text is not None:
            print(text, file=self._out, flush=True)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Mapping[str, object]],
        *,
        empty: str,
    ) -> None:
        """Rows as an aligned table, or as one JSON object a line.

        Args:
            columns: keys of the rows to show to people, in order; JSON gets every key. Long texts
                of the column `message` are cut for people.
            rows: what to show.
            empty: said to people when there is no row.
        """
        found = list(rows)
        if self.as_json:
            for row in found:
                self.result(row)
            return
        if not found:
            self.line(empty)
            return
        cells = [[_shown(column, row.get(column)) for column in columns] for row in found]
        widths = [
            max(len(column), *(len(row[i]) for row in cells)) for i, column in enumerate(columns)
        ]
        for line in [list(columns), *cells]:
            padded = (c.ljust(w) for c, w in zip(line, widths, strict=True))
            self.line("  ".join(padded).rstrip())

    def status(self, text: str) -> None:
        """What is being waited for: a line on the terminal, rewritten each time."""
        if self.as_json or not self._err.isatty():
            return
        width = shutil.get_terminal_size().columns - 1
        self._err.write(_CLEAR_LINE + text[:width])
        self._err.flush()
        self._status_shown = True

    def note(self, text: str) -> None:
        """Something a person should know that is no part of the answer."""
        if not self.as_json:
            self._drop_status()
            print(text, file=self._err, flush=True)

    def error(self, message: str, **details: object) -> None:
        """Why the command ends unsuccessfully."""
        self._drop_status()
        if self.as_json:
            print(dump({"error": message, **details}), file=self._out, flush=True)
        else:
            head = paint("error:", "31") if wants_colour(self._err) else "error:"
            print(f"{head} {message}", file=self._err, flush=True)

    def _drop_status(self) -> None:
        if self._status_shown:
            self._err.write(_CLEAR_LINE)
            self._err.flush()
            self._status_shown = False


def _shown(column: str, value: object) -> str:
    """A cell for people; a message's end is left to the command that shows one thing."""
    cell = _cell(value)
    return cell if column != MESSAGE or len(cell) <= _LONGEST else cell[: _LONGEST - 1] + "…"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str | int | bool):
        return str(value)
    return dump(value)
