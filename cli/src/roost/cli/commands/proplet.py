"""`roost proplet list`."""

from __future__ import annotations

import click
from roost.cli.options import Call, remote
from roost.cli.views import proplet_rows

__all__ = ["group"]


@click.group(name="proplet")
def group() -> None:
    """Which proplets there are."""


@group.command("list")
@remote
def list_(call: Call) -> None:
    """Show every proplet that the broker knows of, online or not."""
    with call.wire() as wire:
        rows = proplet_rows(wire)
    call.out.table(
        ("proplet", "status", "mounts", "running", "load", "memory_free_mb", "arch"),
        rows,
        empty="no proplet has ever connected here; `roost up` starts some",
    )
