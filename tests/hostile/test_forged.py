"""Forged messages: of the manager, of other participants, of other tasks."""

import json
from pathlib import Path
from typing import Any

import pytest
from roost.chassis.received import Received
from roost.coordinator.adapters.decode import Decode
from roost.coordinator.adapters.spool import Spool
from roost.coordinator.core.events import (
    OrderRefused,
    RoundUnreadable,
    TaskChanged,
    UpdateArrived,
    UpdateUnreadable,
)
from roost.manager.core.forward import encode_properties
from roost.wire.ids import MAX_DERIVED_LENGTH
from roost.wire.refusal import Refused

from .shapes import update_map

SOURCE = "source-topic"
OWN = "fl/rounds/r/updates/a"


@pytest.fixture
def decode(tmp_path: Path) -> Decode:
    """Return the coordinator's decoder."""
    numbers = iter(range(1000))
    return Decode(Spool(tmp_path / "spool", lambda: str(next(numbers))))


def update(**changed: Any) -> bytes:
    """Return an update as JSON."""
    return json.dumps(update_map(**changed)).encode()


@pytest.mark.parametrize(
    "sources",
    [
        (),
        ("",),
        (OWN, OWN),
        (OWN, "fl/rounds/r/updates/b"),
        ("x", OWN),
        ("fl/rounds/r/updates/+",),
        ("fl/rounds/r/updates",),
        ("fl/rounds/r/updates/a/b",),
        ("/fl/rounds/r/updates/a",),
        ("fl/rounds/../updates/a",),
        ("fl/rounds/r\n/updates/a",),
        (f"fl/rounds/{'r:' * 150}r/updates/a",),
        (f"fl/rounds/r/updates/{'a:' * 30_000}a",),
    ],
)
def test_a_message_that_the_manager_did_not_send_is_refused(
    decode: Decode, tmp_path: Path, sources: tuple[str, ...]
) -> None:
    """It leaves exactly one source topic, and nothing is kept of others (ROUND-040, ROUND-010)."""
    properties = tuple((SOURCE, source) for source in sources)
    event = decode(Received("fml/updates", update(), properties=properties), 1.0)
    assert isinstance(event, OrderRefused)
    assert event.refusal.name == "bad_source"
    assert [path for path in (tmp_path / "spool").rglob("*") if path.is_file()] == []


def test_the_manager_removes_what_a_client_added() -> None:
    """However often and in whatever order it came (FWD-003, ROUND-040)."""
    forged = [(SOURCE, "fl/rounds/r/updates/victim"), ("x", "y"), (SOURCE, "other")]
    encoded = encode_properties(OWN, forged)
    assert encoded.count(SOURCE.encode()) == 1
    assert OWN.encode() in encoded
    assert b"victim" not in encoded


def test_what_a_payload_says_about_its_sender_counts_for_nothing(decode: Decode) -> None:
    """Sender and round are the source topic's (ROUND-010, ROUND-040)."""
    payload = update(round_id="other", sender="victim", proplet_id="victim")
    event = decode(Received("fml/updates", payload, properties=((SOURCE, OWN),)), 1.0)
    assert isinstance(event, UpdateArrived)
    assert (event.round_id, event.arrival.sender) == ("r", "a")
    assert event.arrival.round_id == "other", "which the core refuses as wrong_round"


def test_an_update_that_cannot_be_kept_is_still_its_senders(decode: Decode) -> None:
    """It is counted on the round, where its sender looks (WIRE-022)."""
    for changed in ({"update": {"\ud800": [1.0]}}, {"update": {}}, {"num_samples": 1e999}):
        received = Received("fml/updates", update(**changed), properties=((SOURCE, OWN),))
        event = decode(received, 1.0)
        assert isinstance(event, UpdateUnreadable)
        assert (event.round_id, event.sender) == ("r", "a")


def state(**changed: Any) -> bytes:
    """Return a task's state."""
    launch = {"topic": "fl/rounds/start", "sha256": "0" * 64, "key": "r"}
    fields = {"task_id": "r:a", "state": "succeeded", "launch": launch}
    return json.dumps({**fields, **changed}).encode()


def test_a_tasks_state_counts_on_its_own_topic(decode: Decode) -> None:
    """Else whoever may write one could end another (ROUND-041)."""
    event = decode(Received("tasks/r:a/state", state()), 1.0)
    assert isinstance(event, TaskChanged)
    with pytest.raises(Refused, match="came on tasks/r:b/state"):
        decode(Received("tasks/r:b/state", state()), 1.0)


@pytest.mark.parametrize(
    "launch",
    [
        {"topic": "fl/rounds/start", "sha256": "0" * 64, "key": "r" * 4_000_000},
        {"topic": "fl/rounds/start", "sha256": "0" * 64, "key": "a/b"},
        {"topic": "fl/rounds/start", "sha256": "0" * 64, "key": ""},
        {"topic": "fl/rounds/start", "sha256": "0" * 63, "key": "r"},
        {"topic": "fl/rounds/start\n", "sha256": "0" * 64, "key": "r"},
    ],
)
def test_a_launch_that_nobody_gave_is_refused(decode: Decode, launch: dict[str, str]) -> None:
    """Its key becomes the id of a round, and of a timer (ROUND-041)."""
    with pytest.raises(Refused, match="malformed"):
        decode(Received("tasks/r:a/state", state(launch=launch)), 1.0)


def test_a_start_whose_id_is_too_long_belongs_to_no_round(decode: Decode) -> None:
    """It became a topic that no client can publish on, over and over (ROUND-004, WIRE-063)."""
    long = ":".join(["r" * 50] * 100_00)
    event = decode(Received("fl/rounds/start", b'{"round_id":"%s"}' % long.encode()), 1.0)
    assert isinstance(event, OrderRefused)
    fitting = "r" * 40 + ":" + "r" * 40
    assert len(fitting) < MAX_DERIVED_LENGTH
    event = decode(Received("fl/rounds/start", b'{"round_id":"%s"}' % fitting.encode()), 1.0)
    assert isinstance(event, RoundUnreadable)


@pytest.mark.parametrize("text", ['"\\ud800"', '"r\\n"', '"é"', '"r:"', '""', "{}", "null"])
def test_a_start_whose_id_is_none_belongs_to_no_round(decode: Decode, text: str) -> None:
    """Half a character among them, which ended in an error of its own (ROUND-004, WIRE-065)."""
    event = decode(Received("fl/rounds/start", f'{{"round_id":{text}}}'.encode()), 1.0)
    assert isinstance(event, OrderRefused)
    assert event.refusal.name == "malformed"
