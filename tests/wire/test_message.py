"""Messages: strict, bounded, versioned (WIRE rules)."""

import pytest
from roost.protocol.task.messages import StopReason, StopTask, TaskInput, TaskRequest
from roost.wire.blob import Manifest
from roost.wire.ids import derive
from roost.wire.message import MAX_JSON_BYTES
from roost.wire.refusal import MALFORMED, NEWER_VERSION, TOO_LARGE, Refusal, Refused


def refusal(payload: bytes) -> Refusal:
    """Return how a stop order is refused."""
    with pytest.raises(Refused) as caught:
        StopTask.decode(payload)
    return caught.value.refusal


def test_round_trip() -> None:
    """What is encoded decodes to the same."""
    message = StopTask(attempt=3, reason=StopReason.STALE)
    assert StopTask.decode(message.encode()) == message


def test_unknown_fields_are_ignored() -> None:
    """A newer sender of the same version may say more (WIRE-011)."""
    assert StopTask.decode(b'{"attempt":1,"reason":"stale","new":[1]}').attempt == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"attempt":"1","reason":"stale"}',
        b'{"attempt":1.5,"reason":"stale"}',
        b'{"attempt":1,"reason":"no such"}',
    ],
)
def test_malformed(payload: bytes) -> None:
    """Whatever is no such object is refused as malformed (WIRE-010, WIRE-011)."""
    assert refusal(payload) is MALFORMED


def test_newer_version() -> None:
    """A payload of a version that this side cannot read is refused by that name (WIRE-013)."""
    assert refusal(b'{"attempt":1,"reason":"stale","v":2}') is NEWER_VERSION


def test_too_large() -> None:
    """A payload is measured before it is parsed (WIRE-010)."""
    assert refusal(b" " * (MAX_JSON_BYTES + 1)) is TOO_LARGE


def test_the_message_names_field_value_and_cure() -> None:
    """A person can correct the payload from the error alone (WIRE-021)."""
    with pytest.raises(Refused, match=r"field 'attempt'.*got -1.*Send the JSON object"):
        StopTask.decode(b'{"attempt":-1,"reason":"stale"}')
    with pytest.raises(Refused, match=r"field 'image' is missing; .*and 2 more"):
        TaskRequest.decode(b'{"deadline_s":0,"env":1,"mounts":["/"]}')


def test_nan_is_refused() -> None:
    """NaN and infinity are no numbers on the wire (WIRE-012)."""
    for word in (b"NaN", b"Infinity", b"1e999"):
        with pytest.raises(Refused):
            TaskRequest.decode(b'{"task_id":"t","image":"blob:x","deadline_s":' + word + b"}")


@pytest.mark.parametrize("given", [{}, {"topic": "a", "text": "b"}])
def test_an_input_has_one_source(given: dict[str, str]) -> None:
    """No source and two sources are both refused, with the input's name (TASK-003)."""
    with pytest.raises(ValueError, match="input 'x' needs exactly one"):
        TaskInput(name="x", **given)


@pytest.mark.parametrize(("size", "chunks"), [(0, 0), (1, 1), (1024, 1), (1025, 2)])
def test_chunks(size: int, chunks: int) -> None:
    """The number of chunks covers all bytes (BLOB-003)."""
    manifest = Manifest(owner="o", sha256="0" * 64, size=size, chunk_bytes=1024)
    assert manifest.chunks == chunks


def test_spec_is_the_request_without_place_and_time() -> None:
    """What a proplet gets is what the request said."""
    request = TaskRequest(task_id=derive("a", "b"), image="blob:x", env={"A": "1"})
    assert request.spec().env == {"A": "1"}
    assert not hasattr(request.spec(), "task_id")
