"""`roost image push`: offer a Wasm file to proplets, over MQTT or in a registry."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
from roost.chassis.blobs import file_sha256
from roost.cli.errors import UsageProblem
from roost.cli.oci_push import push_oci
from roost.cli.options import Call, remote
from roost.cli.wire_client import image_reference

__all__ = ["check_module", "group"]

_MODULE_MAGIC = b"\0asm\x01\0\0\0"
_COMPONENT_MAGIC = b"\0asm\x0d\0\x01\0"


@click.group(name="image")
def group() -> None:
    """Offer a Wasm file to proplets."""


@group.command("push")
@click.argument("app", type=click.Path(path_type=Path))
@click.argument("target", required=False, metavar="[oci://HOST/NAME:TAG]")
@click.option("--plain-http", is_flag=True, help="The registry speaks no TLS.")
@remote
def push(call: Call, app: Path, target: str | None, plain_http: bool) -> None:
    """Offer APP as a blob over MQTT, or push it to an OCI registry.

    A blob is also copied into the state folder, so that `roost up` offers it again.
    """
    check_module(app)
    if target is not None:
        reference = push_oci(app, target, call.timeout_s, plain_http=plain_http)
    else:
        with call.wire() as wire:
            reference = image_reference(wire.offer(app).sha256)
        _keep(app, call.state.images)
    call.out.result({"image": reference, "file": str(app), "size": app.stat().st_size}, reference)


def check_module(app: Path) -> None:
    """Refuse what cannot be a guest.

    Raises:
        UsageProblem: it is no core Wasm module.
    """
    try:
        with app.open("rb") as file:
            head = file.read(len(_MODULE_MAGIC))
    except OSError as problem:
        raise UsageProblem(f"cannot read {app}: {problem.strerror}") from problem
    if head == _COMPONENT_MAGIC:
        raise UsageProblem(
            f"{app} is a Wasm component; proplets run core modules: build it for wasm32-wasi "
            "(preview 1)"
        )
    if head != _MODULE_MAGIC:
        raise UsageProblem(f"{app} is no Wasm module: compile it for wasm32-wasi first")


def _keep(app: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{app.stem}-{file_sha256(app)[:12]}.wasm"
    if not kept.exists():
        partial = kept.with_suffix(".partial")
        shutil.copyfile(app, partial)
        partial.replace(kept)
