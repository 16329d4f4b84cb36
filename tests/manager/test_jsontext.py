"""JSON is written again as it came (TASK rules on launching)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roost.manager.core.jsontext import MAX_DEPTH, Number, as_text, compact, read_object
from roost.wire.message import MAX_JSON_BYTES
from roost.wire.refusal import Refused

LEAVES = st.none() | st.booleans() | st.integers() | st.text()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@pytest.mark.parametrize(
    "spelled", ["0", "-0", "1", "0.10", "1e2", "1E+2", "-1.50e-07", "9" * 400, "0.1" + "0" * 40]
)
def test_numbers_keep_their_spelling(spelled: str) -> None:
    """Whatever it is (BIND-021)."""
    value = read_object(b'{"n":' + spelled.encode() + b"}")["n"]
    assert isinstance(value, Number)
    assert as_text(value) == spelled
    assert compact({"n": value}) == '{"n":' + spelled + "}"


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b'"plain \\n text"', "plain \n text"),
        (b'""', ""),
        (b"true", "true"),
        (b"null", "null"),
        (b'{ "b" : 1 , "a" : [ 1.0 , null ] }', '{"b":1,"a":[1.0,null]}'),
        ('"é"'.encode(), "é"),
        ('["é\\u0001"]'.encode(), '["é\\u0001"]'),
        (b"[]", "[]"),
    ],
)
def test_values_as_text(sent: bytes, text: str) -> None:
    """Text as it is, all else as compact JSON in order (BIND-021)."""
    assert as_text(read_object(b'{"x":' + sent + b"}")["x"]) == text


@given(st.dictionaries(st.text(), VALUES))
def test_compact_means_the_same(message: dict[str, object]) -> None:
    """As what was sent (BIND-021)."""
    try:
        sent = json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert json.loads(compact(read_object(sent))) == message


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "not JSON"),
        (b"\x00\xff\xfe", "byte 1 is not UTF-8"),
        ("{}".encode("utf-16"), "is not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a":1,}', "line 1, column"),
        (b"[]", "not a JSON object"),
        (b'"x"', "not a JSON object"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":-Infinity}', "-Infinity is not JSON"),
        (b'{"a":1,"b":2,"a":3}', 'the field "a" occurs twice'),
        (b'{"a":{"x":1,"x":1}}', 'the field "x" occurs twice'),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"\\udfff":1}', "surrogate"),
        (b'{"a":["\\ud800"]}', "surrogate"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "deeper"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deeper"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "deeper"),
    ],
)
def test_refused(payload: bytes, why: str) -> None:
    """No object, a name twice, no number, half a character, too deep (BIND-010)."""
    with pytest.raises(Refused) as caught:
        read_object(payload)
    assert caught.value.refusal.name == "malformed"
    assert why in caught.value.detail


def test_as_deep_as_allowed() -> None:
    """64 levels (BIND-010)."""
    depth = MAX_DEPTH - 1
    read_object(b'{"a":' + b"[" * depth + b"]" * depth + b"}")


def test_too_large() -> None:
    """Above 4 MiB (BIND-010)."""
    with pytest.raises(Refused) as caught:
        read_object(b" " * (MAX_JSON_BYTES + 1))
    assert caught.value.refusal.name == "too_large"
