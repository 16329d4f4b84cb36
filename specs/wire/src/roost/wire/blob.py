"""Blobs: immutable bytes addressed by SHA-256, carried over MQTT in chunks (rules BLOB-001 ff.).

A payload above ``INLINE_LIMIT`` bytes travels as a manifest on its own topic, with the content
type ``MANIFEST_CONTENT_TYPE``, plus the chunks under ``blobs/{owner}/{sha256}/``. 256 KB chunks
keep a broker's memory flat while many subscribers fetch the same large payload.
"""

from typing import Final

from pydantic import Field
from roost.wire.ids import Id, Sha256
from roost.wire.message import Message
from roost.wire.topic import Topic

CHUNK_BYTES: Final = 262_144
INLINE_LIMIT: Final = 1_000_000
MAX_BLOB_BYTES: Final = 4 * 1024**3
MANIFEST_CONTENT_TYPE: Final = "application/vnd.roost.manifest+json"


class Manifest(Message):
    """What a reader needs to fetch and verify a blob."""

    owner: Id = Field(description="who published the chunks and clears them")
    sha256: Sha256 = Field(description="digest of all bytes")
    size: int = Field(ge=0, le=MAX_BLOB_BYTES, description="bytes in all")
    chunk_bytes: int = Field(default=CHUNK_BYTES, ge=1024, le=1_048_576)
    content_type: str | None = Field(
        default=None, max_length=100, description="content type of the whole payload"
    )

    @property
    def chunks(self) -> int:
        """Number of chunks; an empty blob has none."""
        return -(-self.size // self.chunk_bytes)


BLOB_MANIFEST: Final = Topic(
    template="blobs/{owner}/{sha256}/manifest",
    payload=Manifest,
    writers=("owner",),
    readers=("anyone",),
    retained=True,
    about="Size and chunking of a blob; cleared by its owner when nothing refers to it.",
    patterns=(("sha256", "[0-9a-f]{64}"),),
)
BLOB_CHUNK: Final = Topic(
    template="blobs/{owner}/{sha256}/{n}",
    payload=None,
    writers=("owner",),
    readers=("anyone",),
    retained=True,
    about="Chunk n of a blob, counted from 0, fetched by exact topic in small windows.",
    patterns=(("sha256", "[0-9a-f]{64}"), ("n", "[0-9]{1,7}")),
)
TOPICS: Final = (BLOB_MANIFEST, BLOB_CHUNK)
