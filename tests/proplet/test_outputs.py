"""Outputs go where the task wants them, and large ones leave nothing behind."""

import hashlib
from pathlib import Path

import pytest
from roost.chassis.errors import BrokerRefused, FetchTimeout
from roost.proplet.adapters.folders import AttemptFolder, TaskFolders
from roost.proplet.adapters.outputs import Outputs
from roost.proplet.core.effects import Discard, SendOutputs
from roost.proplet.core.events import OutputsDelayed, OutputsSent
from roost.proplet.errors import OutputRefused
from roost.protocol.task.messages import FailureReason, TaskOutput, TaskSpec
from roost.wire.blob import CHUNK_BYTES, INLINE_LIMIT, MANIFEST_CONTENT_TYPE, Manifest

from .fakes import FakeTransport

NOW = 1000.0
SPEC = TaskSpec(
    image="blob:a/" + "0" * 64,
    outputs=(TaskOutput(file="update", topic="to"), TaskOutput(file="log", topic="log/to")),
)
EFFECT = SendOutputs("t:1", 1, SPEC, NOW + 60)


@pytest.fixture
def transport() -> FakeTransport:
    """Return an empty transport."""
    return FakeTransport()


@pytest.fixture
def outputs(tmp_path: Path, transport: FakeTransport) -> Outputs:
    """Return outputs over fakes."""
    return Outputs("p1", TaskFolders(tmp_path), transport, lambda: NOW)


def attempt(outputs: Outputs, number: int = 1, task_id: str = "t:1") -> AttemptFolder:
    """Return the folder of an attempt that printed something."""
    folder = outputs.folders.attempt(task_id, number)
    folder.out.mkdir(parents=True)
    folder.stdout.write_bytes(b"printed")
    return folder


def test_small_outputs_go_inline(outputs: Outputs, transport: FakeTransport) -> None:
    """A file as it is; stdout where there is no such file; an empty file is one.

    Proves GUEST-021, GUEST-022.
    """
    folder = attempt(outputs)
    (folder.out / "update").write_bytes(b"")
    assert list(outputs.send(EFFECT)) == [OutputsSent(NOW, "t:1", 1)]
    assert [(each.topic, each.payload) for each in transport.sent] == [
        ("to", b""),
        ("log/to", b"printed"),
    ]
    assert not any(each.retain or each.durable for each in transport.sent)


def test_the_inline_limit_is_exact(outputs: Outputs, transport: FakeTransport) -> None:
    """Up to the limit inline, one byte more as a blob (GUEST-022, BLOB-001)."""
    folder = attempt(outputs)
    (folder.out / "update").write_bytes(b"x" * INLINE_LIMIT)
    (folder.out / "log").write_bytes(b"x" * (INLINE_LIMIT + 1))
    list(outputs.send(EFFECT))
    by_topic = {each.topic: each for each in transport.sent}
    assert len(by_topic["to"].payload) == INLINE_LIMIT
    assert by_topic["log/to"].content_type == MANIFEST_CONTENT_TYPE


def test_large_outputs_go_as_blobs(outputs: Outputs, transport: FakeTransport) -> None:
    """Chunks and manifest first, retained until the deadline; then the manifest on the topic.

    Proves GUEST-022, BLOB-004, BLOB-007.
    """
    body = bytes(range(256)) * 5000
    (attempt(outputs).out / "update").write_bytes(body)
    assert list(outputs.send(EFFECT)) == [OutputsSent(NOW, "t:1", 1)]
    *blob, message, _log = transport.sent
    manifest = Manifest.decode(message.payload)
    assert (message.topic, message.retain) == ("to", False)
    assert message.content_type == MANIFEST_CONTENT_TYPE
    assert manifest.owner == "p1"
    assert manifest.sha256 == hashlib.sha256(body).hexdigest()
    prefix = f"blobs/p1/{manifest.sha256}"
    chunks = -(-len(body) // CHUNK_BYTES)
    names = [*map(str, range(chunks)), "manifest"]
    assert [each.topic for each in blob] == [f"{prefix}/{name}" for name in names]
    assert b"".join(each.payload for each in blob[:-1]) == body
    assert all(each.retain and each.expiry_s == 60.0 for each in blob)


def test_blobs_are_withdrawn(outputs: Outputs, transport: FakeTransport) -> None:
    """With the attempt's files, once, however often they were sent (BLOB-006)."""
    (attempt(outputs).out / "update").write_bytes(b"x" * (INLINE_LIMIT + 1))
    list(outputs.send(EFFECT))
    list(outputs.send(EFFECT))
    offered = {each.topic for each in transport.sent if each.topic.startswith("blobs/")}
    transport.sent.clear()
    outputs.discard(Discard("t:1", 2))
    assert sorted(each.topic for each in transport.sent) == sorted(offered)
    assert all(each.retain and not each.payload for each in transport.sent)
    assert list(outputs.folders.all()) == []
    outputs.discard(Discard("t:1", 2))


def test_a_blob_that_another_attempt_offers_stays(
    outputs: Outputs, transport: FakeTransport
) -> None:
    """Two tasks may make the same bytes."""
    for task_id in ("t:1", "t:2"):
        (attempt(outputs, task_id=task_id).out / "update").write_bytes(b"x" * 1_500_000)
        list(outputs.send(SendOutputs(task_id, 1, SPEC, NOW + 60)))
    transport.sent.clear()
    outputs.discard(Discard("t:1", 2))
    assert transport.sent == []
    outputs.discard(Discard("t:2", 2))
    assert transport.sent != []


def test_only_older_attempts_are_discarded(outputs: Outputs) -> None:
    """The newer one's files stay."""
    for number in (1, 2, 3):
        attempt(outputs, number)
    outputs.discard(Discard("t:1", 3))
    assert [number for number, _ in outputs.folders.attempts("t:1")] == [3]


def test_files_go_even_if_blobs_cannot(outputs: Outputs, transport: FakeTransport) -> None:
    """Without a broker the blobs are left to their expiry."""
    (attempt(outputs).out / "update").write_bytes(b"x" * 1_500_000)
    list(outputs.send(EFFECT))
    transport.problem = FetchTimeout("no broker within 5 s")
    outputs.discard(Discard("t:1", 2))
    assert list(outputs.folders.all()) == []


def test_a_silent_broker_delays(outputs: Outputs, transport: FakeTransport) -> None:
    """The core tries again."""
    attempt(outputs)
    transport.problem = FetchTimeout("no broker within 30 s")
    assert list(outputs.send(EFFECT)) == [OutputsDelayed(NOW, "t:1", 1)]


@pytest.mark.parametrize(
    ("problem", "reason", "said"),
    [
        (OutputRefused("to: 9 bytes, the broker allows 5"), "output_too_large", "allows 5"),
        (BrokerRefused("the broker refused it: Not authorized"), "internal", "Not authorized"),
    ],
)
def test_a_refusal_is_final(
    outputs: Outputs, transport: FakeTransport, problem: Exception, reason: str, said: str
) -> None:
    """Trying again would not help; the reason is told (TASK-040)."""
    attempt(outputs)
    transport.problem = problem
    [sent] = outputs.send(EFFECT)
    assert isinstance(sent, OutputsSent)
    assert sent.refused is not None
    assert sent.refused.reason is FailureReason(reason)
    assert said in sent.refused.message


def test_a_link_is_not_followed(outputs: Outputs, transport: FakeTransport, tmp_path: Path) -> None:
    """A guest cannot publish what it may not read (GUEST-021)."""
    (tmp_path / "secret").write_text("secret")
    folder = attempt(outputs)
    (folder.out / "update").symlink_to(tmp_path / "secret")
    list(outputs.send(EFFECT))
    assert transport.sent[0].payload == b"printed"
