"""Models of both forms, and their labels."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roost.protocol.round import model as model_module
from roost.protocol.round.label import ModelLabel, read_label, with_label, without_label
from roost.protocol.round.model import (
    Model,
    ModelForm,
    check_tensors,
    digest,
    encode_model,
    encode_safetensors,
    is_json,
    parse_model,
    tensors_from_json,
)
from roost.protocol.round.refusals import BAD_MODEL, NOT_FINITE
from roost.protocol.round.tensorfile import MAX_TENSORS
from roost.wire.refusal import Refused

FINITE = st.floats(allow_nan=False, allow_infinity=False)
DIGEST = "ab" * 32


def test_the_sketched_model_is_read_and_written_as_it_is() -> None:
    """JSON keeps its keys, its numbers and its order (MODEL-002)."""
    payload = b'{"w":[0.12,-0.05,1.01],"b":0.33,"version":3}'
    model = parse_model(payload)
    assert model.form is ModelForm.JSON
    assert model.tensors["w"].dtype == np.float64
    assert model.tensors["b"].shape == ()
    assert model.metadata == {"version": 3}
    assert encode_model(model) == payload


@given(st.lists(FINITE, min_size=1), FINITE)
@settings(deadline=None)
def test_json_numbers_come_back_as_they_were(w: list[float], b: float) -> None:
    """Writing takes the shortest number that reads back the same."""
    model = Model(ModelForm.JSON, {"w": np.asarray(w), "b": np.asarray(b)}, {"version": 1})
    again = parse_model(encode_model(model))
    assert digest(again.tensors) == digest(model.tensors)


def test_safetensors_keep_types_and_metadata() -> None:
    """The form that it came in stays (MODEL-002)."""
    content = encode_safetensors({"w": np.ones((2, 2), "<f2")}, {"architecture": "mlp:2,2"})
    model = parse_model(content)
    assert (model.form, model.metadata) == (ModelForm.SAFETENSORS, {"architecture": "mlp:2,2"})
    assert encode_model(model) == content


@pytest.mark.parametrize(
    ("payload", "refusal", "says"),
    [
        (b'{"w":[1,', BAD_MODEL, "not JSON"),
        (b'{"w":' + b"[" * 100_000, BAD_MODEL, "not JSON"),
        (b" \n[1]", BAD_MODEL, "safetensors"),
        (b'{"version":1}', BAD_MODEL, "0 tensors"),
        (b'{"w":"text"}', BAD_MODEL, "no number"),
        (b'{"w":[true]}', BAD_MODEL, "no number"),
        (b'{"w":null}', BAD_MODEL, "no number"),
        (b'{"w":[[1],[1,2]]}', BAD_MODEL, "different lengths"),
        (b'{"w":[1,[2]]}', BAD_MODEL, "different lengths"),
        (b'{"w":[[[[[[[[[[1]]]]]]]]]]}', BAD_MODEL, "nested deeper"),
        (b'{"w":[NaN]}', NOT_FINITE, "NaN"),
        (b'{"w":[-Infinity]}', NOT_FINITE, "-Infinity"),
        (b'{"w":[1e999]}', NOT_FINITE, "inf"),
        (b'{"w":[1' + b"0" * 400 + b"]}", NOT_FINITE, "'w'"),
        (b"\x93NUMPY", BAD_MODEL, "safetensors"),
        (b"", BAD_MODEL, "safetensors"),
    ],
)
def test_a_wrong_model_is_refused(payload: bytes, refusal: Any, says: str) -> None:
    """Each with its own reason (MODEL-002)."""
    with pytest.raises(Refused) as caught:
        parse_model(payload)
    assert caught.value.refusal is refusal
    assert says in caught.value.detail


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=6))
@settings(deadline=None)
def test_any_json_is_a_model_or_is_refused(value: Any) -> None:
    """Nothing else comes out."""
    try:
        model = parse_model(json.dumps({"w": value}).encode())
    except Refused:
        return
    assert np.isfinite(model.tensors["w"]).all()


def test_tensors_must_be_floats_and_not_too_many() -> None:
    """What cannot be averaged is refused."""
    with pytest.raises(Refused, match="int64"):
        check_tensors({"w": np.zeros(2, np.int64)})
    with pytest.raises(Refused, match="tensors"):
        check_tensors({str(n): np.zeros(1) for n in range(MAX_TENSORS + 1)})
    with pytest.raises(Refused, match="0 tensors"):
        tensors_from_json({})


def test_json_has_a_size_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes many times its size while it is read (MODEL-002)."""
    monkeypatch.setattr(model_module, "MAX_JSON_BYTES", 20)
    assert parse_model(b'{"w":[1.0,2.0,3.0]}')
    with pytest.raises(Refused, match="21 bytes of JSON, 20 are allowed; use safetensors"):
        parse_model(b'{"w":[1.0,2.0,3.0]}  ')


def test_json_is_told_from_binary() -> None:
    """By the first bytes alone; a header of 123 bytes begins with a brace too.

    (MODEL-002, UPDATE-001)
    """
    assert is_json(b' \n {"w":1}')
    assert not is_json((123).to_bytes(8, "little") + b" " * 123)
    assert not is_json(b"\x85\xa8round_id")
    assert not is_json(b"[1]")


def test_a_label_is_read_from_either_form() -> None:
    """Numbers are texts in safetensors metadata, metrics a JSON object (MODEL-020)."""
    label = ModelLabel(
        name="digits", version=4, parent=3, publish_id="r:4", digest=DIGEST, metrics={"loss": 0.5}
    )
    for form in ModelForm:
        said = with_label(form, {"kept": "x", "version": "1", "architecture": "mlp"}, label)
        assert said["kept"] == "x"
        read = read_label(form, said)
        assert read == label.model_copy(update={"architecture": "mlp"})
        assert without_label(said) == {"kept": "x", "architecture": "mlp"}
    text = with_label(ModelForm.SAFETENSORS, {}, label)
    assert text == {
        "name": "digits",
        "version": "4",
        "parent": "3",
        "publish_id": "r:4",
        "digest": DIGEST,
        "metrics": '{"loss":0.5}',
    }


def test_a_model_without_a_label_is_version_0_of_the_default() -> None:
    """So ``mosquitto_pub -f`` of any model begins a lineage (MODEL-020)."""
    for form in ModelForm:
        assert read_label(form, {}) == ModelLabel(name="global_model", version=0)
    assert "metrics" not in with_label(ModelForm.JSON, {}, ModelLabel())


@pytest.mark.parametrize(
    ("form", "metadata", "says"),
    [
        (ModelForm.JSON, {"version": -1}, "version"),
        (ModelForm.JSON, {"version": "1"}, "version"),
        (ModelForm.JSON, {"name": "a/b"}, "name"),
        (ModelForm.SAFETENSORS, {"version": "one"}, "version"),
        (ModelForm.SAFETENSORS, {"version": "-1"}, "version"),
        (ModelForm.SAFETENSORS, {"parent": "²"}, "parent"),
        (ModelForm.SAFETENSORS, {"version": "9" * 5000}, "its label"),
        (ModelForm.SAFETENSORS, {"digest": "AB"}, "digest"),
        (ModelForm.SAFETENSORS, {"metrics": "{"}, "its label"),
        (ModelForm.SAFETENSORS, {"metrics": "[" * 100_000}, "its label"),
        (ModelForm.SAFETENSORS, {"metrics": '{"a":NaN}'}, "metrics"),
    ],
)
def test_a_wrong_label_is_refused(form: ModelForm, metadata: dict[str, Any], says: str) -> None:
    """Naming the field."""
    with pytest.raises(Refused) as caught:
        read_label(form, metadata)
    assert caught.value.refusal is BAD_MODEL
    assert says in caught.value.detail
