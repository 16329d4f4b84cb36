"""`roost experiment`: many rounds in a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from roost.cli.faults import fault_lines, faults_of
from roost.cli.follow import complete_text, experiment_end, subscribe_experiment
from roost.cli.options import Call, policy_options, remote, require_id
from roost.cli.orders import decode_order, fill_policy, fresh_id, merge
from roost.cli.views import Row, tell_if_cut
from roost.cli.wire_client import Wire, read
from roost.protocol.round.messages import (
    ExperimentStart,
    ExperimentState,
    ExperimentStatus,
    ExperimentStop,
    RoundComplete,
)
from roost.protocol.round.topics import EXPERIMENT_START, EXPERIMENT_STATE, EXPERIMENT_STOP

__all__ = ["group"]


@click.group(name="experiment")
def group() -> None:
    """Many rounds in a row, with the same participants."""


@group.command("start")
@click.option("--id", "experiment_id", help="Used once for ever; made up by default.")
@click.option("--rounds", type=click.IntRange(min=1), help="How many rounds.  [default: 10]")
@policy_options
@click.option("--detach", is_flag=True, help="Return once the coordinator has answered.")
@remote
def start(call: Call, detach: bool, file: Path | None, **options: Any) -> int:
    """Start an experiment and watch it to its end."""
    given = merge(file, options)
    given.setdefault("rounds", 10)
    experiment_id = require_id("experiment", given.setdefault("experiment_id", fresh_id("e")))
    with call.wire() as wire:
        order = decode_order(ExperimentStart, fill_policy(wire, given))
        subscribe_experiment(wire, experiment_id)
        with call.goes_on(f"experiment watch {experiment_id}", f"experiment stop {experiment_id}"):
            return _follow(
                call,
                wire,
                experiment_id,
                order=lambda: wire.publish(EXPERIMENT_START.template, order),
                detach=detach,
            )


@group.command("watch")
@click.argument("experiment_id")
@remote
def watch(call: Call, experiment_id: str) -> int:
    """Follow experiment EXPERIMENT_ID until it has ended."""
    require_id("experiment", experiment_id)
    with call.wire() as wire:
        subscribe_experiment(wire, experiment_id)
        with call.known("experiment", experiment_id):
            return _follow(call, wire, experiment_id, within_s=call.known_within_s)


@group.command("list")
@remote
def list_(call: Call) -> None:
    """Show the experiments that the broker still knows of."""
    with call.wire() as wire:
        found = wire.collect(EXPERIMENT_STATE.filter)
    states = [s for r in found if (s := read(EXPERIMENT_STATE, r, ExperimentState)) is not None]
    rows: list[Row] = [
        {"experiment": s.experiment_id, **s.model_dump(mode="json", exclude={"experiment_id"})}
        for s in states
    ]
    call.out.table(
        ("experiment", "state", "rounds_completed", "rounds", "model_topic", "message"),
        rows,
        empty="no experiment yet; `roost experiment start` starts one",
    )
    tell_if_cut(call, rows)


@group.command("stop")
@click.argument("experiment_id")
@click.option("--reason", default="stopped", help="Why; shown in its state.")
@remote
def stop(call: Call, experiment_id: str, reason: str) -> int:
    """End experiment EXPERIMENT_ID after the round that is running."""
    require_id("experiment", experiment_id)
    topic = EXPERIMENT_STATE.format(experiment_id=experiment_id)
    with call.wire() as wire:
        wire.publish(
            EXPERIMENT_STOP.format(experiment_id=experiment_id), ExperimentStop(reason=reason)
        )
        wire.subscribe(topic)
        received = wire.await_message(
            lambda r: (
                (s := read(EXPERIMENT_STATE, r, ExperimentState)) is not None
                and s.state is not ExperimentStatus.RUNNING
            ),
            call.timeout_s,
            f"experiment {experiment_id} did not say that it stops",
        )
    state = read(EXPERIMENT_STATE, received, ExperimentState)
    assert state is not None
    call.out.result(state.model_dump(mode="json", exclude_none=True), _text(state))
    return 0


def _follow(
    call: Call,
    wire: Wire,
    experiment_id: str,
    *,
    order: Callable[[], None] | None = None,
    detach: bool = False,
    within_s: float | None = None,
) -> int:
    """Watch an experiment: a line for each round, a status in between."""

    def on_round(complete: RoundComplete) -> None:
        faults = fault_lines(wire, complete.round_id, faults_of(complete))
        said = complete_text(complete, faults)
        call.out.result(complete.model_dump(mode="json", exclude_none=True), said)

    def on_state(state: ExperimentState) -> None:
        call.out.status(_text(state))

    end = experiment_end(
        wire,
        experiment_id,
        within_s or call.timeout_s,
        on_round,
        on_state,
        order=order,
        accepted_only=detach,
    )
    call.out.result(end.model_dump(mode="json", exclude_none=True), _text(end))
    return 1 if end.state is ExperimentStatus.FAILED else 0


def _text(state: ExperimentState) -> str:
    done = f"{state.rounds_completed} of {state.rounds} rounds"
    text = f"experiment {state.experiment_id}: {state.state}, {done}"
    if state.current_round is not None and not state.state.final:
        text += f", now {state.current_round}"
    return f"{text}, {state.message}" if state.message else text
