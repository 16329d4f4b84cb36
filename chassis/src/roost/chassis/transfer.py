"""Fetching retained topics and blobs, and sending many messages with few in flight."""

import contextlib
import hashlib
import os
import queue
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from roost.chassis.effects import Publish
from roost.chassis.errors import BlobCorrupt, BrokerAway, BrokerRefused, FetchTimeout
from roost.chassis.ports import SessionPort
from roost.chassis.received import Received
from roost.chassis.session import Token
from roost.wire.blob import BLOB_CHUNK, BLOB_MANIFEST, MANIFEST_CONTENT_TYPE, Manifest
from roost.wire.refusal import MALFORMED, Refused

SLOWEST_BYTES_S: Final = 32_768
CHUNK_GROUP: Final = 4
GROUPS_AHEAD: Final = 2
SEND_WINDOW: Final = 16

Inbox: TypeAlias = "queue.Queue[Received]"
Inboxes: TypeAlias = dict[str, Inbox]


class Fetcher:
    """Fetches retained messages by exact topic, over a session that others use too."""

    def __init__(self, session: SessionPort) -> None:
        self._session = session
        # Two locks: the network thread delivers under the second one alone, so a subscribe
        # that waits for the network thread cannot hold it up.
        self._subscribing = threading.Lock()
        self._lock = threading.Lock()
        self._inboxes: dict[str, list[Inbox]] = {}

    def _open(self, topics: Sequence[str]) -> Inboxes:
        """Subscribe to exact topics with one packet."""
        # Room for one: whoever floods the topic of a chunk fills no memory.
        inboxes: Inboxes = {topic: queue.Queue(maxsize=1) for topic in topics}
        with self._subscribing:
            with self._lock:
                for topic, inbox in inboxes.items():
                    self._inboxes.setdefault(topic, []).append(inbox)
            # Again even if subscribed: the broker then sends the retained message once more.
            self._session.subscribe(topics, self._deliver)
        return inboxes

    def _close(self, inboxes: Inboxes) -> None:
        with self._subscribing:
            with self._lock:
                for topic, inbox in inboxes.items():
                    self._inboxes[topic].remove(inbox)
                unused = [topic for topic in inboxes if not self._inboxes[topic]]
                for topic in unused:
                    del self._inboxes[topic]
            if unused:
                self._session.unsubscribe(unused)

    def _deliver(self, received: Received, token: Token) -> None:
        self._session.ack(token)
        with self._lock:
            inboxes = list(self._inboxes.get(received.topic, ()))
        for inbox in inboxes:
            with contextlib.suppress(queue.Full):
                inbox.put_nowait(received)

    def fetch_topic(self, topic: str, timeout_s: float) -> Received:
        """Return the message that the topic holds, or gets within the time.

        Raises:
            FetchTimeout: there was none.
        """
        inboxes = self._open([topic])
        try:
            return inboxes[topic].get(timeout=timeout_s)
        except queue.Empty:
            raise FetchTimeout(f"nothing on {topic} within {timeout_s:.1f} s") from None
        finally:
            self._close(inboxes)

    def fetch_manifest(self, owner: str, sha256: str, timeout_s: float) -> Manifest:
        """Return the manifest of a blob.

        Raises:
            FetchTimeout: it is not there.
            roost.wire.refusal.Refused: it is no manifest, or that of another blob.
        """
        topic = BLOB_MANIFEST.format(owner=owner, sha256=sha256)
        manifest = Manifest.decode(self.fetch_topic(topic, timeout_s).payload)
        if (manifest.owner, manifest.sha256) != (owner, sha256):
            text = f"{topic} holds the manifest of {manifest.owner}/{manifest.sha256}"
            raise Refused(MALFORMED, text)
        return manifest

    def fetch_payload(self, topic: str, timeout_s: float, into: Path) -> Received:
        """Write what a topic holds, inline or as a blob, to a file.

        Returns:
            The message itself; its payload is the manifest if it came as a blob.

        Raises:
            FetchTimeout: the topic or a chunk was not there.
            BlobCorrupt: the bytes do not have their digest.
            roost.wire.refusal.Refused: the manifest is none.
        """
        received = self.fetch_topic(topic, timeout_s)
        if received.content_type == MANIFEST_CONTENT_TYPE:
            self.fetch_blob(Manifest.decode(received.payload), timeout_s, into)
        else:
            into.write_bytes(received.payload)
        return received

    def fetch_blob(self, manifest: Manifest, timeout_s: float, into: Path) -> None:
        """Fetch a blob's chunks in small windows, verify them, and write the file at once.

        Args:
            manifest: Of the blob.
            timeout_s: How long to wait for any one chunk; all together may take this long
                beside what ``SLOWEST_BYTES_S`` takes.
            into: Written under a temporary name first, so it is whole or absent; a caller that
                promises to have it after a loss of power must fsync it.

        Raises:
            FetchTimeout: a chunk was not there, or all together came too slowly.
            BlobCorrupt: a chunk has not its size, or all together not their digest.
        """
        handle, name = tempfile.mkstemp(dir=into.parent, prefix=".blob-")
        try:
            with os.fdopen(handle, "wb") as file:
                self._copy_verified(manifest, timeout_s, file)
            Path(name).replace(into)
        except BaseException:
            Path(name).unlink()
            raise

    def _copy_verified(self, manifest: Manifest, timeout_s: float, file: BinaryIO) -> None:
        sha, left = hashlib.sha256(), manifest.size
        for chunk in self._chunks(manifest, timeout_s):
            wanted = min(manifest.chunk_bytes, left)
            if len(chunk) != wanted:
                raise _corrupt(manifest, f"a chunk has {len(chunk)} bytes instead of {wanted}")
            left -= wanted
            sha.update(chunk)
            file.write(chunk)
        if sha.hexdigest() != manifest.sha256:
            raise _corrupt(manifest, "the chunks do not have its digest")

    def _chunks(self, manifest: Manifest, timeout_s: float) -> Iterator[bytes]:
        """Yield the chunks in order; the next group is on its way while one is read."""
        end = time.monotonic() + timeout_s + manifest.size / SLOWEST_BYTES_S
        groups = _chunk_groups(manifest)
        opened: deque[Inboxes] = deque()
        try:
            while True:
                while len(opened) < GROUPS_AHEAD and (group := next(groups, None)):
                    opened.append(self._open(group))
                if not opened:
                    return
                for topic, inbox in opened[0].items():
                    yield _take_chunk(inbox, topic, min(timeout_s, end - time.monotonic()))
                self._close(opened.popleft())
        finally:
            for inboxes in opened:
                self._close(inboxes)


def _corrupt(manifest: Manifest, problem: str) -> BlobCorrupt:
    blob = f"blob {manifest.owner}/{manifest.sha256}"
    return BlobCorrupt(f"{blob}: {problem}; its owner must publish it again")


def _chunk_groups(manifest: Manifest) -> Iterator[list[str]]:
    """Yield the topics of the chunks, few at a time: a manifest may announce millions."""
    for first in range(0, manifest.chunks, CHUNK_GROUP):
        yield [
            BLOB_CHUNK.format(owner=manifest.owner, sha256=manifest.sha256, n=n)
            for n in range(first, min(first + CHUNK_GROUP, manifest.chunks))
        ]


def _take_chunk(inbox: Inbox, topic: str, timeout_s: float) -> bytes:
    try:
        return inbox.get(timeout=max(0.0, timeout_s)).payload
    except queue.Empty:
        raise FetchTimeout(f"{topic} did not come within {max(0.0, timeout_s):.3g} s") from None


def send_all(session: SessionPort, messages: Iterable[Publish], timeout_s: float) -> None:
    """Publish messages, few in flight, and return when the broker acknowledged all.

    Args:
        session: Connected or about to be. Without a connection nothing is handed over: it would
            wait in memory, and be sent some time later, out of its order.
        messages: Taken one by one, so that a large blob is never whole in memory.
        timeout_s: How long to wait for any one acknowledgement.

    Raises:
        BrokerAway: there was no connection in time.
        FetchTimeout: the broker did not acknowledge.
        BrokerRefused: the broker refused a message.
    """
    if not session.wait_connected(timeout_s):
        raise BrokerAway(f"no broker within {timeout_s:g} s")
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    in_flight = 0
    for message in messages:
        session.publish(message, answers.put)
        in_flight += 1
        if in_flight >= SEND_WINDOW:
            _await_answer(answers, timeout_s)
            in_flight -= 1
    for _ in range(in_flight):
        _await_answer(answers, timeout_s)


def _await_answer(answers: "queue.SimpleQueue[str | None]", timeout_s: float) -> None:
    try:
        problem = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise FetchTimeout(f"the broker acknowledged nothing within {timeout_s:g} s") from None
    if problem is not None:
        raise BrokerRefused(problem)
