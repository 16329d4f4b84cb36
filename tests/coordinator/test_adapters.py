"""The coordinator's adapters on real files and an in-memory broker."""

import hashlib
import itertools
import json
import os
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from roost.chassis.blobs import manifest_of, offer
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.testing import MemoryBroker
from roost.chassis.transfer import Fetcher
from roost.coordinator.adapters import performers as performers_module
from roost.coordinator.adapters.decode import Decode
from roost.coordinator.adapters.models import Models
from roost.coordinator.adapters.performers import Performers
from roost.coordinator.adapters.spool import Spool, summary
from roost.coordinator.core.desk import Desk
from roost.coordinator.core.effects import (
    SERVICE_EFFECTS,
    Average,
    DropOutgoing,
    DropSpools,
    FetchModel,
    FetchUpdate,
    PublishModel,
    SpooledUpdate,
    Tidy,
)
from roost.coordinator.core.events import (
    Averaged,
    AverageFailed,
    BaseRead,
    BaseUnavailable,
    ExperimentOrdered,
    ExperimentStopOrdered,
    IndexRead,
    OrderRefused,
    PropletSeen,
    RollbackOrdered,
    RoundOrdered,
    RoundUnreadable,
    TaskChanged,
    UpdateArrived,
    UpdateOffered,
    UpdateUnreadable,
)
from roost.coordinator.core.state import Keep
from roost.protocol.round.model import Model, ModelForm, digest, encode_model, parse_model
from roost.protocol.round.tensorfile import read_layout
from roost.wire.blob import MANIFEST_CONTENT_TYPE, Manifest
from roost.wire.refusal import Refused

from .stage import safetensors_model, start, update

BASE = "fl/models/global_model_v0"
SOURCE = (("source-topic", "fl/rounds/r/updates/a"),)


class Bench:
    """The adapters over a folder and an in-memory broker."""

    def __init__(self, folder: Path) -> None:
        counter = itertools.count()
        self.broker = MemoryBroker()
        session = self.broker.session()
        session.start()
        self.spool = Spool(folder / "spool", lambda: str(next(counter)))
        self.models = Models(folder / "models")
        self.performers = Performers(
            session, Fetcher(session), self.spool, self.models, lambda: 7.0
        )
        self.decode = Decode(self.spool)
        self.folder = folder

    def perform(self, effect: Any) -> list[Any]:
        """Carry one effect out."""
        return list(self.performers.table()[type(effect)](effect) or ())

    def retain(self, topic: str, payload: bytes, owner: str | None = None) -> None:
        """Keep a payload on a topic, as a blob if it has an owner."""
        if owner is None:
            self.broker.route(Publish(topic, payload, retain=True))
            return
        manifest = self.blob(payload, owner)
        content_type = MANIFEST_CONTENT_TYPE
        self.broker.route(Publish(topic, manifest.encode(), retain=True, content_type=content_type))

    def blob(self, payload: bytes, owner: str) -> Manifest:
        """Offer a blob."""
        path = self.folder / "blob"
        path.write_bytes(payload)
        manifest = manifest_of(owner, path)
        for message in offer(manifest, path):
            self.broker.route(message)
        return manifest

    def spooled(self) -> list[Path]:
        """Return all files of the spool."""
        return [path for path in (self.folder / "spool").rglob("*") if path.is_file()]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return adapters that do not wait long for what is not there."""
    monkeypatch.setattr(performers_module, "FETCH_TIMEOUT_S", 0.05)
    return Bench(tmp_path)


def said(bench: Bench, topic: str, payload: bytes = b"", **more: Any) -> Any:
    """Decode a message."""
    return bench.decode(Received(topic, payload, **more), 5.0)


def test_every_effect_has_a_lane_and_a_performer(bench: Bench) -> None:
    """And the core names them all for the journal."""
    assert set(bench.performers.table()) == set(SERVICE_EFFECTS) == set(Desk(Keep()).effects)
    manifest = Manifest(owner="a", sha256="ab" * 32, size=1)
    effects = (
        FetchModel("r", BASE, "d"),
        FetchUpdate("r", "a", manifest),
        Average("r", BASE, "d", ()),
        PublishModel("r", "m", 1, 0, "d", binary=True),
        DropOutgoing("r"),
        DropSpools(()),
        Tidy((), (), 0.0),
    )
    lanes = [each.lane for each in effects]
    assert lanes == ["fetch", "intake", "average", "publish", "publish", "files", "files"]


def test_it_subscribes_to_what_it_understands() -> None:
    """The index before orders, so that a start after a connect finds it."""
    assert Decode.subscriptions() == [
        "fl/models/index",
        "proplets/+/presence",
        "tasks/+/state",
        "fl/rounds/start",
        "fml/updates",
        "fl/models/rollback",
        "fl/experiments/start",
        "fl/experiments/+/stop",
    ]


def test_a_start_is_read(bench: Bench) -> None:
    """With its text and the digest of its bytes."""
    payload = start("r", ("a",), 1)
    event = said(bench, "fl/rounds/start", payload)
    assert isinstance(event, RoundOrdered)
    assert event.payload.encode() == payload
    assert event.sha256 == hashlib.sha256(payload).hexdigest()


@pytest.mark.parametrize(
    ("payload", "round_id"),
    [
        (b'{"round_id":"r-1"}', "r-1"),
        (b'{"round_id" : "e:0001", "k_of_n": 1,', "e:0001"),
        (b'{"round_id":"r-1","k_of_n":NaN}', "r-1"),
        (b'{"round_id":"a/b"}', None),
        (b'{"round_id":7}', None),
        (b'{"round_id":["r"]}', None),
        (b"[1]", None),
        (b"{", None),
        (b"\xff", None),
        (b'{"a":' + b"[" * 100_000, None),
    ],
)
def test_an_unreadable_start_keeps_its_id_if_it_has_one(
    bench: Bench, payload: bytes, round_id: str | None
) -> None:
    """So that its sender finds the reason (ROUND-004)."""
    event = said(bench, "fl/rounds/start", payload)
    if round_id is None:
        assert isinstance(event, OrderRefused)
        assert event.refusal.name == "malformed"
    else:
        assert isinstance(event, RoundUnreadable)
        assert event.round_id == round_id


@pytest.mark.parametrize(
    "topic",
    ["fl/rounds/start", "fl/models/rollback", "fl/experiments/start", "fl/experiments/e/stop"],
)
def test_retained_orders_are_refused(bench: Bench, topic: str) -> None:
    """They would be carried out again after every reconnect."""
    event = said(bench, topic, b"{}", retain=True)
    assert isinstance(event, OrderRefused)
    assert event.refusal.name == "retained_order"


def test_the_other_orders_are_read(bench: Bench) -> None:
    """Or refused as an event, so that they are counted where people look."""
    event = said(bench, "fl/models/rollback", b'{"version":3}')
    assert isinstance(event, RollbackOrdered)
    assert (event.order.name, event.order.version) == ("global_model", 3)
    assert isinstance(said(bench, "fl/models/rollback", b"{}"), OrderRefused)
    fields = json.loads(start("r", ("a",), 1))
    del fields["round_id"]
    payload = json.dumps({**fields, "experiment_id": "e", "rounds": 2}).encode()
    event = said(bench, "fl/experiments/start", payload)
    assert isinstance(event, ExperimentOrdered)
    assert event.payload.encode() == payload
    event = said(bench, "fl/experiments/e/stop")
    assert isinstance(event, ExperimentStopOrdered)
    assert (event.experiment_id, event.reason) == ("e", "stopped")
    assert said(bench, "fl/experiments/a b/stop") is None


def test_others_states_are_read(bench: Bench) -> None:
    """Index, presences, and the states of tasks that a start launched."""
    assert isinstance(said(bench, "fl/models/index", b"{}", retain=True), IndexRead)
    assert said(bench, "fl/models/index") is None
    with pytest.raises(Refused):
        said(bench, "fl/models/index", b"[")
    assert said(bench, "proplets/p-1/presence", b"{}") == PropletSeen(5.0, "p-1")
    assert said(bench, "proplets/p-1/presence") is None
    state = {
        "task_id": "e:0001:p-1",
        "state": "failed",
        "reason": "trap",
        "launch": {"topic": "fl/rounds/start", "sha256": "ab" * 32, "key": "e:0001"},
    }
    event = said(bench, "tasks/e:0001:p-1/state", json.dumps(state).encode())
    assert isinstance(event, TaskChanged)
    assert (event.round_id, event.participant) == ("e:0001", "p-1")
    assert (event.fact.status, event.fact.reason) == ("failed", "trap")
    state["launch"] = {"topic": "other", "sha256": "ab" * 32, "key": "fl/rounds/start"}
    assert said(bench, "tasks/t/state", json.dumps(state).encode()) is None
    assert said(bench, "tasks/t/state", b'{"task_id":"t","state":"failed"}') is None
    assert said(bench, "tasks/t/state") is None


@pytest.mark.parametrize("binary", [False, True])
def test_an_update_is_on_disk_when_its_event_exists(bench: Bench, binary: bool) -> None:
    """Its sender and round are the source topic's (ROUND-010, ROUND-014)."""
    payload = update("s", {"w": np.ones(3, "<f4")}, 5, binary=binary, metrics={"loss": 2.0})
    event = said(bench, "fml/updates", payload, properties=SOURCE)
    assert isinstance(event, UpdateArrived)
    arrival = event.arrival
    assert (event.round_id, arrival.sender, arrival.round_id) == ("r", "a", "s")
    assert (arrival.num_samples, arrival.metrics) == (5, {"loss": 2.0})
    assert (arrival.dtypes is not None) == binary
    assert arrival.summary == ("w f4(3)" if binary else "w f8(3)")
    layout = read_layout(bench.spool.path(arrival.spool).read_bytes())
    assert [each.name for each in layout.entries] == ["w"]
    again = said(bench, "fml/updates", payload, properties=SOURCE)
    assert again.arrival.spool != arrival.spool, "every arrival has a file of its own"
    bench.perform(DropSpools((again.arrival.spool,)))
    assert bench.spooled() == [bench.spool.path(arrival.spool)]
    bench.perform(DropSpools((arrival.spool, "r/gone")))
    assert not (bench.folder / "spool" / "r").exists()


@pytest.mark.parametrize("source", [None, "", "fl/rounds/r/updates", "x/fl/rounds/r/updates/a"])
def test_an_update_without_its_source_is_refused(bench: Bench, source: str | None) -> None:
    """Only the manager writes here (ROUND-010)."""
    properties = () if source is None else (("source-topic", source),)
    event = said(bench, "fml/updates", b"x", properties=properties)
    assert isinstance(event, OrderRefused)
    assert event.refusal.name == "bad_source"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "bad_update"),
        (b"{}", "malformed"),
        (update("r", {"w": [np.inf]}, 1), "not_finite"),
        (update("r", {"w": np.asarray([np.nan], "<f4")}, 1, binary=True), "not_finite"),
    ],
)
def test_an_unreadable_update_leaves_nothing(bench: Bench, payload: bytes, reason: str) -> None:
    """It is refused with its reason."""
    event = said(bench, "fml/updates", payload, properties=SOURCE)
    assert isinstance(event, UpdateUnreadable)
    assert (event.round_id, event.sender, event.refusal.name) == ("r", "a", reason)
    assert not bench.spooled()


@pytest.mark.parametrize("binary", [False, True])
def test_a_large_update_is_fetched_and_taken_in(bench: Bench, binary: bool) -> None:
    """As if it had come whole; the fetched file goes."""
    payload = update("r", {"w": np.ones(100_000)}, 5, binary=binary)
    manifest = bench.blob(payload, "a")
    event = said(
        bench,
        "fml/updates",
        manifest.encode(),
        properties=SOURCE,
        content_type=MANIFEST_CONTENT_TYPE,
    )
    assert event == UpdateOffered(5.0, "r", "a", manifest)
    (event,) = bench.perform(FetchUpdate("r", "a", manifest))
    assert isinstance(event, UpdateArrived)
    assert bench.spooled() == [bench.spool.path(event.arrival.spool)]
    damaged = said(
        bench, "fml/updates", b"{}", properties=SOURCE, content_type=MANIFEST_CONTENT_TYPE
    )
    assert isinstance(damaged, UpdateUnreadable)


def test_a_large_update_that_cannot_be_had_is_refused(bench: Bench) -> None:
    """Chunks that are not there, and bytes that are no update; nothing is left."""
    away = Manifest(owner="a", sha256="ab" * 32, size=10)
    (event,) = bench.perform(FetchUpdate("r", "a", away))
    assert (event.refusal.name, event.sender) == ("blob_unavailable", "a")
    for content, reason in ((b"rubbish", "bad_update"), (b"", "bad_update")):
        (event,) = bench.perform(FetchUpdate("r", "a", bench.blob(content, "a")))
        assert isinstance(event, UpdateUnreadable)
        assert event.refusal.name == reason
    assert not bench.spooled()


def test_summaries_are_short() -> None:
    """Six tensors are named, the others counted."""
    content = safetensors_model({f"t{n}": np.zeros((2, n), "<f4") for n in range(9)})
    assert summary(read_layout(content)) == (
        "t0 f4(2,0), t1 f4(2,1), t2 f4(2,2), t3 f4(2,3), t4 f4(2,4), t5 f4(2,5) and 3 more"
    )


MODELS = {
    "json": b'{"w":[1.0,2.0],"b":0.5,"version":0,"kept":"x"}',
    "safetensors": safetensors_model(
        {"w": np.asarray([1, 2], "<f4"), "b": np.asarray(0.5, "<f4")},
        architecture="mlp",
        version="0",
    ),
}


def model_digest(content: bytes) -> str:
    """Return the digest of a model's bytes."""
    return digest(parse_model(content).tensors)


@pytest.mark.parametrize("owner", [None, "model-server"], ids=["inline", "blob"])
@pytest.mark.parametrize("form", MODELS)
def test_a_model_is_fetched_once(bench: Bench, form: str, owner: str | None) -> None:
    """Later it is at hand without a broker."""
    content = MODELS[form]
    bench.retain(BASE, content, owner)
    effect = FetchModel("r", BASE, model_digest(content))
    (event,) = bench.perform(effect)
    assert isinstance(event, BaseRead)
    assert event.summary == ("b f8(), w f8(2)" if form == "json" else "b f4(), w f4(2)")
    bench.broker.forget()
    assert bench.perform(effect) == [event]
    arrival = said(
        bench, "fml/updates", update("r", {"w": [0, 0], "b": 0}, 1), properties=SOURCE
    ).arrival
    assert arrival.shapes == event.shapes


def test_a_model_that_is_not_what_the_index_says_is_not_used(bench: Bench) -> None:
    """Nothing, an empty file, rubbish, other tensors; nothing is kept of them."""
    effect = FetchModel("r", BASE, "ab" * 32)
    (event,) = bench.perform(effect)
    assert isinstance(event, BaseUnavailable)
    for content in (b"rubbish", MODELS["json"]):
        bench.retain(BASE, content)
        (event,) = bench.perform(effect)
        assert isinstance(event, BaseUnavailable)
        assert "340" in event.detail or "wrong_digest" in event.detail
    bench.retain(BASE, b"", "model-server")
    (event,) = bench.perform(effect)
    assert "the topic is empty" in event.detail
    assert [path.name for path in (bench.folder / "models").iterdir()] == ["outgoing"]


@pytest.mark.parametrize("form", MODELS)
def test_updates_become_a_model_of_the_bases_form(bench: Bench, form: str) -> None:
    """The base is fetched again if it went meanwhile (ROUND-023)."""
    content = MODELS[form]
    bench.retain(BASE, content)
    summands = []
    for sender, samples in (("a", 1), ("b", 3)):
        payload = update("r", {"w": [float(samples), 0.0], "b": 1.0}, samples)
        source = (("source-topic", f"fl/rounds/r/updates/{sender}"),)
        arrival = said(bench, "fml/updates", payload, properties=source).arrival
        summands.append(SpooledUpdate(arrival.spool, samples))
    effect = Average("r", BASE, model_digest(content), tuple(summands))
    (event,) = bench.perform(effect)
    assert isinstance(event, Averaged)
    made = parse_model(bench.models.path(event.digest).read_bytes())
    assert made.form == form
    assert made.tensors["w"].tolist() == [2.5, 0.0]
    assert made.tensors["w"].dtype == (np.float64 if form == "json" else np.float32)
    assert dict(made.metadata) == ({"kept": "x"} if form == "json" else {"architecture": "mlp"})
    assert bench.perform(effect) == [event], "twice does no harm"
    bench.spool.path(summands[0].spool).unlink()
    (event,) = bench.perform(effect)
    assert isinstance(event, AverageFailed)
    assert event.refusal.name == "average_failed"


def test_an_average_out_of_range_is_told(bench: Bench) -> None:
    """By its own reason; no file is left half-written (ROUND-022)."""
    content = b'{"w":[0.0]}'
    bench.retain(BASE, content)
    payload = update("r", {"w": [1.7e308]}, 2)
    arrival = said(bench, "fml/updates", payload, properties=SOURCE).arrival
    summand = SpooledUpdate(arrival.spool, 2)
    (event,) = bench.perform(Average("r", BASE, model_digest(content), (summand,)))
    assert isinstance(event, AverageFailed)
    assert event.refusal.name == "not_finite"
    names = {path.name for path in (bench.folder / "models").iterdir()}
    assert names == {"outgoing", model_digest(content)}


@pytest.mark.parametrize(
    ("form", "size"), [("json", 3), ("json", 60_000), ("safetensors", 3), ("safetensors", 300_000)]
)
def test_a_model_is_sent_with_its_label(bench: Bench, form: str, size: int) -> None:
    """Inline or as a blob; afterwards nothing of it is left (MODEL-020)."""
    tensors = {"w": np.linspace(0, 1, size, dtype="<f8" if form == "json" else "<f4")}
    metadata = {"kept": "x", "version": 0 if form == "json" else "0"}
    content = encode_model(Model(ModelForm(form), tensors, metadata))
    bench.retain(BASE, content, "model-server")
    known = model_digest(content)
    bench.perform(FetchModel("r", BASE, known))
    bench.broker.published.clear()
    bench.perform(PublishModel("r", "m", 4, 3, known, binary=form != "json", metrics={"loss": 0.5}))
    message = bench.broker.published[-1]
    assert message.topic == "fl/models/publish"
    assert not message.retain
    sent = message.payload
    if size > 3:
        assert message.content_type == MANIFEST_CONTENT_TYPE
        into = bench.folder / "fetched"
        session = bench.broker.session()
        session.start()
        Fetcher(session).fetch_blob(Manifest.decode(sent), 1.0, into)
        sent = into.read_bytes()
    model = parse_model(sent)
    assert digest(model.tensors) == known
    assert (str(model.metadata["version"]), str(model.metadata["parent"])) == ("4", "3")
    assert (model.metadata["kept"], model.metadata["publish_id"]) == ("x", "r")
    assert model.metadata["digest"] == known
    bench.perform(DropOutgoing("r"))
    bench.perform(DropOutgoing("r"))
    assert not list((bench.folder / "models" / "outgoing").iterdir())
    assert not [topic for topic in bench.broker.retained if topic.startswith("blobs/coordinator/")]


def test_a_model_that_cannot_be_sent_is_left_to_the_timer(bench: Bench) -> None:
    """The core sends it again until the index lists it (MODEL-037)."""
    assert bench.perform(PublishModel("r", "m", 4, 3, "ab" * 32, binary=True)) == []
    assert not bench.broker.published


def test_a_base_that_cannot_be_opened_is_unavailable(bench: Bench) -> None:
    """The round waits and says so."""
    bench.models.path("ab" * 32).mkdir()
    (event,) = bench.perform(FetchModel("r", BASE, "ab" * 32))
    assert isinstance(event, BaseUnavailable)


def test_what_is_not_needed_any_more_goes(bench: Bench) -> None:
    """Rounds and models that are named stay, and so does what is newer."""
    bench.perform(Tidy((), (), 1e12))
    for round_id in ("old", "kept"):
        source = (("source-topic", f"fl/rounds/{round_id}/updates/a"),)
        said(bench, "fml/updates", update(round_id, {"w": [1]}, 1), properties=source)
    (bench.folder / "spool" / ".fetch.9").write_bytes(b"left by a killed process")
    for name in ("aa", "bb"):
        bench.models.path(name).write_bytes(b"x")
    bench.perform(Tidy((), (), 1.0))
    assert len(bench.spooled()) == 3, "all of it is newer than that"
    bench.perform(Tidy(("kept",), ("aa",), 1e12))
    assert [path.parent.name for path in bench.spooled()] == ["kept"]
    assert {path.name for path in (bench.folder / "models").iterdir()} == {"aa", "outgoing"}


def test_a_model_in_use_is_not_tidied_away(bench: Bench) -> None:
    """Having it at hand makes it new again."""
    content = MODELS["json"]
    path = bench.models.path(model_digest(content))
    path.write_bytes(content)
    os.utime(path, (1.0, 1.0))
    bench.perform(FetchModel("r", BASE, path.name))
    bench.perform(Tidy((), (), 1e9))
    assert path.exists()


def test_messagepack_of_another_encoder_is_read(bench: Bench) -> None:
    """Any order of keys, any width of integers."""
    tensors = safetensors_model({"w": np.ones(2, "<f4")})
    payload = msgpack.packb(
        {
            "update": tensors,
            "metrics": None,
            "num_samples": 3,
            "base_model_uri": BASE,
            "round_id": "r",
            "extra": [1, 2, {"x": b"y"}],
        }
    )
    event = said(bench, "fml/updates", payload, properties=SOURCE)
    assert isinstance(event, UpdateArrived)
    assert event.arrival.num_samples == 3
