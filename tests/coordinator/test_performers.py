"""What effects do outside; on real files and an in-memory broker."""

import os

import numpy as np
import pytest
from roost.chassis.transfer import Fetcher
from roost.coordinator.adapters.spool import summary
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
    UpdateArrived,
    UpdateOffered,
    UpdateUnreadable,
)
from roost.coordinator.core.facts import Keep
from roost.protocol.round.model import Model, ModelForm, digest, encode_model, parse_model
from roost.protocol.round.tensorfile import read_layout
from roost.wire.blob import MANIFEST_CONTENT_TYPE, Manifest

from .bench import Bench, said
from .stage import safetensors_model, update

BASE = "fl/models/global_model_v0"

SOURCE = (("source-topic", "fl/rounds/r/updates/a"),)
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
    assert bench.kept_models() == []


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
    base = Model(ModelForm.SAFETENSORS, {"w": np.zeros(1, "<f2")}, {})
    content = encode_model(base)
    bench.retain(BASE, content)
    payload = update("r", {"w": [65_536.0]}, 2)
    arrival = said(bench, "fml/updates", payload, properties=SOURCE).arrival
    summand = SpooledUpdate(arrival.spool, 2)
    (event,) = bench.perform(Average("r", BASE, model_digest(content), (summand,)))
    assert isinstance(event, AverageFailed)
    assert event.refusal.name == "not_finite"
    assert bench.kept_models() == [model_digest(content)]


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
    for name in ("aa", "bb"):
        bench.models.path(name).write_bytes(b"x")
    bench.perform(Tidy((), (), 1.0))
    assert len(bench.spooled()) == 2, "all of it is newer than that"
    bench.perform(Tidy(("kept",), ("aa",), 1e12))
    assert [path.parent.name for path in bench.spooled()] == ["kept"]
    assert bench.kept_models() == ["aa"]
    bench.perform(Tidy((), None, 1e12))
    assert bench.kept_models() == ["aa"]


def test_what_a_killed_process_wrote_and_never_took_in_goes(bench: Bench) -> None:
    """Its message came again, so the update lies there twice, once for nothing."""
    for round_id in ("r", "r", "gone"):
        source = (("source-topic", f"fl/rounds/{round_id}/updates/a"),)
        said(bench, "fml/updates", update(round_id, {"w": [1]}, 1), properties=source)
    first, second = (path for path in bench.spooled() if path.parent.name == "r")
    half = first.with_name(".a.part")
    half.write_bytes(b"half of it")
    counts = (f"r/{second.name}",)
    bench.perform(Tidy(("r", "gone"), (), 1.0, counts))
    assert len(bench.spooled()) == 4, "all of it is newer than that"
    bench.perform(Tidy(("r", "gone"), (), 1e12, counts))
    assert bench.spooled() == [second]
    assert not half.exists()


def test_work_in_progress_is_never_tidied_away(bench: Bench) -> None:
    """Another round's end must not take it; only a new process begins afresh."""
    working = [bench.spool.temporary(), bench.models.incoming("r")]
    for path in working:
        path.write_bytes(b"half of it")
        os.utime(path, (1.0, 1.0))
        os.utime(path.parent, (1.0, 1.0))
    bench.perform(Tidy((), (), 1e12))
    assert all(path.exists() for path in working)
    Bench(bench.folder)
    assert not any(path.exists() for path in working)


def test_a_model_in_use_is_not_tidied_away(bench: Bench) -> None:
    """Having it at hand makes it new again."""
    content = MODELS["json"]
    path = bench.models.path(model_digest(content))
    path.write_bytes(content)
    os.utime(path, (1.0, 1.0))
    bench.perform(FetchModel("r", BASE, path.name))
    bench.perform(Tidy((), (), 1e9))
    assert path.exists()
