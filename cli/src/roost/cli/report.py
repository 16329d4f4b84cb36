"""The pipe by which a supervised program tells its supervisor something."""

from __future__ import annotations

import os

from roost.cli.children import REPORT_FD
from roost.cli.output import dump

__all__ = ["report"]


def report(value: dict[str, object]) -> None:
    """Tell the supervisor; does nothing where there is none."""
    fd = os.environ.get(REPORT_FD)
    if fd is not None:
        os.write(int(fd), dump(value).encode() + b"\n")
