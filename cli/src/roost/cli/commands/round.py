"""`roost round`: start, watch, list and show federated rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from roost.cli.errors import CliError
from roost.cli.faults import fault_lines, faults_of
from roost.cli.follow import complete_text, round_end, state_text, subscribe_round
from roost.cli.options import Call, policy_options, remote, require_id
from roost.cli.orders import decode_order, fill_policy, fresh_id, merge
from roost.cli.views import round_rows, tell_if_cut
from roost.cli.wire_client import Wire, read
from roost.protocol.round.messages import (
    CoordinatorState,
    RoundComplete,
    RoundStart,
    RoundState,
    RoundStatus,
)
from roost.protocol.round.topics import COORDINATOR_STATE, ROUND_COMPLETE, ROUND_START, ROUND_STATE

__all__ = ["group"]


@click.group(name="round")
def group() -> None:
    """Start, watch and list federated rounds."""


@group.command("start")
@click.option("--id", "round_id", help="Used once for ever; made up by default.")
@policy_options
@click.option("--detach", is_flag=True, help="Return once the coordinator has answered.")
@remote
def start(call: Call, detach: bool, file: Path | None, **options: Any) -> int:
    """Start a round and watch it to its end."""
    given = merge(file, options)
    round_id = require_id("round", given.setdefault("round_id", fresh_id("r")))
    with call.wire() as wire:
        if (earlier := _outcome(wire, round_id)) is not None:
            call.out.note(f"round {round_id} was started before; this is what became of it")
            return _finish(call, wire, earlier)
        order = decode_order(RoundStart, fill_policy(wire, given))
        subscribe_round(wire, round_id)
        with call.goes_on(f"round watch {round_id}", None):
            end = round_end(
                wire,
                call.out,
                round_id,
                call.timeout_s,
                order=lambda: wire.publish(ROUND_START.template, order),
                accepted_only=detach,
            )
        if isinstance(end, RoundComplete):
            return _finish(call, wire, end)
    call.out.result(end.model_dump(mode="json", exclude_none=True), state_text(end))
    return 0


@group.command("watch")
@click.argument("round_id")
@remote
def watch(call: Call, round_id: str) -> int:
    """Follow round ROUND_ID until it has ended."""
    require_id("round", round_id)
    with call.wire() as wire:
        subscribe_round(wire, round_id)
        with call.known("round", round_id):
            end = round_end(wire, call.out, round_id, call.known_within_s)
        assert isinstance(end, RoundComplete)
        return _finish(call, wire, end)


@group.command("list")
@remote
def list_(call: Call) -> None:
    """Show the rounds that the broker still knows of."""
    with call.wire() as wire:
        rows = round_rows(wire)
        received = wire.retained(COORDINATOR_STATE.template)
    call.out.table(
        ("round", "state", "updates", "model", "seconds", "message"),
        rows,
        empty="no round yet; `roost round start` starts one",
    )
    tell_if_cut(call, rows)
    coordinator = read(COORDINATOR_STATE, received, CoordinatorState)
    if coordinator is not None and coordinator.last_refusal is not None:
        call.out.note(f"the last refusal: {coordinator.last_refusal}")


@group.command("show")
@click.argument("round_id")
@remote
def show(call: Call, round_id: str) -> None:
    """Show all that is known of round ROUND_ID."""
    require_id("round", round_id)
    with call.wire() as wire:
        received = wire.retained(ROUND_STATE.format(round_id=round_id))
        state = read(ROUND_STATE, received, RoundState)
        complete = _outcome(wire, round_id)
        if state is None and complete is None:
            raise CliError(
                f"nothing is known of round {round_id}; `roost round list` shows the others"
            )
        if state is not None:
            said = state_text(state, message=complete is None)
            call.out.result(state.model_dump(mode="json", exclude_none=True), said)
            for reason, count in sorted(state.refusals.items()):
                call.out.line(f"  refused: {reason}, {count} times")
        if complete is not None:
            _finish(call, wire, complete)
        elif state is not None:
            for line in fault_lines(wire, round_id, faults_of(state)):
                call.out.line(line)


def _outcome(wire: Wire, round_id: str) -> RoundComplete | None:
    received = wire.retained(ROUND_COMPLETE.format(round_id=round_id))
    return read(ROUND_COMPLETE, received, RoundComplete)


def _finish(call: Call, wire: Wire, complete: RoundComplete) -> int:
    faults = fault_lines(wire, complete.round_id, faults_of(complete))
    said = complete_text(complete, faults)
    call.out.result(complete.model_dump(mode="json", exclude_none=True), said)
    return 0 if complete.outcome is RoundStatus.COMPLETED else 1
