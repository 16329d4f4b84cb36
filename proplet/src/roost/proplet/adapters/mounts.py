"""The device's private data: each folder below the data folder is a mount of its name."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from roost.proplet.errors import MountUnknown
from roost.wire.ids import ID_PATTERN

_NAME: Final = re.compile(ID_PATTERN)
OPTIONAL: Final = "?"


def find(data_dir: Path | None) -> dict[str, Path]:
    """Return the mounts that are there now; a new folder is one without a restart."""
    if data_dir is None or not data_dir.is_dir():
        return {}
    return {
        path.name: path.resolve()
        for path in sorted(data_dir.iterdir())
        if _NAME.fullmatch(path.name) and path.is_dir()
    }


def choose(wanted: Iterable[str], known: Mapping[str, Path]) -> dict[str, Path]:
    """Return the mounts that a task gets; ``name?`` is left out where there is none.

    Raises:
        MountUnknown: a mount without the question mark is not there.
    """
    chosen = {}
    for mark in wanted:
        name = mark.removesuffix(OPTIONAL)
        if name in known:
            chosen[name] = known[name]
        elif not mark.endswith(OPTIONAL):
            has = ", ".join(known) or "none at all"
            raise MountUnknown(f"this proplet has no data mount '{name}'; it has: {has}")
    return chosen
