"""Updates of both forms."""

import json
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roost.protocol.round.model import ModelForm, encode_safetensors
from roost.protocol.round.refusals import BAD_UPDATE, NOT_FINITE
from roost.protocol.round.tensorfile import view
from roost.protocol.round.update import (
    UpdateHeader,
    encode_binary_update,
    encode_update,
    parse_update,
)
from roost.wire.refusal import MALFORMED, NEWER_VERSION, Refused

SKETCH = b"""{
  "round_id": "r-0001",
  "base_model_uri": "fl/models/global_model_v0",
  "num_samples": 512,
  "metrics": {"loss": 0.73},
  "update": {"w": [0.12, -0.05, 1.01], "b": 0.33}
}"""
FIELDS = {
    "round_id": "r",
    "base_model_uri": "fl/models/m_v1",
    "num_samples": 3,
    "metrics": {},
    "update": {"w": [1.0]},
}


def test_the_sketched_update_is_read() -> None:
    """JSON as the first sketch of the project shows it (UPDATE-001)."""
    update = parse_update(SKETCH)
    assert (update.round_id, update.num_samples) == ("r-0001", 512)
    assert update.base_model_uri == "fl/models/global_model_v0"
    assert update.metrics == {"loss": 0.73}
    assert update.form is ModelForm.JSON
    arrays = {each.name: view(update.file, each) for each in update.layout.entries}
    assert arrays["w"].tolist() == [0.12, -0.05, 1.01]
    assert arrays["b"].shape == ()


@pytest.mark.parametrize("wrap", [bytes, memoryview], ids=["bytes", "view"])
def test_both_forms_say_the_same(wrap: Any) -> None:
    """What goes in comes out (UPDATE-002)."""
    header = UpdateHeader(round_id="r", base_model_uri="fl/models/m_v1", num_samples=7)
    tensors = {"w": np.asarray([[1.5, 2.5]], "<f4"), "b": np.asarray([0.25], "<f4")}
    for encode, form in (
        (encode_update, ModelForm.JSON),
        (encode_binary_update, ModelForm.SAFETENSORS),
    ):
        update = parse_update(wrap(encode(header, {"loss": 1.0}, tensors)))
        assert (update.form, update.num_samples, update.metrics) == (form, 7, {"loss": 1.0})
        for each in update.layout.entries:
            np.testing.assert_array_equal(view(update.file, each), tensors[each.name])


def test_metrics_that_are_no_finite_numbers_are_left_out() -> None:
    """They are for people; they never spoil an update (UPDATE-005)."""
    metrics = {
        "good": 1,
        "nan": float("nan"),
        "inf": float("inf"),
        "text": "x",
        "huge": 10**400,
        "n" * 200: 1.0,
    }
    assert parse_update(json.dumps({**FIELDS, "metrics": metrics}).encode()).metrics == {
        "good": 1.0
    }
    assert parse_update(json.dumps({**FIELDS, "metrics": [1]}).encode()).metrics == {}
    many = {str(n): n for n in range(100)}
    assert len(parse_update(json.dumps({**FIELDS, "metrics": many}).encode()).metrics) == 64
    packed = msgpack.packb({**FIELDS, "metrics": {"a": 1.0, b"b": 2.0}})
    assert parse_update(packed).metrics == {"a": 1.0}


@pytest.mark.parametrize(
    ("payload", "refusal", "says"),
    [
        (b'{"round_id"', BAD_UPDATE, "not JSON"),
        (b'{"a":' + b"[" * 100_000, BAD_UPDATE, "not JSON"),
        (b"", BAD_UPDATE, "neither JSON nor MessagePack"),
        (b"\xc1", BAD_UPDATE, "neither JSON nor MessagePack"),
        (msgpack.packb([1]), BAD_UPDATE, "a list instead of an object"),
        (msgpack.packb({1: 2}), BAD_UPDATE, "neither JSON nor MessagePack"),
        (msgpack.packb({**FIELDS, "num_samples": b"3"}), BAD_UPDATE, "JSON cannot say"),
        (json.dumps({**FIELDS, "num_samples": "3"}).encode(), MALFORMED, "num_samples"),
        (json.dumps({**FIELDS, "num_samples": 3.5}).encode(), MALFORMED, "num_samples"),
        (json.dumps({**FIELDS, "round_id": "a/b"}).encode(), MALFORMED, "round_id"),
        (json.dumps({**FIELDS, "base_model_uri": "x"}).encode(), MALFORMED, "base_model_uri"),
        (json.dumps({**FIELDS, "v": 2}).encode(), NEWER_VERSION, "v 2"),
        (b"{}", MALFORMED, "round_id"),
        (json.dumps({**FIELDS, "update": 3}).encode(), BAD_UPDATE, "neither numbers"),
        (json.dumps({**FIELDS, "update": {}}).encode(), BAD_UPDATE, "0 tensors"),
        (json.dumps({**FIELDS, "update": {"w": ["x"]}}).encode(), BAD_UPDATE, "no number"),
        (json.dumps({**FIELDS, "update": {"w": [float("nan")]}}).encode(), NOT_FINITE, "nan"),
        (b'{"round_id":"r","base_model_uri":"fl/models/m_v1","num_samples":1,"update":{"w":1e999}}',
         NOT_FINITE, "inf"),
        (msgpack.packb({**FIELDS, "update": b"rubbish"}), BAD_UPDATE, "safetensors"),
        (
            msgpack.packb(
                {**FIELDS, "update": encode_safetensors({"w": np.asarray([np.inf], "<f4")}, {})}
            ),
            NOT_FINITE,
            "'w'",
        ),
    ],
)  # fmt: skip
def test_a_wrong_update_is_refused(payload: bytes, refusal: Any, says: str) -> None:
    """Each with its own reason (UPDATE-001, UPDATE-002, UPDATE-005)."""
    with pytest.raises(Refused) as caught:
        parse_update(payload)
    assert caught.value.refusal is refusal
    assert says in caught.value.detail


@given(st.binary(max_size=100))
@settings(deadline=None)
def test_no_bytes_make_it_raise_anything_else(payload: bytes) -> None:
    """Garbage is refused, whatever it is."""
    with pytest.raises(Refused):
        parse_update(payload)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.fixed_dictionaries({name: st.just(value) | JSONISH for name, value in FIELDS.items()}))
@settings(deadline=None)
def test_any_fields_make_an_update_or_are_refused(fields: dict[str, Any]) -> None:
    """In either form nothing else comes out, and what comes out is finite."""
    for payload in (json.dumps(fields).encode(), _packed(fields)):
        try:
            update = parse_update(payload)
        except Refused:
            continue
        for each in update.layout.entries:
            assert np.isfinite(view(update.file, each)).all()


def _packed(fields: dict[str, Any]) -> bytes:
    try:
        packed: bytes = msgpack.packb(fields)
    except OverflowError:
        return b""  # MessagePack has no such large integers
    return packed
