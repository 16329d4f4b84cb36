"""`roost model`: make, publish, list, fetch, roll back and adopt model versions."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from roost.cli.errors import UsageProblem
from roost.cli.models import (
    adopt_latest,
    await_version,
    find_version,
    fresh_model,
    line_of,
    publish_first,
    publish_new,
)
from roost.cli.options import Call, remote
from roost.cli.views import Row, model_index
from roost.protocol.round.messages import (
    DEFAULT_MODEL_NAME,
    MODEL_NAME_PATTERN,
    ModelIndex,
    Rollback,
)
from roost.protocol.round.model import parse_model
from roost.protocol.round.topics import MODEL_INDEX, MODEL_ROLLBACK
from roost.wire.refusal import Refused

__all__ = ["group"]

MIN_LAYERS, MAX_LAYERS = 2, 64
MAX_WIDTH = 100_000

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(name="model")
def group() -> None:
    """Make, publish, list, fetch, roll back and adopt model versions."""


def _name_option(command: Command) -> Command:
    return click.option(
        "--name", default=DEFAULT_MODEL_NAME, show_default=True, help="Model name."
    )(command)


@group.command("init")
@click.option("--arch", type=click.Choice(["mlp", "linear"]), required=True, help="What kind.")
@click.option("--layers", required=True, metavar="64,32,10", help="Sizes from input to output.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of an MLP's weights."
)
@_name_option
@remote
def init(call: Call, arch: str, layers: str, seed: int, name: str) -> int:
    """Publish version 0 of a new model.

    An mlp is a safetensors file with Glorot-uniform weights; linear (two layers) is the JSON
    {"w","b"} of zeros.
    """
    _check_name(name)
    model = fresh_model(arch, parse_layers(arch, layers), seed)
    with call.wire() as wire:
        version = publish_first(wire, name, model, call.timeout_s)
    call.out.result(
        version.model_dump(mode="json"), f"{version.topic} is there ({version.size} bytes)"
    )
    return 0


@group.command("push")
@click.argument("file", type=click.Path(path_type=Path))
@_name_option
@remote
def push(call: Call, file: Path, name: str) -> int:
    """Publish FILE, safetensors or JSON {"w","b"}, as version 0 of a new model."""
    _check_name(name)
    try:
        model = parse_model(file.read_bytes())
    except OSError as problem:
        raise UsageProblem(f"cannot read {file}: {problem.strerror}") from problem
    except Refused as problem:
        raise UsageProblem(f"{file} is no model: {problem}") from problem
    with call.wire() as wire:
        version = publish_new(wire, name, model, call.timeout_s)
    call.out.result(
        version.model_dump(mode="json"), f"{version.topic} is there ({version.size} bytes)"
    )
    return 0


@group.command("list")
@remote
def list_(call: Call) -> None:
    """Show all versions that the model server keeps."""
    with call.wire() as wire:
        index = model_index(wire) or ModelIndex()
    rows = _rows(index)
    call.out.table(
        ("model", "version", "latest", "form", "size", "parent", "from", "participants report"),
        rows if call.out.as_json else [_in_words(row) for row in rows],
        empty="no model yet; `roost model init --arch mlp --layers 64,32,10` makes one",
    )
    if index.refusals:
        call.out.note(f"the last refusal: {index.refusals[-1].reason}")


@group.command("pull")
@click.argument("which", default="latest")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File; `-` for stdout.")
@_name_option
@remote
def pull(call: Call, which: str, output: Path | None, name: str) -> None:
    """Write a model to a file: WHICH is a version, a topic, or `latest`."""
    with call.wire() as wire:
        version = find_version(wire, name, which)
        payload = wire.fetch(version.topic, call.timeout_s)
    suffix = "json" if version.form == "json" else "safetensors"
    file = output or Path(f"{version.topic.rpartition('/')[2]}.{suffix}")
    if str(file) == "-":
        sys.stdout.buffer.write(payload)
        return
    try:
        file.write_bytes(payload)
    except OSError as problem:
        raise UsageProblem(f"cannot write {file}: {problem.strerror}") from problem
    call.out.result(
        {"file": str(file), "size": len(payload), **version.model_dump(mode="json")},
        f"{version.topic}: {len(payload)} bytes in {file}",
    )


@group.command("rollback")
@click.argument("version", type=click.IntRange(min=0))
@_name_option
@remote
def rollback(call: Call, version: int, name: str) -> int:
    """Make a new version with the content of VERSION; nothing if it is the newest already."""
    with call.wire() as wire:
        old = find_version(wire, name, str(version))
        newest = find_version(wire, name, "latest")
        if newest.digest == old.digest:
            said = f"{newest.topic} has that content already"
            call.out.result(newest.model_dump(mode="json"), said)
            return 0
        wire.subscribe(MODEL_INDEX.template)
        wire.publish(MODEL_ROLLBACK.template, Rollback(name=name, version=version))
        made = await_version(
            wire,
            lambda index: next(
                (v for v in line_of(index, name) if v.version > newest.version), None
            ),
            call.timeout_s,
        )
    call.out.result(made.model_dump(mode="json"), f"{made.topic} has the content of {old.topic}")
    return 0


@group.command("adopt")
@click.argument("name", default=DEFAULT_MODEL_NAME)
@remote
def adopt(call: Call, name: str) -> int:
    """Go on from NAME's newest version, although the coordinator does not know who made it.

    That is so when its own state is gone, or when it is another one than before.
    """
    with call.wire() as wire:
        newest = find_version(wire, name, "latest")
        is_new = adopt_latest(wire, newest, name, call.timeout_s)
    said = "rounds may go on from it" if is_new else "the coordinator knows it already"
    call.out.result(newest.model_dump(mode="json"), f"{newest.topic}: {said}")
    return 0


def parse_layers(arch: str, text: str) -> list[int]:
    """Sizes from input to output.

    Raises:
        UsageProblem: the text is no list of sizes, or not one for this architecture.
    """
    try:
        layers = [int(size) for size in text.split(",")]
    except ValueError as problem:
        raise UsageProblem(
            f"--layers {text!r} is no list of whole numbers such as 64,32,10"
        ) from problem
    if not MIN_LAYERS <= len(layers) <= MAX_LAYERS or not all(
        0 < size <= MAX_WIDTH for size in layers
    ):
        raise UsageProblem(
            f"--layers {text!r}: {MIN_LAYERS} to {MAX_LAYERS} sizes up to {MAX_WIDTH}, input first"
        )
    if arch == "linear" and len(layers) != MIN_LAYERS:
        raise UsageProblem(f"--layers {text!r}: a linear model has an input and an output, no more")
    return layers


def _rows(index: ModelIndex) -> list[Row]:
    return [
        {
            "model": name,
            "version": v.version,
            "latest": v.version == line.latest,
            "form": v.form,
            "size": v.size,
            "parent": v.parent,
            "from": v.publish_id,
            "metrics": dict(sorted(v.metrics.items())),
            "topic": v.topic,
            "digest": v.digest,
        }
        for name, line in sorted(index.models.items())
        for v in line.versions
    ]


def _in_words(row: Row) -> Row:
    """A row as people read it; participants measure on data of their own, hence the column."""
    metrics = row["metrics"]
    assert isinstance(metrics, dict)
    return {
        **row,
        "latest": "*" if row["latest"] else "",
        "participants report": ", ".join(f"{key} {value:.4f}" for key, value in metrics.items()),
    }


def _check_name(name: str) -> None:
    if not re.fullmatch(MODEL_NAME_PATTERN, name):
        raise UsageProblem(
            f"{name!r} cannot be a model name: words of letters, digits and dashes, joined by _"
        )
