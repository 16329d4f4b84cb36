"""The model server's adapters on real files and an in-memory broker."""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from roost.chassis.blobs import manifest_of, offer
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.testing import MemoryBroker
from roost.chassis.transfer import Fetcher
from roost.model_server.adapters import performers as performers_module
from roost.model_server.adapters.decode import SUBSCRIPTIONS, Decode
from roost.model_server.adapters.files import Files
from roost.model_server.adapters.performers import Performers
from roost.model_server.core.shelf import Shelf
from roost.model_server.core.state import (
    SERVICE_EFFECTS,
    Clear,
    DropIncoming,
    FetchSubmission,
    IndexKept,
    PublishIndex,
    Refresh,
    Refreshed,
    Refuse,
    Release,
    Released,
    RoundTold,
    Spoiled,
    SubmissionOffered,
    SubmissionUnreadable,
    Submitted,
    Tidy,
    Unsent,
    Version,
)
from roost.protocol.round.messages import RoundState, RoundStatus
from roost.protocol.round.model import digest, encode_safetensors, parse_model
from roost.wire.blob import MANIFEST_CONTENT_TYPE, Manifest
from roost.wire.refusal import Refused

JSON = b'{"w":[1.0,2.0],"b":0.5,"version":3,"parent":2,"publish_id":"r","name":"m"}'
BINARY = encode_safetensors(
    {"w": np.ones(2, "<f4")}, {"version": "3", "parent": "2", "publish_id": "r", "name": "m"}
)
LARGE = encode_safetensors({"w": np.arange(300_000, dtype="<f4")}, {"name": "m"})


class Bench:
    """The adapters over a folder and an in-memory broker."""

    def __init__(self, folder: Path) -> None:
        counter = itertools.count()
        self.broker = MemoryBroker()
        session = self.session = self.broker.session()
        session.start()
        self.files = Files(folder, lambda: str(next(counter)))
        self.performers = Performers(session, Fetcher(session), self.files, lambda: 7.0)
        self.decode = Decode(self.files)
        self.folder = folder

    def restarted(self) -> "Bench":
        """Return the adapters of the next process."""
        later = Bench(self.folder)
        later.broker = self.broker
        session = later.session = self.broker.session()
        session.start()
        later.performers = Performers(session, Fetcher(session), later.files, lambda: 7.0)
        return later

    def perform(self, effect: Any) -> list[Any]:
        """Carry one effect out."""
        return list(self.performers.table()[type(effect)](effect) or ())

    def publish(self, payload: bytes, **more: Any) -> Any:
        """Decode a publish request."""
        return self.decode(Received("fl/models/publish", payload, **more), 5.0)

    def version(self, payload: bytes, number: int = 0) -> tuple[Release, Version]:
        """Take a model in and return what releases it."""
        event = self.publish(payload)
        version = Version(
            name="m",
            version=number,
            topic=f"fl/models/m_v{number}",
            digest=event.digest,
            sha256=event.sha256,
            size=event.size,
            form=event.form,
            parent=None,
            publish_id="r",
            file=event.file,
        )
        return Release(version), version

    def blob(self, payload: bytes) -> Manifest:
        """Offer a blob."""
        path = self.folder / "blob"
        path.write_bytes(payload)
        manifest = manifest_of("somebody", path)
        for message in offer(manifest, path):
            self.broker.route(message)
        return manifest

    def incoming(self) -> list[str]:
        """Return the names of the incoming files."""
        return sorted(path.name for path in (self.folder / "incoming").iterdir())

    def topics(self) -> list[str]:
        """Return the retained topics, blobs by their owner."""
        return sorted(
            {
                topic.split("/")[1] if topic.startswith("blobs") else topic
                for topic in self.broker.retained
            }
        )


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return adapters that do not wait long for what is not there."""
    monkeypatch.setattr(performers_module, "FETCH_TIMEOUT_S", 0.05)
    monkeypatch.setattr(performers_module, "COPY_TIMEOUT_S", 0.05)
    monkeypatch.setattr(performers_module, "SEND_TIMEOUT_S", 0.05)
    return Bench(tmp_path)


def test_it_subscribes_to_what_it_understands() -> None:
    """Rounds' states before requests, so that their bases are known."""
    assert [row.filter for row in SUBSCRIPTIONS] == [
        "fl/rounds/+/state",
        "fl/models/index",
        "fl/models/publish",
    ]


def test_every_effect_has_a_lane_and_a_performer(bench: Bench) -> None:
    """All that touches topics is done in order."""
    assert set(bench.performers.table()) == set(SERVICE_EFFECTS) == set(Shelf(1).effects)
    _, version = bench.version(JSON)
    effects = (
        FetchSubmission(Manifest(owner="a", sha256="ab" * 32, size=1)),
        Release(version),
        PublishIndex("{}"),
        Clear((version,)),
        Refresh((), "{}", blobs=True),
        Refuse(0.0, ""),
        DropIncoming("f"),
        Tidy((), 0.0),
    )
    lanes = [each.lane for each in effects]
    assert lanes == ["intake", *["models"] * 4, "refuse", "files", "files"]


@pytest.mark.parametrize(("payload", "form"), [(JSON, "json"), (BINARY, "safetensors")])
def test_a_model_is_on_disk_when_its_event_exists(bench: Bench, payload: bytes, form: str) -> None:
    """With its label, and its digest as computed."""
    event = bench.publish(payload)
    assert isinstance(event, Submitted)
    assert (event.label.name, event.label.version, event.label.parent) == ("m", 3, 2)
    assert event.form == form
    assert event.digest == digest(parse_model(payload).tensors)
    assert (bench.folder / "incoming" / event.file).read_bytes() == payload
    bench.perform(DropIncoming(event.file))
    bench.perform(DropIncoming(event.file))
    assert bench.incoming() == []


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"rubbish", b'{"w":[NaN]}', b'{"w":1,"version":-1}']
)
def test_an_unusable_model_leaves_nothing(bench: Bench, payload: bytes) -> None:
    """Inline or as a blob, it is refused with its reason."""
    assert isinstance(bench.publish(payload), SubmissionUnreadable)
    (event,) = bench.perform(FetchSubmission(bench.blob(payload)))
    assert isinstance(event, SubmissionUnreadable)
    assert bench.incoming() == []


def test_a_retained_request_is_refused(bench: Bench) -> None:
    """It would come again after every reconnect."""
    event = bench.publish(JSON, retain=True)
    assert isinstance(event, SubmissionUnreadable)
    assert event.refusal.name == "retained_order"


def test_a_manifest_is_fetched(bench: Bench) -> None:
    """And taken in as if it had come whole."""
    manifest = bench.blob(LARGE)
    event = bench.publish(manifest.encode(), content_type=MANIFEST_CONTENT_TYPE)
    assert event == SubmissionOffered(5.0, manifest)
    (event,) = bench.perform(FetchSubmission(manifest))
    assert isinstance(event, Submitted)
    assert (event.size, event.sha256) == (len(LARGE), manifest.sha256)
    away = manifest.model_copy(update={"sha256": "ab" * 32})
    (event,) = bench.perform(FetchSubmission(away))
    assert event.refusal.name == "blob_unavailable"
    event = bench.publish(b"{}", content_type=MANIFEST_CONTENT_TYPE)
    assert isinstance(event, SubmissionUnreadable)


def test_open_rounds_are_read_from_their_states(bench: Bench) -> None:
    """Their base models stay (MODEL-035)."""
    for status, base in ((RoundStatus.OPEN, "fl/models/m_v1"), (RoundStatus.FAILED, None)):
        state = RoundState(
            round_id="r",
            state=status,
            model_uri="fl/models/m_v1",
            k_of_n=1,
            participants=1,
            updates=0,
        )
        event = bench.decode(Received("fl/rounds/r/state", state.encode()), 5.0)
        assert event == RoundTold(5.0, "r", base)
    assert bench.decode(Received("fl/rounds/r/state"), 5.0) == RoundTold(5.0, "r", None)
    assert bench.decode(Received("fl/rounds/a b/state"), 5.0) is None
    with pytest.raises(Refused):
        bench.decode(Received("fl/rounds/r/state", b"{}"), 5.0)


@pytest.mark.parametrize("payload", [JSON, BINARY], ids=["json", "safetensors"])
def test_a_small_model_is_retained_as_it_is(bench: Bench, payload: bytes) -> None:
    """Twice does no harm."""
    release, version = bench.version(payload)
    for _ in range(2):
        assert bench.perform(release) == [Released(7.0, "m", 0)]
    assert bench.broker.retained["fl/models/m_v0"].payload == payload
    assert bench.files.path(version).read_bytes() == payload
    assert bench.incoming() == []
    bench.perform(Clear((version,)))
    bench.perform(Clear((version,)))
    assert bench.topics() == []
    assert not bench.files.path(version).exists()


def test_a_large_model_is_retained_as_a_manifest(bench: Bench) -> None:
    """Its chunks are there before it (MODEL-004)."""
    release, version = bench.version(LARGE)
    bench.perform(release)
    message = bench.broker.retained["fl/models/m_v0"]
    assert message.content_type == MANIFEST_CONTENT_TYPE
    assert bench.broker.published[-1] == message
    manifest = Manifest.decode(message.payload)
    assert (manifest.owner, manifest.size) == ("model-server", len(LARGE))
    bench.perform(Clear((version,)))
    assert bench.topics() == []


def test_only_the_index_that_the_broker_kept_is_read() -> None:
    """What comes by itself is this server's own (MODEL-036)."""
    decode: Any = Decode
    decoded = decode(None)
    kept = Received("fl/models/index", b'{"v":1}', retain=True)
    assert decoded(kept, 5.0) == IndexKept(5.0, '{"v":1}')
    assert decoded(Received("fl/models/index", b'{"v":1}'), 5.0) is None
    assert decoded(Received("fl/models/index", b"\xff", retain=True), 5.0).text == "\ufffd"


def test_a_broker_that_forgot_gets_everything_and_the_index_last(bench: Bench) -> None:
    """Small topics in any case, blobs only if it forgot (MODEL-036)."""
    (small, one), (large, two) = bench.version(JSON, 0), bench.version(LARGE, 1)
    bench.perform(small)
    bench.perform(large)
    bench.perform(PublishIndex('{"v":1}'))
    kept = dict(bench.broker.retained)
    bench.broker.published.clear()
    assert bench.perform(Refresh((one, two), '{"v":1}', blobs=False)) == [Refreshed(7.0)]
    assert [each.topic for each in bench.broker.published] == [
        "fl/models/m_v0",
        "fl/models/m_v1",
        "fl/models/index",
    ]
    bench.broker.forget()
    bench.broker.published.clear()
    bench.perform(Refresh((one, two), '{"v":1}', blobs=True))
    assert bench.broker.retained == kept
    assert bench.broker.published[-1].topic == "fl/models/index"


@pytest.mark.parametrize("kind", [Release, PublishIndex, Refresh, Clear])
def test_without_a_broker_nothing_is_lost(bench: Bench, kind: type[Any]) -> None:
    """Nothing waits in memory either: all of it is told again (MODEL-052)."""
    release, version = bench.version(JSON)
    effects = {
        Release: release,
        PublishIndex: PublishIndex("{}"),
        Refresh: Refresh((), "{}", blobs=True),
        Clear: Clear((version,)),
    }
    bench.session.stop()
    (event,) = bench.perform(effects[kind])
    assert isinstance(event, Unsent)
    assert "no broker" in event.why
    bench.session.start()
    assert bench.broker.published == []


@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_a_damaged_file_is_mended_from_the_brokers_copy(bench: Bench, damage: str) -> None:
    """A new process looks at each file before it publishes it (MODEL-053)."""
    versions = []
    for number, payload in enumerate([JSON, LARGE]):
        release, version = bench.version(payload, number)
        bench.perform(release)
        versions.append(version)
        path = bench.files.path(version)
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(payload[:-1])
    later = bench.restarted()
    assert later.perform(Refresh(tuple(versions), "{}", blobs=True)) == [Refreshed(7.0)]
    assert [later.files.path(each).read_bytes() for each in versions] == [JSON, LARGE]
    assert later.incoming() == []


@pytest.mark.parametrize("copy", ["none", "damaged"])
def test_a_damaged_file_is_never_published(bench: Bench, copy: str) -> None:
    """Its error names the file; the others are told (MODEL-053)."""
    (small, one), (large, two) = bench.version(JSON, 0), bench.version(BINARY, 1)
    bench.perform(small)
    bench.perform(large)
    bench.files.path(one).write_bytes(b"torn")
    bench.broker.forget()
    if copy == "damaged":
        bench.broker.route(Publish("fl/models/m_v0", b"also", retain=True))
    bench.broker.published.clear()
    later = bench.restarted()
    refreshed, spoiled = later.perform(Refresh((one, two), "{}", blobs=True))
    assert refreshed == Refreshed(7.0)
    assert (spoiled.name, spoiled.version) == ("m", 0)
    assert "m_v0.json" in spoiled.why
    assert [each.topic for each in later.broker.published] == ["fl/models/m_v1", "fl/models/index"]
    assert later.incoming() == []


def test_a_version_whose_file_was_lost_is_not_released(bench: Bench) -> None:
    """A loss of power can take a file whose store entry survived (MODEL-053)."""
    release, _ = bench.version(JSON)
    (bench.folder / "incoming" / release.version.file).unlink()
    (event,) = bench.perform(release)
    assert isinstance(event, Spoiled)
    assert "is missing" in event.why
    assert bench.topics() == []


def test_a_full_disk_refuses_a_blob_and_the_next_is_fetched(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender may offer it again.

    Regression: the effect raised, and the blob counted as being fetched for ever.
    """
    manifest = bench.blob(LARGE)
    with monkeypatch.context() as patched:

        def full(*_args: Any) -> None:
            raise OSError(28, "No space left on device")

        patched.setattr(bench.files, "read", full)
        (event,) = bench.perform(FetchSubmission(manifest))
    assert (event.refusal.name, event.sha256) == ("blob_unavailable", manifest.sha256)
    assert "No space left" in event.detail


def test_only_this_process_is_ended(bench: Bench) -> None:
    """Whatever ended an earlier one may be mended by now (MODEL-051)."""
    told: list[str] = []
    bench.session.on_fatal = told.append
    bench.perform(Refuse(6.0, "earlier"))
    bench.perform(Refuse(7.0, "now"))
    assert told == ["now"]


def test_what_a_killed_process_left_is_deleted(bench: Bench) -> None:
    """But nothing that came since the start."""
    event = bench.publish(JSON)
    old = bench.folder / "incoming" / "old"
    old.write_bytes(b"x")
    os.utime(old, (1.0, 1.0))
    bench.perform(Tidy(("old",), 2.0))
    assert bench.incoming() == [event.file, "old"]
    bench.perform(Tidy((), 2.0))
    assert bench.incoming() == [event.file]
