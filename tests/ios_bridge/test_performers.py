"""What the core's effects do outside: preparing files for phones, publishing what they made."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from roost.chassis.effects import Publish
from roost.chassis.errors import BrokerRefused, FetchTimeout
from roost.ios_bridge.adapters.files import Shelf, Tray
from roost.ios_bridge.adapters.outputs import Outputs
from roost.ios_bridge.adapters.prepare import Preparer
from roost.ios_bridge.core.effects import Discard, Prepare, SendOutputs
from roost.ios_bridge.core.events import (
    OutputsDelayed,
    OutputsMissing,
    OutputsSent,
    Prepared,
    Unprepared,
)
from roost.ios_bridge.errors import OutputRefused
from roost.protocol.task.messages import FailureReason, TaskInput, TaskOutput, TaskSpec

WASM = b"\0asm\1\0\0\0"
SHA = hashlib.sha256(WASM).hexdigest()
NOW, UNTIL = 100.0, 110.0


@dataclass
class Transport:
    """Topics and blobs in memory; remembers what was sent and how long it was waited."""

    topics: dict[str, bytes] = field(default_factory=dict)
    sent: list[Publish] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    problem: Exception | None = None

    def fetch_topic(self, topic: str, into: Path, timeout_s: float) -> None:
        """Write what a topic holds."""
        self.waited.append(timeout_s)
        if topic not in self.topics:
            raise FetchTimeout(f"nothing on {topic}")
        into.write_bytes(self.topics[topic])

    def fetch_blob(self, owner: str, sha256: str, into: Path, timeout_s: float) -> None:
        """Write a blob."""
        self.fetch_topic(f"{owner}/{sha256}", into, timeout_s)

    def send(self, messages: Iterable[Publish], timeout_s: float) -> None:
        """Remember messages, or fail."""
        self.waited.append(timeout_s)
        if self.problem is not None:
            raise self.problem
        self.sent += messages


@pytest.fixture
def transport() -> Transport:
    """Return a broker that has one image and one topic."""
    return Transport({f"op/{SHA}": WASM, "some/topic": b"content"})


@pytest.fixture
def preparer(tmp_path: Path, transport: Transport) -> Preparer:
    """Return a preparer with an empty shelf."""
    (tmp_path / "allowed").mkdir()
    return Preparer(
        Shelf(tmp_path / "files", 10_000), transport, lambda: NOW, 30.0, (tmp_path / "allowed",)
    )


def prepare(preparer: Preparer, **spec: Any) -> Any:
    """Prepare a task and return what came of it."""
    task = TaskSpec(**{"image": f"blob:op/{SHA}", **spec})
    (event,) = preparer.prepare(Prepare("phone", "t", 1, task, UNTIL))
    return event


def test_image_and_inputs_lie_on_the_shelf(preparer: Preparer, transport: Transport) -> None:
    """By digest, whatever they came from; an image that is here is not fetched (PHONE-041)."""
    inputs = (
        TaskInput(name="a", topic="some/topic"), TaskInput(name="b", blob=f"op/{SHA}"),
        TaskInput(name="c", text="häh"), TaskInput(name="d", base64="AAE="),
    )  # fmt: skip
    event = prepare(preparer, inputs=inputs)
    assert isinstance(event, Prepared)
    assert (event.image.name, event.image.sha256, event.image.size) == (SHA, SHA, len(WASM))
    contents = [b"content", WASM, "häh".encode(), b"\0\1"]
    assert [each.sha256 for each in event.inputs] == [
        hashlib.sha256(content).hexdigest() for content in contents
    ]
    assert [each.name for each in event.inputs] == ["a", "b", "c", "d"]
    for each in (event.image, *event.inputs):
        assert preparer.shelf.find(each.sha256) is not None
    # Less than the time that is left, so that a failure is still heard.
    assert transport.waited == [8.0, 8.0, 8.0]
    transport.topics.clear()
    assert isinstance(prepare(preparer), Prepared)


@pytest.mark.parametrize(
    ("spec", "reason", "why"),
    [
        ({"image": "blob:op/" + "0" * 64}, "image_unavailable", "nothing on"),
        ({"image": "blob:op/short"}, "image_unavailable", "nothing on"),
        ({"image": "oci://host/name:tag"}, "image_unavailable", "roost image push"),
        ({"image": "file:/etc/passwd"}, "image_refused", "ROOST_FILE_IMAGES"),
        ({"inputs": (TaskInput(name="a", topic="no/topic"),)}, "input_unavailable", "'a': nothing"),
        ({"inputs": (TaskInput(name="a", base64="?"),)}, "input_unavailable", "bad base64"),
    ],
)
def test_what_cannot_be_had(
    preparer: Preparer, spec: dict[str, Any], reason: str, why: str
) -> None:
    """The task fails by the name that it has on any proplet (PHONE-031, PHONE-041)."""
    event = prepare(preparer, **spec)
    assert isinstance(event, Unprepared)
    assert event.outcome.reason == reason
    assert why in event.outcome.message


def test_files_that_the_operator_allows(preparer: Preparer, tmp_path: Path) -> None:
    """A file: image below an allowed folder, and one that is not there (PHONE-041)."""
    (tmp_path / "allowed" / "my guest.wasm").write_bytes(WASM)
    (tmp_path / "allowed" / "guest.wasm").write_bytes(WASM)
    event = prepare(preparer, image=f"file:{tmp_path}/allowed/guest.wasm")
    assert (event.image.name, event.image.sha256) == ("guest.wasm", SHA)
    event = prepare(preparer, image=f"file:{tmp_path}/allowed/other.wasm")
    assert event.outcome.reason is FailureReason.IMAGE_UNAVAILABLE


@pytest.fixture
def outputs(tmp_path: Path, transport: Transport) -> Outputs:
    """Return the publisher of what phones handed in."""
    return Outputs(Tray(tmp_path / "outputs"), transport, lambda: NOW)


def hand_in(outputs: Outputs, file: str, content: bytes, attempt: int = 1) -> None:
    """Hand a file in as a phone does."""
    with outputs.tray.incoming() as path:
        path.write_bytes(content)
        outputs.tray.put(path, "phone", "t", attempt, file)


def send(outputs: Outputs, *files: str) -> Any:
    """Publish outputs and return what came of it."""
    wanted = tuple(TaskOutput(file=file, topic=f"to/{file}") for file in files)
    spec = TaskSpec(image=f"blob:op/{SHA}", outputs=wanted)
    (event,) = outputs.send(SendOutputs("phone", "t", 1, spec, UNTIL))
    return event


def test_small_outputs_go_as_they_are(outputs: Outputs, transport: Transport) -> None:
    """Each file's bytes on its topic (PHONE-042)."""
    hand_in(outputs, "a", b"one")
    hand_in(outputs, "b", b"")
    assert send(outputs, "a", "b") == OutputsSent(NOW, "phone", "t", 1)
    assert [(each.topic, each.payload) for each in transport.sent] == [
        ("to/a", b"one"), ("to/b", b""),
    ]  # fmt: skip


def test_nothing_is_published_while_one_is_missing(outputs: Outputs, transport: Transport) -> None:
    """All files or none (PHONE-042)."""
    hand_in(outputs, "a", b"one")
    assert send(outputs, "a", "b") == OutputsMissing(NOW, "phone", "t", 1)
    assert transport.sent == []


def test_large_outputs_go_as_blobs_of_the_phone(outputs: Outputs, transport: Transport) -> None:
    """With a manifest; withdrawn when the attempt is over (PHONE-042, BLOB-006)."""
    hand_in(outputs, "a", b"x" * 1_100_000)
    assert isinstance(send(outputs, "a"), OutputsSent)
    topics = [each.topic for each in transport.sent]
    assert topics[-1] == "to/a"
    assert all(topic.startswith("blobs/phone/") for topic in topics[:-1])
    assert {each.expiry_s for each in transport.sent[:-1]} == {10.0}
    hand_in(outputs, "a", b"later", attempt=2)
    transport.sent.clear()
    outputs.discard(Discard("phone", "t", 2))
    assert all(each.retain and not each.payload for each in transport.sent)
    assert len(transport.sent) == len(topics) - 1
    assert outputs.tray.attempts("phone", "t") == [2]
    outputs.discard(Discard("phone", "t", 3))
    assert outputs.tray.attempts("phone", "t") == []


@pytest.mark.parametrize(
    ("problem", "event"),
    [
        (FetchTimeout("slow"), OutputsDelayed),
        (BrokerRefused("no"), OutputsSent),
        (OutputRefused("large"), OutputsSent),
    ],
)
def test_outputs_that_do_not_go(
    outputs: Outputs, transport: Transport, problem: Exception, event: type
) -> None:
    """Later if the broker is slow; never if it refuses, with the reason (PHONE-032)."""
    hand_in(outputs, "a", b"one")
    transport.problem = problem
    found = send(outputs, "a")
    assert isinstance(found, event)
    if isinstance(found, OutputsSent):
        assert found.refused is not None
        assert str(problem) in found.refused.message


def test_blobs_that_cannot_be_withdrawn_expire(outputs: Outputs, transport: Transport) -> None:
    """Without a broker the files go all the same."""
    hand_in(outputs, "a", b"x" * 1_100_000)
    send(outputs, "a")
    transport.problem = FetchTimeout("away")
    outputs.discard(Discard("phone", "t", 2))
    assert outputs.tray.attempts("phone", "t") == []
