"""The transport over this proplet's own connection."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from roost.chassis.effects import Publish
from roost.chassis.packets import packet_bytes
from roost.chassis.session import Session
from roost.chassis.transfer import Fetcher, send_all
from roost.proplet.errors import OutputRefused
from roost.wire.blob import MAX_BLOB_BYTES
from roost.wire.refusal import TOO_LARGE, Refused


@dataclass(frozen=True, slots=True)
class MqttTransport:
    """Payloads to and from the broker over one session."""

    session: Session
    fetcher: Fetcher

    def fetch_topic(self, topic: str, into: Path, timeout_s: float) -> None:
        """Write what a retained topic holds, inline or as a blob, to a file."""
        self.fetcher.fetch_payload(topic, timeout_s, into)

    def fetch_blob(
        self,
        owner: str,
        sha256: str,
        into: Path,
        timeout_s: float,
        max_bytes: int = MAX_BLOB_BYTES,
    ) -> None:
        """Write a blob to a file, verified."""
        manifest = self.fetcher.fetch_manifest(owner, sha256, timeout_s)
        if manifest.size > max_bytes:
            text = f"blob {owner}/{sha256} has {manifest.size} bytes, {max_bytes} are taken here"
            raise Refused(TOO_LARGE, text)
        self.fetcher.fetch_blob(manifest, timeout_s, into)

    def send(self, messages: Iterable[Publish], timeout_s: float) -> None:
        """Publish messages and return when the broker has them."""
        send_all(self.session, map(self._fitting, messages), timeout_s)

    def _fitting(self, message: Publish) -> Publish:
        limit = self.session.max_packet_bytes
        size = packet_bytes("", message)
        if limit is not None and size > limit:
            raise OutputRefused(f"{message.topic}: {size} bytes, the broker allows {limit}")
        return message
