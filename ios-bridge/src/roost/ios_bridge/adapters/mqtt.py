"""The transport over the bridge's own connection."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from roost.chassis.effects import Publish
from roost.chassis.errors import FetchTimeout
from roost.chassis.packets import packet_bytes
from roost.chassis.session import Session
from roost.chassis.transfer import Fetcher, send_all
from roost.ios_bridge.errors import OutputRefused


@dataclass(frozen=True, slots=True)
class MqttTransport:
    """Payloads to and from the broker over one session."""

    session: Session
    fetcher: Fetcher

    def fetch_topic(self, topic: str, into: Path, timeout_s: float) -> None:
        """Write what a retained topic holds, inline or as a blob, to a file."""
        self.fetcher.fetch_payload(topic, timeout_s, into)

    def fetch_blob(self, owner: str, sha256: str, into: Path, timeout_s: float) -> None:
        """Write a blob to a file, verified."""
        manifest = self.fetcher.fetch_manifest(owner, sha256, timeout_s)
        self.fetcher.fetch_blob(manifest, timeout_s, into)

    def send(self, messages: Iterable[Publish], timeout_s: float) -> None:
        """Publish messages and return when the broker has them."""
        if not self.session.wait_connected(timeout_s):
            raise FetchTimeout(f"no broker within {timeout_s:g} s")
        send_all(self.session, map(self._fitting, messages), timeout_s)

    def _fitting(self, message: Publish) -> Publish:
        limit = self.session.max_packet_bytes
        size = packet_bytes("", message)
        if limit is not None and size > limit:
            raise OutputRefused(f"{message.topic}: {size} bytes, the broker allows {limit}")
        return message
