"""Outputs go where the task wants them, and large ones leave nothing behind."""

import hashlib
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from roost.chassis.effects import Publish
from roost.chassis.errors import BrokerRefused, FetchTimeout
from roost.proplet.adapters.folders import AttemptFolder, TaskFolders
from roost.proplet.adapters.outputs import Outputs
from roost.proplet.adapters.outputs import _offered as offered
from roost.proplet.core.effects import Discard, SendOutputs, Sweep
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


def test_what_nobody_knows_is_swept(outputs: Outputs, transport: FakeTransport) -> None:
    """With its blobs; what is held, and what is newer than the start, stays (TASK-080)."""
    for number, task_id in ((1, "held"), (1, "lost"), (2, "lost"), (3, "new")):
        folder = attempt(outputs, number, task_id)
        (folder.out / "update").write_bytes(task_id.encode() * 400_000)
        list(outputs.send(SendOutputs(task_id, number, SPEC, NOW + 60)))
    lost = outputs.folders.attempt("lost", 1)
    wanted = {each.sha256 for each in offered(lost)}
    transport.sent.clear()
    found = [each for each in outputs.folders.all() if each.root.parent.name != "new"]
    for _ in range(2):
        outputs.sweep(Sweep((("held", 1),)), found)
    left = [(folder.root.parent.name, folder.root.name) for folder in outputs.folders.all()]
    assert left == [("held", "1"), ("new", "3")]
    assert {each.topic.split("/")[2] for each in transport.sent} == wanted


def test_a_list_of_blobs_that_was_cut_off_does_no_harm(
    outputs: Outputs, transport: FakeTransport
) -> None:
    """A loss of power left half a line: its blob expires by itself (TASK-080)."""
    folder = attempt(outputs)
    (folder.out / "update").write_bytes(b"x" * 1_500_000)
    list(outputs.send(EFFECT))
    whole = folder.offered.read_bytes()
    folder.offered.write_bytes(whole + whole[: len(whole) // 2])
    assert list(outputs.send(EFFECT)) == [OutputsSent(NOW, "t:1", 1)]
    outputs.discard(Discard("t:1", 2))
    assert list(outputs.folders.all()) == []


def test_nobody_offers_a_blob_while_another_withdraws_it(
    outputs: Outputs, transport: FakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever begins to offer it in between waits, then publishes all of it (BLOB-006)."""
    (attempt(outputs, task_id="t:1").out / "update").write_bytes(b"x" * 1_500_000)
    (attempt(outputs, task_id="t:2").out / "update").write_bytes(b"x" * 1_500_000)
    list(outputs.send(EFFECT))
    transport.sent.clear()
    began, order = threading.Event(), list[str]()
    send = transport.send
    other = threading.Thread(
        target=lambda: list(outputs.send(SendOutputs("t:2", 1, SPEC, NOW + 60)))
    )

    def slow(messages: Iterable[Publish], timeout_s: float) -> None:
        if not began.is_set():  # the withdrawal
            began.set()
            other.start()
            other.join(0.1)
            order.append("withdrawn")
        else:
            order.append("offered")
        send(messages, timeout_s)

    monkeypatch.setattr(transport, "send", slow)
    outputs.discard(Discard("t:1", 2))
    other.join(10)
    assert order[:2] == ["withdrawn", "offered"]
    last = {each.topic: each.payload for each in transport.sent if each.retain}
    assert all(last.values()), "nothing of it is cleared in the end"


def test_files_that_cannot_be_removed_are_left(
    outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start sweeps them; the others go now (TASK-080)."""
    for number in (1, 2):
        attempt(outputs, number)
    removed = TaskFolders.remove

    def fail(folders: TaskFolders, gone: AttemptFolder) -> None:
        if gone.root.name == "1":
            raise OSError(5, "Input/output error")
        removed(folders, gone)

    monkeypatch.setattr(TaskFolders, "remove", fail)
    outputs.discard(Discard("t:1", 3))
    assert [number for number, _ in outputs.folders.attempts("t:1")] == [1]


def test_outputs_that_are_gone_fail_the_attempt(outputs: Outputs) -> None:
    """Trying again would not help (TASK-040).

    Regression: the effect raised, was given up, and the slot was taken until the deadline.
    """
    folder = attempt(outputs)
    folder.stdout.unlink()
    [sent] = outputs.send(EFFECT)
    assert isinstance(sent, OutputsSent)
    assert sent.refused is not None
    assert sent.refused.reason is FailureReason.INTERNAL
    assert "stdout is gone" in sent.refused.message


def test_a_disk_that_fails_delays(outputs: Outputs, transport: FakeTransport) -> None:
    """It may pass (TASK-035)."""
    attempt(outputs)
    transport.problem = OSError(24, "Too many open files")
    assert list(outputs.send(EFFECT)) == [OutputsDelayed(NOW, "t:1", 1)]


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
