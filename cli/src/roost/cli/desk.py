"""The operator's desk of a local Roost: `python -m roost.cli.desk`, run by `roost up`.

Offers the training guest and everything in the state folder's images/ as blobs, again after every
reconnect, because a broker may have forgotten them. Once the proplets are there it tells the
supervisor what a user can do next.
"""

from __future__ import annotations

import os
import queue
import time
from itertools import count
from pathlib import Path

from roost.chassis.logs import configure, get_logger
from roost.cli.errors import CliError
from roost.cli.report import report
from roost.cli.views import model_index, online_proplets, round_rows
from roost.cli.wire_client import Wire, image_reference
from roost.client_wasm import guest_digest, guest_path
from roost.protocol.round.messages import DEFAULT_MODEL_NAME

__all__ = ["IMAGES", "PROPLETS", "main"]

#: Environment: the folder of images, and the proplets to wait for, separated by commas.
IMAGES = "ROOST_DESK_IMAGES"
PROPLETS = "ROOST_DESK_PROPLETS"
_READY_WAIT_S = 20.0
_LOOK_EVERY_S = 0.2


def main() -> None:
    """Offer the images for as long as the process lives."""
    folder = Path(os.environ[IMAGES])
    expected = [name for name in os.environ[PROPLETS].split(",") if name]
    connections: queue.SimpleQueue[int] = queue.SimpleQueue()
    with Wire.connect(os.environ["ROOST_BROKER"]) as wire:
        configure("desk", "info", "console")
        wire.session.on_connected = connections.put
        _offer_all(wire, folder)
        report(_ready(wire, expected))
        while connections.get():
            _offer_all(wire, folder)


def _offer_all(wire: Wire, folder: Path) -> None:
    log = get_logger()
    for file in (guest_path(), *sorted(folder.glob("*.wasm"))):
        try:
            manifest = wire.offer(file)
        except (CliError, OSError) as problem:  # the next reconnect tries again
            log.warning("image.not_offered", file=file.name, problem=str(problem))
        else:
            log.info("image.offered", file=file.name, image=image_reference(manifest.sha256))


def _ready(wire: Wire, expected: list[str]) -> dict[str, object]:
    """What there is, once all expected proplets and the model index are there, or time is up."""
    deadline = time.monotonic() + _READY_WAIT_S
    while True:
        online = online_proplets(wire)
        index = model_index(wire)
        missing = [name for name in expected if name not in online]
        if (not missing and index is not None) or time.monotonic() > deadline:
            break
        time.sleep(_LOOK_EVERY_S)
    line = index.models.get(DEFAULT_MODEL_NAME) if index else None
    newest = max(line.versions, key=lambda v: v.version) if line and line.versions else None
    return {
        "image": image_reference(guest_digest()),
        "proplets": online,
        "missing": missing,
        "model": newest.topic if newest else None,
        "architecture": newest.architecture if newest else None,
        "round_id": _unused({row["round"] for row in round_rows(wire)}),
    }


def _unused(taken: set[object]) -> str:
    """The first of r-0001, r-0002 … that no known round has."""
    return next(name for n in count(1) if (name := f"r-{n:04d}") not in taken)


if __name__ == "__main__":
    main()
