"""A blob's messages: what its owner publishes, and how a reader checks what it got."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from roost.chassis.effects import Publish
from roost.wire.blob import BLOB_CHUNK, BLOB_MANIFEST, CHUNK_BYTES, MANIFEST_CONTENT_TYPE, Manifest


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_of(owner: str, path: Path, content_type: str | None = None) -> Manifest:
    """Return the manifest of a file that its owner offers as a blob."""
    return Manifest(
        owner=owner,
        sha256=file_sha256(path),
        size=path.stat().st_size,
        chunk_bytes=CHUNK_BYTES,
        content_type=content_type,
    )


def manifest_message(topic: str, manifest: Manifest, *, retain: bool = False) -> Publish:
    """Return the message that stands for a large payload on its own topic."""
    return Publish(topic, manifest.encode(), retain=retain, content_type=MANIFEST_CONTENT_TYPE)


def offer(manifest: Manifest, path: Path, expiry_s: float | None = None) -> Iterator[Publish]:
    """Yield the messages that offer a blob: its chunks, then its manifest.

    They are not journalled: the owner keeps the file and offers it again after a reconnect.
    """
    with path.open("rb") as file:
        for n in range(manifest.chunks):
            topic = BLOB_CHUNK.format(owner=manifest.owner, sha256=manifest.sha256, n=n)
            chunk = file.read(manifest.chunk_bytes)
            yield Publish(topic, chunk, retain=True, expiry_s=expiry_s, durable=False)
    topic = BLOB_MANIFEST.format(owner=manifest.owner, sha256=manifest.sha256)
    yield Publish(
        topic,
        manifest.encode(),
        retain=True,
        expiry_s=expiry_s,
        content_type=MANIFEST_CONTENT_TYPE,
        durable=False,
    )


def withdraw(manifest: Manifest) -> Iterator[Publish]:
    """Yield the messages that clear a blob: its manifest, then its chunks."""
    yield Publish(
        BLOB_MANIFEST.format(owner=manifest.owner, sha256=manifest.sha256),
        retain=True,
        durable=False,
    )
    for n in range(manifest.chunks):
        topic = BLOB_CHUNK.format(owner=manifest.owner, sha256=manifest.sha256, n=n)
        yield Publish(topic, retain=True, durable=False)
