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
from roost.protocol.round.topics import COORDINATOR_STATE, MODEL_INDEX
from roost.protocol.task.topics import WORKLOADS_STATE

__all__ = ["IMAGES", "PROPLETS", "main"]

#: Environment: the folder of images, and the proplets to wait for, separated by commas.
IMAGES = "ROOST_DESK_IMAGES"
PROPLETS = "ROOST_DESK_PROPLETS"
_READY_WAIT_S = 60.0
_SETTLE_S = 2.0
_LOOK_EVERY_S = 0.2
_SERVICES = {
    WORKLOADS_STATE.template: "manager",
    COORDINATOR_STATE.template: "coordinator",
    MODEL_INDEX.template: "model-server",
}


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
    """What there is, once every service has told its state, or time is up."""
    start = time.monotonic()
    wire.subscribe(*_SERVICES)
    told: set[str] = set()
    while True:
        told |= _heard(wire, anyway=time.monotonic() - start > _SETTLE_S)
        online = online_proplets(wire)
        missing = [service for topic, service in _SERVICES.items() if topic not in told]
        missing += [name for name in expected if name not in online]
        if not missing or time.monotonic() - start > _READY_WAIT_S:
            break
    wire.unsubscribe(*_SERVICES)
    index = model_index(wire)
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


def _heard(wire: Wire, *, anyway: bool) -> set[str]:
    """The services' topics on which something came within a moment.

    What is retained may be from an earlier run: it counts if nothing newer came for a while, since
    such a service has a session in which the broker keeps orders for it. A coordinator that never
    had anything to tell may be silent.
    """
    topics = set()
    deadline = time.monotonic() + _LOOK_EVERY_S
    while (received := wire.next(deadline - time.monotonic())) is not None:
        if not received.retain:
            topics.add(received.topic)
    if anyway:
        topics |= {topic for topic in _SERVICES if wire.retained(topic) is not None}
        topics.add(COORDINATOR_STATE.template)
    return topics


def _unused(taken: set[object]) -> str:
    """The first of r-0001, r-0002 … that no known round has."""
    return next(name for n in count(1) if (name := f"r-{n:04d}") not in taken)


if __name__ == "__main__":
    main()
