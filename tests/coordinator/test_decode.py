"""Messages become events; on real files."""

import hashlib
import json

import msgpack
import numpy as np
import pytest
from roost.coordinator.adapters.decode import SUBSCRIPTIONS
from roost.coordinator.core.effects import (
    DropSpools,
)
from roost.coordinator.core.events import (
    AdoptionOrdered,
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
    UpdateUnreadable,
)
from roost.protocol.round.messages import Adopt
from roost.protocol.round.tensorfile import read_layout
from roost.protocol.task.messages import Launch, TaskState, TaskStatus
from roost.wire.refusal import Refused

from .bench import Bench, said
from .stage import safetensors_model, start, update

BASE = "fl/models/global_model_v0"

SOURCE = (("source-topic", "fl/rounds/r/updates/a"),)


def test_it_subscribes_to_what_it_understands() -> None:
    """The index before orders, so that a start after a connect finds it."""
    assert [row.filter for row in SUBSCRIPTIONS] == [
        "fl/models/index",
        "proplets/+/presence",
        "tasks/+/state",
        "fl/rounds/start",
        "fml/updates",
        "fl/models/rollback",
        "fl/models/adopt",
        "fl/experiments/start",
        "fl/experiments/+/stop",
    ]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (b'"k_of_n":1', "the field 'k_of_n' is there twice"),
        (b'"more":' + b"[" * 80 + b"]" * 80, "nested deeper than 64"),
    ],
)
def test_a_start_that_the_manager_refuses_is_refused(bench: Bench, more: bytes, why: str) -> None:
    """Otherwise the round would wait for tasks that nobody launches (BIND-010)."""
    payload = start("r", ("a",), 1)
    event = said(bench, "fl/rounds/start", payload[:-1] + b"," + more + b"}")
    assert isinstance(event, RoundUnreadable)
    assert why in event.detail


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
    [
        "fl/rounds/start",
        "fl/models/rollback",
        "fl/models/adopt",
        "fl/experiments/start",
        "fl/experiments/e/stop",
    ],
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
    event = said(bench, "fl/models/adopt", b'{"version":7}')
    assert event == AdoptionOrdered(5.0, Adopt(name="global_model", version=7))
    assert isinstance(said(bench, "fl/models/adopt", b"{}"), OrderRefused)
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
    for status, offline in (("online", False), ("asleep", False), ("offline", True)):
        card = json.dumps({"proplet_id": "p-1", "status": status, "boot_id": "b"}).encode()
        seen = PropletSeen(5.0, "p-1", offline=offline)
        assert said(bench, "proplets/p-1/presence", card, retain=True) == seen
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
    state["launch"] = {"topic": "other", "sha256": "ab" * 32, "key": "e:0001"}
    state["reason"] = "fl/rounds/start"
    assert said(bench, "tasks/e:0001:p-1/state", json.dumps(state).encode()) is None
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


@pytest.mark.parametrize(
    ("reason", "message", "stderr", "detail"),
    [
        ("exit_code", "it ended with 2", "at work\nerror: no  key\n\n", "error: no key"),
        ("exit_code", "it ended with 2", None, "it ended with 2"),
        ("trap", "it trapped", "panicked", "panicked; it trapped"),
        ("memory_limit", "it took\nmore", "at work", "it took more"),
        ("lost", None, None, None),
        ("internal", "x" * 400, None, "x" * 299 + "…"),
        (None, "its time was up", None, "its time was up"),
    ],
)
def test_a_failed_task_says_why_in_one_line(
    bench: Bench, reason: str | None, message: str | None, stderr: str | None, detail: str | None
) -> None:
    """The guest's last words, or else the proplet's message (ROUND-032)."""
    state = TaskState(
        task_id="r:a",
        state=TaskStatus.FAILED,
        reason=reason,
        message=message,
        stderr_tail=stderr,
        launch=Launch(topic="fl/rounds/start", sha256="0" * 64, key="r"),
    )
    changed = said(bench, "tasks/r:a/state", state.encode())
    assert isinstance(changed, TaskChanged)
    assert changed.fact.detail == detail
