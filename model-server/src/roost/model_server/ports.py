"""What the model server's shell needs of the outside; real ones in adapters, fakes in tests."""

from pathlib import Path
from typing import Protocol

from roost.chassis.received import Received
from roost.wire.blob import Manifest


class Fetcher(Protocol):
    """Fetches retained topics and blobs."""

    def fetch_payload(self, topic: str, timeout_s: float, into: Path) -> Received:
        """Write what a topic holds, inline or as a blob, to a file."""

    def fetch_blob(self, manifest: Manifest, timeout_s: float, into: Path) -> None:
        """Write a blob's verified bytes to a file."""
