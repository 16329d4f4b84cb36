"""The blob rules, held against what the chassis publishes and subscribes to."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError
from roost.chassis.blobs import manifest_message, manifest_of, offer, withdraw
from roost.chassis.session import Handler
from roost.chassis.testing import MemoryBroker
from roost.chassis.transfer import CHUNK_GROUP, GROUPS_AHEAD, Fetcher, send_all
from roost.wire.blob import (
    BLOB_CHUNK,
    BLOB_MANIFEST,
    CHUNK_BYTES,
    INLINE_LIMIT,
    MANIFEST_CONTENT_TYPE,
    MAX_BLOB_BYTES,
    Manifest,
)

CHUNKS = 21


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file of 20 whole chunks and a short one."""
    path = tmp_path / "file"
    path.write_bytes(random.Random(1).randbytes((CHUNKS - 1) * CHUNK_BYTES + 7))
    return path


def test_the_numbers_of_the_page() -> None:
    """Limits and content type are those of the page (BLOB-001, BLOB-002, BLOB-003)."""
    assert INLINE_LIMIT == 1_000_000
    assert MANIFEST_CONTENT_TYPE == "application/vnd.roost.manifest+json"
    assert CHUNK_BYTES == 262_144
    assert MAX_BLOB_BYTES == 4 * 1024**3


@pytest.mark.parametrize(
    ("size", "chunk_bytes"),
    [(-1, 1024), (MAX_BLOB_BYTES + 1, CHUNK_BYTES), (1, 1023), (1, 1_048_577)],
)
def test_manifests_out_of_bounds_are_refused(size: int, chunk_bytes: int) -> None:
    """No blob above 4 GiB, no chunk below 1 KiB or above 1 MiB (BLOB-003)."""
    with pytest.raises(ValidationError):
        Manifest(owner="o", sha256="0" * 64, size=size, chunk_bytes=chunk_bytes)


def test_chunks_go_first_and_all_is_retained(file: Path) -> None:
    """Chunks in their order, then the manifest, with its content type (BLOB-002, BLOB-004)."""
    manifest = manifest_of("owner-1", file)
    sent = list(offer(manifest, file))
    found = [BLOB_CHUNK.match(each.topic) for each in sent[:-1]]
    assert [ids and ids["n"] for ids in found] == [str(n) for n in range(CHUNKS)]
    assert BLOB_MANIFEST.match(sent[-1].topic) is not None
    assert all(each.retain for each in sent)
    assert sent[-1].content_type == MANIFEST_CONTENT_TYPE
    assert b"".join(each.payload for each in sent[:-1]) == file.read_bytes()
    assert {len(each.payload) for each in sent[:-2]} == {CHUNK_BYTES}
    assert manifest_message("a/b", manifest).content_type == MANIFEST_CONTENT_TYPE


def test_an_empty_blob_has_no_chunk(tmp_path: Path) -> None:
    """Its manifest is all there is (BLOB-003)."""
    (tmp_path / "empty").touch()
    manifest = manifest_of("owner-1", tmp_path / "empty")
    assert len(list(offer(manifest, tmp_path / "empty"))) == 1


def test_the_manifest_is_cleared_first(file: Path) -> None:
    """Nobody finds a manifest whose chunks are going (BLOB-006)."""
    manifest = manifest_of("owner-1", file)
    offered = [each.topic for each in offer(manifest, file)]
    cleared = list(withdraw(manifest))
    assert [each.topic for each in cleared] == [offered[-1], *offered[:-1]]
    assert all(each.retain and each.payload == b"" for each in cleared)


def test_a_reader_takes_a_few_exact_topics_at_a_time(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a wildcard, never more than 8 chunks subscribed at once (BLOB-005)."""
    broker = MemoryBroker()
    session = broker.session()
    session.start()
    manifest = manifest_of("owner-1", file)
    send_all(session, offer(manifest, file), 1)
    asked, most = list[str](), 0
    subscribe = session.subscribe

    def watch(topics: Sequence[str], handler: Handler) -> None:
        nonlocal most
        subscribe(topics, handler)
        asked.extend(topics)
        most = max(most, len(session._filters))

    monkeypatch.setattr(session, "subscribe", watch)
    Fetcher(session).fetch_blob(manifest, 1, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()
    assert not [topic for topic in asked if "+" in topic or "#" in topic]
    assert len(asked) == CHUNKS
    assert most <= CHUNK_GROUP * GROUPS_AHEAD == 8
