"""What the demo does, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from roost.cli.architectures import accuracy
from roost.cli.background import running_roost
from roost.cli.broker import BrokerPlan, parse_url
from roost.cli.broker.embedded import LACKS
from roost.cli.digits import Split
from roost.cli.digits_data import MOUNT, TEST_SPLIT, deal_digits
from roost.cli.errors import CliError, UsageProblem
from roost.cli.follow import complete_text, experiment_end, subscribe_experiment
from roost.cli.local import DEFAULT_PORT
from roost.cli.models import find_version, fresh_model, publish_first
from roost.cli.orders import fresh_id
from roost.cli.output import Output
from roost.cli.ports import free_port, holder_of, is_open
from roost.cli.state import StateDir
from roost.cli.views import model_index
from roost.cli.welcome import MLP_HYPERPARAMS, first_steps, own_name, state_option
from roost.cli.wire_client import Wire, read
from roost.protocol.round.messages import (
    DEFAULT_MODEL_NAME,
    ExperimentStart,
    ExperimentState,
    ExperimentStatus,
    RoundComplete,
)
from roost.protocol.round.model import parse_model
from roost.protocol.round.topics import EXPERIMENT_START, EXPERIMENT_STATE

__all__ = ["ROUNDS", "TARGET", "choose_port", "run_demo"]

ROUNDS = 15
TARGET = 0.95
PROPLETS = 5
LAYERS = [64, 32, 10]
SEED = 0
_ID = "demo-v"
_ROUND_S = 120.0
_FETCH_S = 20.0


def run_demo(out: Output, state: StateDir, *, rounds: int, port: int | None, broker: str) -> int:
    """Run the demo from data to last line.

    Args:
        out: where to tell.
        state: the folder that keeps everything.
        rounds: how many.
        port: loopback port of the broker; None for a free one.
        broker: `auto`, `embedded` or `mosquitto`.

    Returns:
        0 if the last model reached the target.

    Raises:
        CliError: something did not work; the message says what.
    """
    if (pid := state.running_pid()) is not None:
        raise UsageProblem(
            f"Roost already runs on {state.root} (pid {pid}): end it with Ctrl-C there, or give "
            "the demo a folder of its own with --state"
        )
    test = _prepare_data(out, state)
    options = ["--proplets", str(PROPLETS), "--broker", broker]
    with running_roost(state, "--port", str(port or choose_port(out, state)), *options) as roost:
        roost.on_ended = lambda event: out.note(_ended(event, state))
        out.status("starting broker, manager, model server, coordinator and five proplets …")
        found = roost.ready(state)
        plan = _plan(state)
        out.line(f"Everything runs ({plan.kind} broker on port {plan.port}; logs in {state.logs}).")
        if plan.about:
            out.line(plan.about)
        with Wire.connect(plan.url) as wire:
            _prepare_model(out, wire)
            last = _learn(out, wire, test, _course(out, wire, rounds, found))
    return _conclude(out, state, plan, found, last)


def _prepare_data(out: Output, state: StateDir) -> Split:
    """Deal the digits unless that was done before; the test split."""
    names = [f"proplet-{n}" for n in range(1, PROPLETS + 1)]
    held_back = state.held_back(TEST_SPLIT)
    given = [name for name in names if (state.mount(name, MOUNT) / "x.npy").exists()]
    if not (held_back / "x.npy").exists() or len(given) < PROPLETS:
        if given:
            raise UsageProblem(
                f"{', '.join(given)} in {state.root} have other data than the demo's, which it "
                "will not replace: give the demo a folder of its own with --state"
            )
        rows, tests = deal_digits(state, names, SEED)
        out.line(f"Each proplet gets its own handwritten digits; {tests} more are kept for tests.")
        for row in rows:
            out.line(f"  {row['proplet']}: {row['samples']:>3} samples, most of {row['most_of']}")
    return Split(np.load(held_back / "x.npy"), np.load(held_back / "y.npy"))


def choose_port(out: Output, state: StateDir) -> int:
    """The port used last, the usual one, or else a free one; says so if it is another."""
    last = state.read_instance()
    wanted = last.port if last and last.kind != "external" else DEFAULT_PORT
    if not is_open("127.0.0.1", wanted):
        return wanted
    port = DEFAULT_PORT if not is_open("127.0.0.1", DEFAULT_PORT) else free_port()
    who = holder_of(wanted) or "another program"
    out.note(f"Port {wanted} is in use by {who}; this demo uses {port}, and `roost up` will too.")
    return port


def _plan(state: StateDir) -> BrokerPlan:
    """The broker that the background Roost has chosen."""
    instance = state.read_instance()
    assert instance is not None
    _, host, port = parse_url(instance.broker)
    about = f"The embedded broker lacks: {LACKS}." if instance.kind == "embedded" else ""
    return BrokerPlan(instance.kind, instance.broker, host, port, (), about)


def _prepare_model(out: Output, wire: Wire) -> None:
    """Publish version 0, or go on from what an earlier demo has learned."""
    index = model_index(wire)
    if index is not None and DEFAULT_MODEL_NAME in index.models:
        newest = find_version(wire, DEFAULT_MODEL_NAME, "latest")
        out.line(
            f"This folder holds {newest.topic} from before: learning goes on from there. "
            "(A fresh start: `make clean`, or --state with another folder.)"
        )
        return
    version = publish_first(wire, DEFAULT_MODEL_NAME, fresh_model("mlp", LAYERS, SEED), _FETCH_S)
    out.line(f"{version.topic}: a network of 64-32-10 that has learned nothing.")


@dataclass(frozen=True)
class _Course:
    """The experiment that the demo watches.

    Attributes:
        experiment_id: its id.
        rounds: how many it has.
        done: how many of them were over before.
        order: starts it; None if it was running already.
    """

    experiment_id: str
    rounds: int
    done: int = 0
    order: ExperimentStart | None = None


def _course(out: Output, wire: Wire, rounds: int, found: Mapping[str, Any]) -> _Course:
    """An experiment from the newest model, or the one that an interrupted demo left running."""
    received = wire.collect(EXPERIMENT_STATE.filter)
    known = [s for r in received if (s := read(EXPERIMENT_STATE, r, ExperimentState))]
    for state in known:
        if state.experiment_id.startswith(_ID) and not state.state.final:
            out.line("An earlier demo was interrupted; it goes on.")
            return _Course(state.experiment_id, state.rounds, state.rounds_completed)
    base = find_version(wire, DEFAULT_MODEL_NAME, "latest")
    # The guest draws its random numbers by round id: with the same id, the same accuracies.
    name = f"{_ID}{base.version}"
    if name in {state.experiment_id for state in known}:
        name = fresh_id(name)
    order = ExperimentStart(
        experiment_id=name,
        rounds=rounds,
        model_uri=base.topic,
        task_wasm_image=found["image"],
        participants=tuple(found["proplets"]),
        hyperparams=dict(MLP_HYPERPARAMS),
        k_of_n=len(found["proplets"]),
        timeout_s=_ROUND_S,
    )
    return _Course(name, rounds, 0, order)


def _learn(out: Output, wire: Wire, test: Split, course: _Course) -> tuple[float, str]:
    """Watch the experiment, a line for each round; the last accuracy and model topic.

    Raises:
        CliError: a round or the experiment failed.
    """
    order = course.order

    def on_round(complete: RoundComplete) -> None:
        number = int(complete.round_id.rpartition(":")[2])
        if number <= course.done:  # retained, from before the interruption
            return
        if complete.model_topic is None:
            raise CliError(complete_text(complete))
        _tell_round(out, complete, number, course, _measure(wire, complete.model_topic, test))

    def on_state(state: ExperimentState) -> None:
        if not state.state.final:
            number = state.rounds_completed + 1
            out.status(f"round {number:>2} of {state.rounds}: five proplets are training …")

    subscribe_experiment(wire, course.experiment_id)
    end = experiment_end(
        wire,
        course.experiment_id,
        _FETCH_S,
        on_round,
        on_state,
        order=(lambda: wire.publish(EXPERIMENT_START.template, order)) if order else None,
        quiet_s=_ROUND_S + _FETCH_S,
    )
    if end.state is not ExperimentStatus.COMPLETED or end.model_topic is None:
        raise CliError(f"experiment {end.experiment_id} {end.state}: {end.message}")
    return _measure(wire, end.model_topic, test), end.model_topic


def _tell_round(
    out: Output, complete: RoundComplete, number: int, course: _Course, measured: float
) -> None:
    out.result(
        {
            "event": "round",
            "round": number,
            "round_id": complete.round_id,
            "model": complete.model_topic,
            "accuracy": measured,
            "updates": complete.updates,
            "seconds": complete.duration_s,
        },
        f"round {number:>2} of {course.rounds}   accuracy {measured:6.1%}   "
        f"{complete.updates} of {PROPLETS} updates   {complete.duration_s:.1f} s",
    )


def _measure(wire: Wire, topic: str, test: Split) -> float:
    """Accuracy on the test split, from the bytes that the model's topic holds."""
    return accuracy(parse_model(wire.fetch(topic, _FETCH_S)).tensors, test.x, test.y)


def _conclude(
    out: Output,
    state: StateDir,
    plan: BrokerPlan,
    found: Mapping[str, Any],
    last: tuple[float, str],
) -> int:
    measured, model = last
    good = measured >= TARGET
    verdict = "done" if good else "missed"
    out.result(
        {"event": "finished", "accuracy": measured, "target": TARGET, "model": model},
        f"\n{measured:.1%} of the test digits are recognised, the goal was {TARGET:.0%}: {verdict}",
    )
    go_on = f"{own_name()} up{state_option(state)}"
    out.line(f"\nThe state stays. Go on with\n  {go_on}\nand then, in another terminal:")
    for line in first_steps(plan, {**found, "model": model}, state):
        out.line(line)
    return 0 if good else 1


def _ended(event: Mapping[str, Any], state: StateDir) -> str:
    name = event["service"]
    return f"{name} ended with {event['code']} and is started again: see {state.logs / name}.log"
