"""What `roost up` and the demo tell a user to try next, ready to paste."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from roost.chassis.settings import BrokerSettings
from roost.cli.broker import BrokerPlan
from roost.cli.options import DEFAULT_STATE
from roost.cli.state import StateDir
from roost.protocol.round.messages import DEFAULT_MODEL_NAME
from roost.protocol.round.topics import MODEL, ROUND_COMPLETE, ROUND_START, ROUND_STATE

__all__ = ["MLP_HYPERPARAMS", "first_steps", "own_name", "round_message", "state_option"]

MLP_HYPERPARAMS: Mapping[str, object] = {
    "epochs": 3,
    "lr": 0.05,
    "batch_size": 10,
    "momentum": 0.9,
}


def own_name(cwd: Path | None = None) -> str:
    """How this user calls this program: `roost` where PATH has it, else its path."""
    here = Path(sys.executable).parent / "roost"
    found = shutil.which("roost")
    if found is not None and Path(found).samefile(here):
        return "roost"
    where = cwd or Path.cwd()
    return str(here.relative_to(where)) if here.is_relative_to(where) else str(here)


def round_message(
    round_id: str, model: str, image: str, participants: Sequence[str]
) -> dict[str, object]:
    """A round that everyone takes part in and nobody may miss."""
    return {
        "round_id": round_id,
        "model_uri": model,
        "task_wasm_image": image,
        "participants": list(participants),
        "hyperparams": dict(MLP_HYPERPARAMS),
        "k_of_n": len(participants),
        "timeout_s": 120,
    }


def state_option(state: StateDir) -> str:
    """` --state …`, as following commands need it; empty for the folder they take by default."""
    here = Path.cwd()
    if state.root == here / DEFAULT_STATE:
        return ""
    near = state.root.relative_to(here) if state.root.is_relative_to(here) else state.root
    return f" --state {shlex.quote(str(near))}"


def first_steps(plan: BrokerPlan, found: Mapping[str, object], state: StateDir) -> list[str]:
    """Lines to print once everything runs.

    Args:
        plan: the broker.
        found: the desk's report: image, proplets, model, round_id.
        state: the folder of the Roost that runs.
    """
    roost, at = own_name(), state_option(state)
    model, proplets = found["model"], found["proplets"]
    assert isinstance(proplets, list)
    to_broker = f"-h {plan.host} -p {plan.port} -V 5"
    prefix = BrokerSettings(broker=plan.url).topic_prefix
    first = MODEL.format(name=DEFAULT_MODEL_NAME, version=0)
    order = round_message(
        str(found["round_id"]), str(model or first), str(found["image"]), proplets
    )
    watched = " ".join(f"-t '{prefix}{row.filter}'" for row in (ROUND_STATE, ROUND_COMPLETE))
    text = shlex.quote(json.dumps(order, separators=(",", ":")))
    lines = [
        "",
        "Watch how rounds go (updates and models are on other topics, in binary):",
        f"  mosquitto_sub {to_broker} -v {watched}",
        "",
        *(_RUN_ANOTHER if model is not None else _make_first(roost, max(1, len(proplets)), at)),
        f"  mosquitto_pub {to_broker} -q 1 -t {prefix}{ROUND_START.template} -m {text}",
        "or, with a look at its progress:",
        f"  {roost} round start{at}",
    ]
    if shutil.which("mosquitto_pub") is None:
        lines.append("(mosquitto_pub and mosquitto_sub come with the package mosquitto-clients.)")
    if plan.v5_only:
        lines.append("(Keep -V 5: the embedded broker refuses MQTT 3.1.1.)")
    return [*lines, ""]


def _make_first(roost: str, proplets: int, at: str) -> list[str]:
    """How to come to a model, and to data for it."""
    return [
        "There is no model yet, and perhaps no data. Digits, and a network for them:",
        f"  {roost} data digits --proplets {proplets}{at}",
        f"  {roost} model init --arch mlp --layers 64,32,10{at}",
        "then this round can run:",
    ]


_RUN_ANOTHER = ["Run a round of your own (a round_id is used once):"]
