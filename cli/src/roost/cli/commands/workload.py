"""`roost workload`: check, reload and list the manager's workload bindings."""

from __future__ import annotations

import click
from roost.cli.errors import CliError
from roost.cli.local import find_workloads
from roost.cli.options import Call, local, remote
from roost.cli.orders import fresh_id
from roost.cli.views import Row
from roost.cli.wire_client import read
from roost.manager.bindings import BindingsInvalid, load
from roost.protocol.task.messages import ReloadWorkloads, WorkloadsState
from roost.protocol.task.topics import WORKLOADS_RELOAD, WORKLOADS_STATE

__all__ = ["group"]

_COLUMNS = ("file", "launches", "forwards", "sha256")


@click.group(name="workload")
def group() -> None:
    """Check, reload and list workload bindings."""


@group.command("check")
@click.argument("folder", required=False)
@local
def check(call: Call, folder: str | None) -> int:
    """Check the bindings in FOLDER as the manager would, without it."""
    place = find_workloads(folder)
    try:
        bindings = load(place)
    except BindingsInvalid as invalid:
        problems = [{"file": p.file, "line": p.line, "problem": p.text} for p in invalid.problems]
        call.out.result({"folder": str(place), "problems": problems}, str(invalid))
        return 1
    rows: list[Row] = [
        {
            "file": b.file,
            "launches": ", ".join(rule.topic for rule in b.launches),
            "forwards": ", ".join(map(str, b.forwards)),
            "sha256": b.sha256[:12],
        }
        for b in bindings.files
    ]
    call.out.table(_COLUMNS, rows, empty=f"no binding in {place}")
    return 0


@group.command("list")
@remote
def list_(call: Call) -> None:
    """Show the bindings that are in force at the manager."""
    with call.wire() as wire:
        received = wire.retained(WORKLOADS_STATE.template)
    state = read(WORKLOADS_STATE, received, WorkloadsState)
    if state is None:
        raise CliError("no manager has told its bindings yet; is one running? `roost doctor` tells")
    _show(call, state)
    if state.refused:
        call.out.note(f"the last reload was refused: {state.refused}")
    if state.last_refusal:
        call.out.note(f"the last refusal: {state.last_refusal}")


@group.command("reload")
@remote
def reload(call: Call) -> int:
    """Let the manager read its binding files again; it takes all of them or none."""
    order = ReloadWorkloads(reload_id=fresh_id("reload"))
    with call.wire() as wire:
        wire.subscribe(WORKLOADS_STATE.template)
        wire.publish(WORKLOADS_RELOAD.template, order)
        received = wire.await_message(
            lambda r: (
                (s := read(WORKLOADS_STATE, r, WorkloadsState)) is not None
                and s.reload_id == order.reload_id
            ),
            call.timeout_s,
            "no manager answered; is one running? `roost doctor` tells",
        )
    state = read(WORKLOADS_STATE, received, WorkloadsState)
    assert state is not None
    if state.refused:
        raise CliError(f"refused, the old bindings stay: {state.refused}")
    _show(call, state)
    return 0


def _show(call: Call, state: WorkloadsState) -> None:
    rows: list[Row] = [
        {
            "file": b.file,
            "launches": ", ".join(b.launches),
            "forwards": ", ".join(b.forwards),
            "sha256": b.sha256[:12],
        }
        for b in state.bindings
    ]
    call.out.table(_COLUMNS, rows, empty="the manager has no binding")
