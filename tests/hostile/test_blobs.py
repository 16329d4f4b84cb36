"""Blobs whose owner lies: about what they are, how many there are, and when they come."""

import dataclasses
import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from roost.chassis import transfer
from roost.chassis.blobs import manifest_message, manifest_of, offer
from roost.chassis.effects import Publish
from roost.chassis.errors import BlobCorrupt, FetchTimeout
from roost.chassis.testing import MemoryBroker, MemorySession
from roost.chassis.transfer import CHUNK_GROUP, GROUPS_AHEAD, Fetcher, send_all
from roost.proplet.adapters.images import ImageStore
from roost.proplet.adapters.mqtt import MqttTransport
from roost.proplet.adapters.oci import Registry
from roost.proplet.errors import ImageRefused, ImageUnavailable
from roost.wire.blob import BLOB_CHUNK, BLOB_MANIFEST, CHUNK_BYTES, MAX_BLOB_BYTES, Manifest
from roost.wire.refusal import Refused

SHA = hashlib.sha256(b"what was asked for").hexdigest()


@pytest.fixture
def session() -> MemorySession:
    """Return a connected session."""
    session = MemoryBroker().session()
    session.start()
    return session


def offered(session: MemorySession, folder: Path, owner: str, size: int) -> Manifest:
    """Publish a blob and return its manifest."""
    path = folder / f"of-{owner}"
    path.write_bytes(bytes(range(256)) * (size // 256) + bytes(size % 256))
    manifest = manifest_of(owner, path)
    send_all(session, offer(manifest, path), 1)
    return manifest


def test_a_manifest_of_another_blob_is_refused(session: MemorySession, tmp_path: Path) -> None:
    """Else a program of any digest could be made to run under a trusted one (BLOB-008)."""
    evil = offered(session, tmp_path, "mallory", 3000)
    place = BLOB_MANIFEST.format(owner="operator", sha256=SHA)
    session.publish(manifest_message(place, evil, retain=True))
    with pytest.raises(Refused, match="holds the manifest of mallory"):
        Fetcher(session).fetch_manifest("operator", SHA, 1)


def test_no_image_is_kept_under_the_digest_of_another(
    session: MemorySession, tmp_path: Path
) -> None:
    """What is in the cache under a digest has that digest (BLOB-008, GUEST-003)."""
    evil = offered(session, tmp_path, "mallory", 3000)
    place = BLOB_MANIFEST.format(owner="operator", sha256=SHA)
    session.publish(manifest_message(place, evil, retain=True))
    store = images(session, tmp_path)
    with pytest.raises(ImageUnavailable, match="malformed"):
        store.fetch(f"blob:operator/{SHA}")
    assert list(store.folder.iterdir()) == []


def images(session: Any, folder: Path, max_bytes: int = 100_000) -> ImageStore:
    """Return a proplet's images over this session."""
    transport = MqttTransport(session, Fetcher(session))
    return ImageStore(folder / "images", transport, Registry(1, max_bytes), 1, max_bytes)


def test_an_image_that_would_not_be_kept_is_not_fetched(
    session: MemorySession, tmp_path: Path
) -> None:
    """Its manifest says its size before a byte of it fills the disk (BLOB-009)."""
    large = offered(session, tmp_path, "operator", 200_000)
    chunk = BLOB_CHUNK.format(owner="operator", sha256=large.sha256, n=0)
    session.publish(Publish(chunk, b"never looked at", retain=True))
    with pytest.raises(ImageUnavailable, match="200000 bytes, 100000 are taken here"):
        images(session, tmp_path).fetch(f"blob:operator/{large.sha256}")


def test_a_digest_never_leads_out_of_the_folder(session: MemorySession, tmp_path: Path) -> None:
    """A reference of 64 characters with dots and slashes deleted any file ``*.wasm`` (TASK-060)."""
    (tmp_path / "a").mkdir()
    precious = tmp_path / "precious.wasm"
    precious.write_bytes(b"someone's own")
    store = images(session, tmp_path / "a")
    name = "../../precious"
    reference = "./" * ((64 - len(name)) // 2) + name
    assert len(reference) == 64
    with pytest.raises(ImageRefused, match="is no blob"):
        store.fetch(f"blob:x/{reference}")
    assert precious.read_bytes() == b"someone's own"


@pytest.mark.parametrize("sha256", ["A" * 64, "0" * 63, "0" * 65, "0" * 63 + "\n", "é" * 64])
def test_a_digest_is_hexadecimal(session: MemorySession, tmp_path: Path, sha256: str) -> None:
    """And lower case, as everywhere (WIRE-003, TASK-060)."""
    with pytest.raises(ImageRefused, match="is no blob"):
        images(session, tmp_path).fetch(f"blob:operator/{sha256}")


def test_a_manifest_that_announces_millions_of_chunks_costs_nothing(
    session: MemorySession, tmp_path: Path
) -> None:
    """Their topics are made as they are needed (BLOB-011)."""
    lie = Manifest(owner="mallory", sha256=SHA, size=MAX_BLOB_BYTES, chunk_bytes=1024)
    assert lie.chunks == 4 * 1024**2
    tracemalloc.start()
    with pytest.raises(FetchTimeout):
        Fetcher(session).fetch_blob(lie, 0.01, tmp_path / "copy")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
    assert session._filters == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda _chunk: b"",
        lambda chunk: chunk[:-1],
        lambda chunk: chunk + b"x",
        lambda chunk: chunk * 100,
    ],
)
@pytest.mark.parametrize("n", [0, 1])
def test_a_chunk_of_the_wrong_size_ends_the_fetch(
    session: MemorySession, tmp_path: Path, change: Callable[[bytes], bytes], n: int
) -> None:
    """At once: chunks of megabytes would fill the disk before the digest is known (BLOB-010)."""
    path = tmp_path / "blob"
    path.write_bytes(bytes(CHUNK_BYTES + 100))
    manifest = manifest_of("owner", path)
    messages = list(offer(manifest, path))
    messages[n] = dataclasses.replace(messages[n], payload=change(messages[n].payload))
    for message in messages:
        if message.payload:
            session.publish(message)
        else:  # an empty retained message would clear the topic
            session.publish(dataclasses.replace(message, payload=b"x"))
    with pytest.raises(BlobCorrupt, match="bytes instead of"):
        Fetcher(session).fetch_blob(manifest, 1, tmp_path / "copy")
    assert [each.name for each in tmp_path.iterdir()] == ["blob"]


def test_the_same_digest_with_other_bytes_is_found(session: MemorySession, tmp_path: Path) -> None:
    """Whatever an owner publishes later, a reader gets the digest's bytes or none (BLOB-005)."""
    manifest = offered(session, tmp_path, "owner", 3 * CHUNK_BYTES)
    fetcher = Fetcher(session)
    fetcher.fetch_blob(manifest, 1, tmp_path / "first")
    chunk = BLOB_CHUNK.format(owner="owner", sha256=manifest.sha256, n=1)
    session.publish(Publish(chunk, bytes(CHUNK_BYTES), retain=True))
    with pytest.raises(BlobCorrupt, match="do not have its digest"):
        fetcher.fetch_blob(manifest, 1, tmp_path / "second")
    assert not (tmp_path / "second").exists()


class Changing(MemorySession):
    """A session whose owner publishes another manifest while chunks are fetched."""

    def subscribe(self, *args: Any, **more: Any) -> None:
        """Publish another manifest before each subscription but the first."""
        if self._filters or getattr(self, "asked", False):
            other = Manifest(owner="owner", sha256=SHA, size=5)
            super().publish(manifest_message("model", other, retain=True))
        self.asked = True
        super().subscribe(*args, **more)


def test_a_manifest_that_changes_while_it_is_fetched(tmp_path: Path) -> None:
    """A reader keeps to the manifest with which it began (BLOB-012)."""
    broker = MemoryBroker()
    session = Changing(broker)
    broker._sessions.append(session)
    session.start()
    manifest = offered(session, tmp_path, "owner", 20 * CHUNK_BYTES)
    session.publish(manifest_message("model", manifest, retain=True))
    Fetcher(session).fetch_payload("model", 1, tmp_path / "copy")
    assert Manifest.decode(broker.retained["model"].payload).sha256 == SHA
    assert hashlib.sha256((tmp_path / "copy").read_bytes()).hexdigest() == manifest.sha256


class Flooding(MemorySession):
    """A session on which every chunk is followed by junk on its topic, before it is looked at."""

    junk = 0

    def subscribe(self, topic_filters: Any, *args: Any, **more: Any) -> None:
        """Flood each topic as soon as it is subscribed to."""
        super().subscribe(topic_filters, *args, **more)
        for topic in topic_filters:
            for _ in range(1000):
                self.junk += 1
                super().publish(Publish(topic, b"junk"))


def test_a_flooded_chunk_is_fetched_and_fills_no_memory(tmp_path: Path) -> None:
    """What follows the first message on a chunk's topic is dropped (BLOB-011)."""
    broker = MemoryBroker()
    session = Flooding(broker)
    broker._sessions.append(session)
    session.start()
    manifest = offered(session, tmp_path, "owner", 10 * CHUNK_BYTES)
    fetcher = Fetcher(session)
    fetcher.fetch_blob(manifest, 1, tmp_path / "copy")
    assert session.junk == 10_000
    assert hashlib.sha256((tmp_path / "copy").read_bytes()).hexdigest() == manifest.sha256


class Dripping(MemorySession):
    """A session on which time passes with every subscription."""

    clock = 0.0

    def subscribe(self, *args: Any, **more: Any) -> None:
        """Let an hour pass."""
        self.clock += 3600
        super().subscribe(*args, **more)


def test_a_blob_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However patient each chunk may be waited for, all together have an end (BLOB-013)."""
    broker = MemoryBroker()
    session = Dripping(broker)
    broker._sessions.append(session)
    session.start()
    path = tmp_path / "blob"
    path.write_bytes(bytes(CHUNK_BYTES * CHUNK_GROUP * (GROUPS_AHEAD + 2)))
    manifest = manifest_of("owner", path)
    # Only what is asked for after hours is missing: it would be waited for.
    messages = list(offer(manifest, path))[: CHUNK_GROUP * GROUPS_AHEAD]
    send_all(session, messages, 1)
    monkeypatch.setattr(transfer.time, "monotonic", lambda: session.clock)
    with pytest.raises(FetchTimeout, match="within 0 s"):
        Fetcher(session).fetch_blob(manifest, 60, tmp_path / "copy")
