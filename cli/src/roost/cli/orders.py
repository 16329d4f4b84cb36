"""Making an order out of options and files, with what was not said filled in."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any, TypeVar

from roost.cli.errors import UsageProblem
from roost.cli.options import require_id
from roost.cli.views import model_index, online_proplets
from roost.cli.wire_client import Wire, image_reference
from roost.client_wasm import guest_digest
from roost.protocol.round.messages import DEFAULT_MODEL_NAME
from roost.protocol.round.topics import MODEL
from roost.wire.message import Message
from roost.wire.refusal import Refused

__all__ = ["decode_order", "fill_policy", "fresh_id", "merge", "read_json"]

Order = TypeVar("Order", bound=Message)
Fields = dict[str, Any]


def fresh_id(prefix: str) -> str:
    """An id nobody has used: the time of day and a little chance."""
    return f"{prefix}-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def read_json(file: Path) -> Fields:
    """A JSON object from a file.

    Raises:
        UsageProblem: there is none.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageProblem(f"cannot read {file}: {problem}") from problem
    return parse_json(str(file), text)


def parse_json(where: str, text: str) -> Fields:
    """A JSON object.

    Raises:
        UsageProblem: the text is none.
    """
    try:
        found = json.loads(text)
    except ValueError as problem:
        raise UsageProblem(f"{where} is not JSON: {problem}") from problem
    if not isinstance(found, dict):
        raise UsageProblem(f'{where} must be a JSON object, such as {{"lr":0.05}}')
    return found


def merge(file: Path | None, options: Fields) -> Fields:
    """What `--file` and the options say; an option that was given overrides the file.

    `participants` becomes a list, `hyperparams` an object.

    Raises:
        UsageProblem: the file, the JSON or an id cannot be used.
    """
    said = {name: value for name, value in options.items() if value is not None}
    if "hyperparams" in said:
        said["hyperparams"] = parse_json("--hyperparams", said["hyperparams"])
    if "participants" in said:
        names = [name.strip() for name in said["participants"].split(",")]
        said["participants"] = [require_id("proplet", name) for name in names if name]
    return {**(read_json(file) if file is not None else {}), **said}


def fill_policy(wire: Wire, given: Fields) -> Fields:
    """Model, image, participants and k, where they were not said.

    Raises:
        UsageProblem: none was named, and there is no model, or no proplet is online.
    """
    filled = dict(given)
    if "model_uri" not in filled:
        filled["model_uri"] = _newest_model(wire)
    if "task_wasm_image" not in filled:
        filled["task_wasm_image"] = image_reference(guest_digest())
    if "participants" not in filled:
        filled["participants"] = online_proplets(wire)
        if not filled["participants"]:
            raise UsageProblem("no proplet is online; name them with --participants, or start some")
    if isinstance(filled["participants"], list):
        filled.setdefault("k_of_n", len(filled["participants"]))
    return filled


def _newest_model(wire: Wire) -> str:
    index = model_index(wire)
    line = index.models.get(DEFAULT_MODEL_NAME) if index else None
    if line is None:
        raise UsageProblem(
            f"there is no {DEFAULT_MODEL_NAME} yet: make one with "
            "`roost model init --arch mlp --layers 64,32,10`, or name another with --model"
        )
    return MODEL.format(name=DEFAULT_MODEL_NAME, version=line.latest)


def decode_order(kind: type[Order], fields: Fields) -> Order:
    """The order that `fields` make, checked as its reader would.

    Raises:
        UsageProblem: they do not make one.
    """
    try:
        return kind.decode(json.dumps(fields).encode())
    except Refused as problem:
        raise UsageProblem(problem.detail) from problem
