"""A user's CSV file as private data of a proplet.

The first row names the columns. One column is the label, a whole number from 0 (a class); all
others are features, any finite number. A message about a bad cell tells its line as an editor
counts them, and its column by name.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from roost.cli.digits import Split
from roost.cli.errors import UsageProblem

__all__ = ["read_csv"]

#: A label is the index of an output of the network; more classes than this is a wrong column.
_MAX_LABEL = 100_000
_F32_MAX = float(np.finfo(np.float32).max)


def read_csv(path: Path, label: str) -> Split:
    """Features and labels of a CSV file with a header.

    Args:
        path: the file; comma separated, UTF-8 (a byte order mark is skipped).
        label: name of the column with the classes.

    Returns:
        x float32 (rows, columns - 1) in the file's order of columns, y int64 (rows,).

    Raises:
        UsageProblem: the file cannot be read, or some cell is not what it must be.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _parse(csv.reader(file, strict=True), path, label)
    except OSError as problem:
        raise UsageProblem(f"cannot read {path}: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise UsageProblem(f"{path} is not UTF-8 text: save it as CSV in UTF-8") from problem


def _parse(reader: Iterator[list[str]], path: Path, label: str) -> Split:
    rows = _numbered(reader, path)
    _, header = next(rows, (0, []))
    header = [name.strip() for name in header]
    label_at = _label_column(header, path, label)
    features: list[list[float]] = []
    labels: list[int] = []
    for line, cells in rows:
        if len(cells) != len(header):
            raise UsageProblem(
                f"{path}, line {line}: {len(cells)} cells, but the header has {len(header)}"
            )
        where = [f"{path}, line {line}, column {name!r}" for name in header]
        labels.append(_label(cells[label_at], where[label_at]))
        features.append(
            [
                _number(c, w)
                for i, (c, w) in enumerate(zip(cells, where, strict=True))
                if i != label_at
            ]
        )
    if not labels:
        raise UsageProblem(f"{path} has a header and no rows")
    return Split(np.array(features, dtype=np.float32), np.array(labels, dtype=np.int64))


def _numbered(reader: Iterator[list[str]], path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row that is not blank; a quoted cell may span lines."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            line = getattr(reader, "line_num", 0)
            raise UsageProblem(f"{path}, line {line}: not CSV ({problem})") from problem
        if cells:
            yield getattr(reader, "line_num", 0), cells


def _label_column(header: list[str], path: Path, label: str) -> int:
    if not header:
        raise UsageProblem(f"{path} is empty: its first line must name the columns")
    doubles = sorted({name for name in header if header.count(name) > 1})
    if doubles:
        raise UsageProblem(f"{path}, line 1: column {doubles[0]!r} is there twice")
    if label not in header:
        raise UsageProblem(
            f"{path} has no column {label!r} for the label; it has {', '.join(header)}"
        )
    if len(header) == 1:
        raise UsageProblem(f"{path} has no other column than the label {label!r}")
    return header.index(label)


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        shown = "an empty cell" if not cell.strip() else f"{cell.strip()!r}"
        raise UsageProblem(f"{where}: {shown} is not a number") from None
    if not math.isfinite(value) or abs(value) > _F32_MAX:
        raise UsageProblem(f"{where}: {cell.strip()!r} is not a finite 32-bit number")
    return value


def _label(cell: str, where: str) -> int:
    value = _number(cell, where)
    if value != int(value) or not 0 <= value <= _MAX_LABEL:
        raise UsageProblem(
            f"{where}: the label {cell.strip()!r} is not a whole number from 0 to {_MAX_LABEL}; "
            "number the classes 0, 1, 2 …"
        )
    return int(value)
