"""Tensors of strangers: files that lie about themselves, JSON that cannot be written again."""

import json
import time
from typing import Any

import msgpack
import numpy as np
import pytest
from roost.manager.core.jsontext import read_object
from roost.protocol.round.label import read_label
from roost.protocol.round.messages import Rollback, RoundStart
from roost.protocol.round.model import ModelForm, digest, parse_model
from roost.protocol.round.tensorfile import MAX_DIMENSIONS, MAX_NAME, read_layout
from roost.protocol.round.update import parse_update
from roost.protocol.task.messages import Report, TaskRequest
from roost.wire.refusal import Refused

from .shapes import entry, raw, update_map

HALF = "\ud800"
SOON_S = 20.0


def refusal(payload: bytes) -> str:
    """Return the name under which a model is refused; it must be, and soon."""
    began = time.monotonic()
    with pytest.raises(Refused) as caught:
        parse_model(payload)
    assert time.monotonic() - began < SOON_S
    return caught.value.refusal.name


@pytest.mark.parametrize("name", ["", "a\0b", HALF, "n" * (MAX_NAME + 1)])
def test_names_that_a_digest_cannot_hold_are_refused(name: str) -> None:
    """In a file and in JSON: with NUL two models could have one digest (MODEL-012)."""
    assert refusal(raw({name: entry(0, 4)}, bytes(4))) == "bad_model"
    for update in ({name: [1.0]}, {"w": [1.0], name: 2.0}):
        with pytest.raises(Refused, match="bad_update"):
            parse_update(json.dumps(update_map(update=update)).encode())


def test_without_this_rule_two_models_would_have_one_digest() -> None:
    """What the name of one says, the tensors of the other hold (MODEL-012)."""
    one = {"a": np.frombuffer(b"b\0<f4\0\x31\0" + bytes(4), "<f4")}
    two = {"a\0<f4\0003\0b": np.zeros(1, "<f4")}
    assert digest(one) == digest(two)


@pytest.mark.parametrize(
    "header",
    [
        json.dumps({"a": entry(0, 4)}).encode("utf-16"),
        json.dumps({"a": entry(0, 4)}).encode("utf-32"),
        b"\xef\xbb\xbf" + json.dumps({"a": entry(0, 4)}).encode(),
        b'{"a":%s,"a":%s}' % ((json.dumps(entry(0, 4)).encode(),) * 2),
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1e999}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":0}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":%s}}'
        % (b"[" * 200 + b"]" * 200),
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":NaN}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1%s}}' % (b"0" * 310),
        b'{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    ],
)
def test_a_header_that_readers_would_not_agree_on_is_refused(header: bytes) -> None:
    """Other encodings than UTF-8, one name twice, numbers that are none (MODEL-012)."""
    assert refusal(raw(header, bytes(4))) == "bad_model"


@pytest.mark.parametrize(
    "shape",
    [
        [1] * (MAX_DIMENSIONS + 1),
        [1] * 100_000,
        [0, 2**64],
        [2**63, 2**63, 0],
        [int("9" * 400)] * 3000,
        [int("9" * 4000)] * 900,
    ],
)
def test_shapes_are_judged_before_they_are_multiplied(shape: list[int]) -> None:
    """Thousands of huge dimensions took minutes, seventy small ones broke NumPy (MODEL-013)."""
    assert refusal(raw({"a": entry(0, 4, shape)}, bytes(4))) == "bad_model"


def test_as_many_dimensions_as_json_has_are_read() -> None:
    """The limit is the same in both forms (MODEL-013)."""
    file = raw({"a": entry(0, 4, [1] * MAX_DIMENSIONS)}, bytes(4))
    assert read_layout(file).entries[0].shape == (1,) * MAX_DIMENSIONS
    assert parse_model(file).tensors["a"].ndim == MAX_DIMENSIONS


@pytest.mark.parametrize(
    "metadata", [{"architecture": HALF}, {HALF: "x"}, {"x": f"a{HALF}b"}, {"x": 1}, ["x"]]
)
def test_a_files_metadata_can_be_written_again(metadata: Any) -> None:
    """Else every average of the model would fail (MODEL-014)."""
    header = {"__metadata__": metadata, "a": entry(0, 4)}
    assert refusal(raw(header, bytes(4))) == "bad_model"


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ('"x":1e999', "not_finite"),
        ('"x":[{"y":-1e999}]', "not_finite"),
        ('"x":NaN', "not_finite"),
        ('"x":"\\ud800"', "bad_model"),
        ('"\\udfff":1', "bad_model"),
    ],
)
def test_what_a_json_model_says_beside_its_tensors_can_be_written_again(
    more: str, name: str
) -> None:
    """Infinity and half characters would be published as something that is no JSON (MODEL-014)."""
    assert refusal(b'{"w":[1],%s}' % more.encode()) == name


@pytest.mark.parametrize(
    "payload",
    [
        b'{"w":[' + b"[]," * 2_000_000 + b"[]]}",
        b'{"w":[1],"x":[' + b"{}," * 2_000_000 + b"{}]}",
        b'{"w":[1],"x":[' + b'"",' * 2_000_000 + b'""]}',
    ],
)
def test_json_of_many_small_parts_is_refused_unread(payload: bytes) -> None:
    """It would take thirty times its size in memory (WIRE-064)."""
    assert refusal(payload) == "bad_model"


def test_what_cannot_be_shown_is_not_shown() -> None:
    """The repr of a deep object would end in a RecursionError (WIRE-064)."""
    deep: bytes = b'{"x":' * 300 + b"1" + b"}" * 300
    assert refusal(b'{"w":%s}' % deep) == "bad_model"


@pytest.mark.parametrize("depth", [50, 500, 950])
def test_a_type_that_cannot_be_shown_is_refused(depth: int) -> None:
    """Nor could a deep list (WIRE-064)."""
    deep = b"[" * depth + b"]" * depth
    header = b'{"a":{"dtype":%s,"shape":[1],"data_offsets":[0,4]}}' % deep
    assert refusal(raw(header, bytes(4))) == "bad_model"


def test_announced_lengths_take_no_memory() -> None:
    """MessagePack says how many items follow; none do (WIRE-064)."""
    for kind in (b"\xdd", b"\xdf"):
        packed = (kind + (2**31).to_bytes(4, "big")) * 1000
        with pytest.raises(Refused, match="bad_update"):
            parse_update(packed)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc1",
        b"\x81",
        msgpack.packb([1]),
        msgpack.packb({1: 2}),
        msgpack.packb(update_map(update=b"")),
        msgpack.packb(update_map(num_samples=2**64 - 1, update=msgpack.Timestamp(1))),
        msgpack.packb(update_map(update=b"x"))[:-1],
        msgpack.packb(update_map(update=b"x")) + b"x",
        b"\x81\xa1\xff\x01",
        b"\x91" * 5000,
    ],
)
def test_broken_messagepack_is_refused(packed: bytes) -> None:
    """Cut short, too long, of the wrong kind (UPDATE-001)."""
    with pytest.raises(Refused):
        parse_update(packed)


def test_a_metric_whose_name_is_no_text_is_left_out() -> None:
    """It ended the coordinator: nothing that holds it can be stored (UPDATE-006)."""
    payload = json.dumps(update_map(metrics={HALF: 1.0, "loss": 2.0})).encode()
    assert parse_update(payload).metrics == {"loss": 2.0}


@pytest.mark.parametrize("field", ["version", "parent"])
def test_versions_have_nine_digits_at_most(field: str) -> None:
    """A longer one has no topic (MODEL-001)."""
    with pytest.raises(Refused, match="bad_model"):
        read_label(ModelForm.JSON, {field: 10**9})
    with pytest.raises(Refused, match="malformed"):
        Rollback.decode(b'{"version":1000000000}')


def test_a_refusal_quotes_little() -> None:
    """A name of megabytes was kept, logged and published with every state (WIRE-060)."""
    with pytest.raises(Refused) as caught:
        read_layout(raw({"n" * 4_000_000: {}}))
    assert len(str(caught.value)) < 2000
    for text in (HALF * 5000, "ä" * 5000):
        detail = Refused(caught.value.refusal, text).detail
        assert len(detail) == 1000
        assert detail.encode().decode() == detail


def test_half_a_character_is_no_text() -> None:
    """Wherever it stands: nothing that holds it can be stored or published again (WIRE-065)."""
    half = b'"\\ud800"'
    for read, payload in (
        (Report.decode, b'{"attempt":1,"boot_id":"b","status":"running","progress":{"x":%s}}'),
        (Report.decode, b'{"attempt":1,"boot_id":"b","status":"running","message":%s}'),
        (TaskRequest.decode, b'{"task_id":"t","image":"file:x","env":{"A":%s}}'),
        (RoundStart.decode, b'{"round_id":"r","hyperparams":{"x":%s}}'),
        (read_object, b'{"x":[%s]}'),
        (parse_update, b'{"round_id":%s,"update":{"w":[1]}}'),
        (parse_model, b'{"w":[1],"architecture":%s}'),
    ):
        with pytest.raises(Refused):
            read(payload % half)


@pytest.mark.parametrize("number", ["3.5e38", "-1e300", "1.7976931348623157e308"])
def test_one_participant_cannot_make_the_mean_infinite(number: str) -> None:
    """A number that JSON can say and the base's type cannot failed the round (UPDATE-007)."""
    said = json.dumps(update_map(update={"w": [0.5, 1], "b": 7}))
    for place in ("0.5", "7"):
        with pytest.raises(Refused, match="not_finite"):
            parse_update(said.replace(place, number).encode())
    wide = raw({"a": entry(0, 16, [2], "F64")}, np.array([1, float(number)], "<f8").tobytes())
    with pytest.raises(Refused, match="not_finite"):
        parse_update(msgpack.packb(update_map(update=wide)))
    parse_model(wide)


def test_the_largest_numbers_of_32_bits_are_taken() -> None:
    """Whatever a participant with the base's own type can say (UPDATE-007)."""
    largest = float(np.finfo("<f4").max)
    for update in ({"w": [largest, -largest]}, {"w": []}):
        assert parse_update(json.dumps(update_map(update=update)).encode()).num_samples == 10
