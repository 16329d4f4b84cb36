"""The coordinator's adapters over a folder and an in-memory broker."""

import itertools
from pathlib import Path
from typing import Any

from roost.chassis.blobs import manifest_of, offer
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.testing import MemoryBroker
from roost.chassis.transfer import Fetcher
from roost.coordinator.adapters.decode import Decode
from roost.coordinator.adapters.models import Models
from roost.coordinator.adapters.performers import Performers
from roost.coordinator.adapters.spool import Spool
from roost.wire.blob import MANIFEST_CONTENT_TYPE, Manifest


class Bench:
    """The adapters over a folder and an in-memory broker."""

    def __init__(self, folder: Path) -> None:
        counter = itertools.count()
        self.broker = MemoryBroker()
        session = self.broker.session()
        session.start()
        self.spool = Spool(folder / "spool", lambda: str(next(counter)))
        self.models = Models(folder / "models")
        self.performers = Performers(
            session, Fetcher(session), self.spool, self.models, lambda: 7.0
        )
        self.decode = Decode(self.spool)
        self.folder = folder

    def perform(self, effect: Any) -> list[Any]:
        """Carry one effect out."""
        return list(self.performers.table()[type(effect)](effect) or ())

    def retain(self, topic: str, payload: bytes, owner: str | None = None) -> None:
        """Keep a payload on a topic, as a blob if it has an owner."""
        if owner is None:
            self.broker.route(Publish(topic, payload, retain=True))
            return
        manifest = self.blob(payload, owner)
        content_type = MANIFEST_CONTENT_TYPE
        self.broker.route(Publish(topic, manifest.encode(), retain=True, content_type=content_type))

    def blob(self, payload: bytes, owner: str) -> Manifest:
        """Offer a blob."""
        path = self.folder / "blob"
        path.write_bytes(payload)
        manifest = manifest_of(owner, path)
        for message in offer(manifest, path):
            self.broker.route(message)
        return manifest

    def kept_models(self) -> list[str]:
        """Return the names of the models that are kept."""
        return [path.name for path in (self.folder / "models").iterdir() if path.is_file()]

    def spooled(self) -> list[Path]:
        """Return all files of the spool."""
        return [path for path in (self.folder / "spool").rglob("*") if path.is_file()]


def said(bench: Bench, topic: str, payload: bytes = b"", **more: Any) -> Any:
    """Decode a message."""
    return bench.decode(Received(topic, payload, **more), 5.0)
