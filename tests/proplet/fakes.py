"""A transport that is a dictionary."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from roost.chassis.effects import Publish
from roost.chassis.errors import FetchTimeout


@dataclass
class FakeTransport:
    """Holds topics and blobs; keeps what is sent.

    Attributes:
        topics: Payloads by topic.
        blobs: Payloads by (owner, digest).
        sent: What was published, in order.
        problem: Raised by the next sending, once.
        fetched: What was asked for, in order.
    """

    topics: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    sent: list[Publish] = field(default_factory=list)
    problem: Exception | None = None
    fetched: list[str] = field(default_factory=list)

    def offer(self, owner: str, body: bytes) -> str:
        """Hold a blob and return its digest."""
        sha256 = hashlib.sha256(body).hexdigest()
        self.blobs[owner, sha256] = body
        return sha256

    def fetch_topic(self, topic: str, into: Path, timeout_s: float) -> None:
        """Write the topic's payload."""
        self.fetched.append(topic)
        if topic not in self.topics:
            raise FetchTimeout(f"nothing on {topic} within {timeout_s:g} s")
        into.write_bytes(self.topics[topic])

    def fetch_blob(
        self,
        owner: str,
        sha256: str,
        into: Path,
        timeout_s: float,
        max_bytes: int = 0,  # noqa: ARG002
    ) -> None:
        """Write the blob's bytes; their number is not looked at."""
        self.fetched.append(f"{owner}/{sha256}")
        if (owner, sha256) not in self.blobs:
            raise FetchTimeout(f"no blob {owner}/{sha256} within {timeout_s:g} s")
        into.write_bytes(self.blobs[owner, sha256])

    def send(self, messages: Iterable[Publish], timeout_s: float) -> None:  # noqa: ARG002
        """Keep the messages."""
        if self.problem is not None:
            problem, self.problem = self.problem, None
            raise problem
        self.sent += messages
