"""Blobs and retained topics: fetched by exact topic, verified, whole or absent."""

import dataclasses
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from roost.chassis.blobs import manifest_message, manifest_of, offer, withdraw
from roost.chassis.effects import Publish
from roost.chassis.errors import BlobCorrupt, BrokerRefused, FetchTimeout
from roost.chassis.session import Session
from roost.chassis.settings import BrokerSettings
from roost.chassis.testing import MemoryBroker
from roost.chassis.transfer import Fetcher, send_all
from roost.wire.blob import CHUNK_BYTES, MANIFEST_CONTENT_TYPE
from roost.wire.refusal import Refused

SIZES = [0, 1, CHUNK_BYTES, 20 * CHUNK_BYTES + 7]


@pytest.fixture
def memory() -> MemoryBroker:
    """Return a broker in memory."""
    return MemoryBroker()


def blob(folder: Path, size: int) -> Path:
    """Write a file of random bytes."""
    path = folder / "blob"
    path.write_bytes(random.Random(size).randbytes(size))
    return path


@pytest.mark.parametrize("size", SIZES)
def test_a_blob_arrives_whole(memory: MemoryBroker, tmp_path: Path, size: int) -> None:
    """A reader gets the owner's bytes, whatever their number (BLOB-003)."""
    session = memory.session()
    session.start()
    path = blob(tmp_path, size)
    manifest = manifest_of("owner-1", path)
    send_all(session, offer(manifest, path), 1)
    fetcher = Fetcher(session)
    fetched = fetcher.fetch_manifest("owner-1", manifest.sha256, 1)
    assert fetched == manifest
    fetcher.fetch_blob(fetched, 1, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blob", "copy"]
    assert session._filters == {}


def test_withdrawing_clears_every_topic(memory: MemoryBroker, tmp_path: Path) -> None:
    """Nothing of a withdrawn blob stays on the broker (BLOB-006)."""
    session = memory.session()
    session.start()
    path = blob(tmp_path, 3 * CHUNK_BYTES)
    manifest = manifest_of("owner-1", path)
    send_all(session, offer(manifest, path), 1)
    assert len(memory.retained) == 4
    send_all(session, withdraw(manifest), 1)
    assert memory.retained == {}


def test_a_wrong_chunk_is_found(memory: MemoryBroker, tmp_path: Path) -> None:
    """A blob with a wrong chunk leaves no file, and the message names the blob (BLOB-005)."""
    session = memory.session()
    session.start()
    path = blob(tmp_path, 2 * CHUNK_BYTES)
    manifest = manifest_of("owner-1", path)
    messages = list(offer(manifest, path))
    messages[1] = dataclasses.replace(messages[1], payload=os.urandom(CHUNK_BYTES))
    send_all(session, messages, 1)
    with pytest.raises(BlobCorrupt, match=manifest.sha256):
        Fetcher(session).fetch_blob(manifest, 1, tmp_path / "copy")
    assert [p.name for p in tmp_path.iterdir()] == ["blob"]


def test_a_missing_chunk_is_named(memory: MemoryBroker, tmp_path: Path) -> None:
    """A chunk that does not come ends the fetch with its number (BLOB-005)."""
    session = memory.session()
    session.start()
    path = blob(tmp_path, 2 * CHUNK_BYTES)
    manifest = manifest_of("owner-1", path)
    messages = list(offer(manifest, path))
    send_all(session, [messages[0]], 1)
    with pytest.raises(FetchTimeout, match="/1 did not come within"):
        Fetcher(session).fetch_blob(manifest, 0.05, tmp_path / "copy")


def test_payloads_come_inline_or_as_a_blob(memory: MemoryBroker, tmp_path: Path) -> None:
    """A reader need not know how large a payload is (BLOB-002)."""
    session = memory.session()
    session.start()
    fetcher = Fetcher(session)
    session.publish(Publish("small", b"abc", retain=True))
    assert fetcher.fetch_payload("small", 1, tmp_path / "small").payload == b"abc"
    assert (tmp_path / "small").read_bytes() == b"abc"
    path = blob(tmp_path, 2 * CHUNK_BYTES)
    manifest = manifest_of("owner-1", path)
    send_all(session, offer(manifest, path), 1)
    session.publish(manifest_message("large", manifest, retain=True))
    got = fetcher.fetch_payload("large", 1, tmp_path / "large")
    assert got.content_type == MANIFEST_CONTENT_TYPE
    assert (tmp_path / "large").read_bytes() == path.read_bytes()
    forged = Publish("forged", b"{}", retain=True, content_type=MANIFEST_CONTENT_TYPE)
    session.publish(forged)
    with pytest.raises(Refused):
        fetcher.fetch_payload("forged", 1, tmp_path / "forged")
    with pytest.raises(FetchTimeout, match="nothing on absent"):
        fetcher.fetch_topic("absent", 0.05)


@pytest.fixture
def real(request: pytest.FixtureRequest) -> Iterator[Session]:
    """Return a session on a real mosquitto."""
    url = request.getfixturevalue("broker").url
    session = Session(BrokerSettings(broker=url), "one", rng=random.Random(1), clean=True)
    session.start()
    assert session.wait_connected(10)
    yield session
    session.stop()


def test_side_by_side_over_a_real_broker(real: Session, tmp_path: Path) -> None:
    """Several readers of one session fetch the same blob at the same time."""
    path = blob(tmp_path, 20 * CHUNK_BYTES + 7)
    manifest = manifest_of("owner-1", path)
    send_all(real, offer(manifest, path), 10)
    fetcher = Fetcher(real)
    threads = [
        threading.Thread(target=fetcher.fetch_blob, args=(manifest, 10, tmp_path / f"copy-{n}"))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for n in range(4):
        assert (tmp_path / f"copy-{n}").read_bytes() == path.read_bytes()


def test_what_is_larger_than_a_packet_is_refused_before_sending(real: Session) -> None:
    """The broker's packet limit is known from its greeting; the connection stands (WIRE-019)."""
    with pytest.raises(BrokerRefused, match="the broker allows 4194304"):
        send_all(real, [Publish("big", bytes(4_194_304))], 10)
    send_all(real, [Publish("fits", bytes(4_194_304 - 1024))], 10)
    assert real.generation == 1
