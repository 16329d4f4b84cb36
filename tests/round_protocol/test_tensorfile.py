"""Safetensors files read in place."""

import hashlib
import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from roost.protocol.round.model import digest, encode_safetensors
from roost.protocol.round.refusals import BAD_MODEL, NOT_FINITE
from roost.protocol.round.tensorfile import (
    BLOCK_BYTES,
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    blocks,
    check_file,
    check_finite,
    digest_file,
    dtypes_digest,
    read_layout,
    shapes_digest,
    view,
)
from roost.wire.refusal import Refused

DTYPES = ("<f2", "<f4", "<f8")
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: npst.arrays(
        dtype,
        npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        elements=npst.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False),
    )
)
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
NAMES = st.text(LETTERS, min_size=1, max_size=8)
TENSORS = st.dictionaries(NAMES, ARRAYS, min_size=1, max_size=5)


def raw(header: Any, data: bytes = b"") -> bytes:
    """Return a file with this header, however wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin: int, end: int, shape: Any = (1,), dtype: Any = "F32") -> dict[str, Any]:
    """Return one tensor's fields."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@given(TENSORS, st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
@settings(deadline=None)
def test_it_is_the_format_of_the_reference_library(
    tensors: dict[str, Any], metadata: dict[str, str]
) -> None:
    """What we write the library reads, what the library writes we read (MODEL-010)."""
    tensors.pop("__metadata__", None)
    if not tensors:
        return
    ours = safetensors.numpy.load(encode_safetensors(tensors, metadata))
    content = safetensors.numpy.save(tensors, metadata)
    layout = read_layout(content)
    assert layout.metadata == metadata
    assert [each.name for each in layout.entries] == sorted(tensors)
    for each in layout.entries:
        expected = tensors[each.name]
        np.testing.assert_array_equal(ours[each.name], expected)
        np.testing.assert_array_equal(view(content, each), expected)
        assert view(content, each).dtype == ours[each.name].dtype == expected.dtype


@given(TENSORS)
@settings(deadline=None)
def test_the_file_and_the_arrays_have_one_digest(tensors: dict[str, Any]) -> None:
    """The digest does not depend on metadata or on where the tensors lie (MODEL-003)."""
    content = encode_safetensors(tensors, {"said": "something"})
    assert digest_file(content, read_layout(content)) == digest(tensors)


def test_the_digest_is_as_the_rule_says() -> None:
    """SHA-256 over name, type, shape and bytes, each but the last with a NUL (MODEL-003)."""
    tensors = {"w": np.asarray([[1.0, 2.0]], "<f4"), "b": np.asarray(0.5, "<f8")}
    written = b"b\0<f8\0\0" + tensors["b"].tobytes() + b"w\0<f4\x001,2\0" + tensors["w"].tobytes()
    assert digest(tensors) == hashlib.sha256(written).hexdigest()


def test_big_endian_and_strided_arrays_have_the_digest_of_their_values() -> None:
    """The digest is over values, not over how NumPy holds them."""
    plain = np.arange(6, dtype="<f4").reshape(2, 3)
    assert digest({"w": plain.astype(">f4")}) == digest({"w": plain})
    assert digest({"w": np.asfortranarray(plain)}) == digest({"w": plain})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 bytes"),
        (b"\x02\0\0", "3 bytes"),
        ((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}", "with a header of"),
        ((99).to_bytes(8, "little") + b"{}", "with a header of 99"),
        (raw(b"{"), "not JSON"),
        (raw(b"\xff\xfe"), "not JSON"),
        (raw(b"[" * 100_000), "not JSON"),
        (raw([]), "not a JSON object"),
        (raw({}), "it has 0 tensors"),
        (raw({str(n): entry(0, 0, [0]) for n in range(MAX_TENSORS + 1)}), "tensors, allowed"),
        (raw({"__metadata__": [], "w": entry(0, 4)}, b"1234"), "metadata"),
        (raw({"__metadata__": {"a": 1}, "w": entry(0, 4)}, b"1234"), "metadata"),
        (raw({"w": {}}), "lacks"),
        (raw({"w": 3}), "lacks"),
        (raw({"w": {**entry(0, 4), "data_offsets": [0]}}), "lacks"),
        (raw({"w": entry(0, 4, dtype="BF16")}, b"1234"), "not F16, F32, F64"),
        (raw({"w": entry(0, 4, dtype=["F32"])}, b"1234"), "not F16, F32, F64"),
        (raw({"w": {**entry(0, 4), "shape": 1}}, b"1234"), "unreadable shape"),
        (raw({"w": entry(0, 4, [True])}, b"1234"), "unreadable shape"),
        (raw({"w": entry(0, 4, [-1])}, b"1234"), "unreadable shape"),
        (raw({"w": entry(0, 4, [1.0])}, b"1234"), "whole numbers"),
        (raw({"w": entry(-4, 0)}), "unreadable shape"),
        (raw({"w": entry(0, 4, [2])}, b"1234"), "not the bytes"),
        (raw({"w": entry(4, 0)}), "not the bytes"),
        (raw({"w": entry(4, 8)}, b"12345678"), "does not begin where"),
        (raw({"a": entry(0, 4), "b": entry(0, 4)}, b"1234"), "does not begin where"),
        (raw({"w": entry(0, 4)}, b"12345"), "its tensors end"),
        (raw({"w": entry(0, 4)}, b""), "its tensors end"),
    ],
)
def test_a_wrong_file_is_refused(content: bytes, says: str) -> None:
    """Every lie in a header is found before a tensor is touched (MODEL-010)."""
    with pytest.raises(Refused) as caught:
        read_layout(content)
    assert caught.value.refusal is BAD_MODEL
    assert says in caught.value.detail


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_no_bytes_make_it_raise_anything_else(content: bytes) -> None:
    """Garbage is refused, whatever it is."""
    with pytest.raises(Refused):
        read_layout(content)


@given(TENSORS, st.data())
@settings(deadline=None)
def test_a_damaged_header_never_leads_astray(tensors: dict[str, Any], data: st.DataObject) -> None:
    """With one byte changed the file is refused, or its tensors still lie within it."""
    content = bytearray(encode_safetensors(tensors, {"a": "b"}))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    try:
        layout = read_layout(content)
    except Refused:
        return
    assert all(8 <= each.start <= each.stop <= len(content) for each in layout.entries)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, BLOCK_BYTES // 4, BLOCK_BYTES // 4 + 2])
def test_what_is_not_finite_is_refused_in_any_block(bad: float, place: int) -> None:
    """NaN and infinity are found wherever they are (MODEL-011)."""
    array = np.zeros(BLOCK_BYTES // 4 + 3, "<f4")
    check_finite("w", array)
    array[place] = bad
    with pytest.raises(Refused) as caught:
        check_file(encode_safetensors({"w": array}, {}))
    assert caught.value.refusal is NOT_FINITE
    assert "'w'" in caught.value.detail


def test_a_mapped_file_is_read_without_a_copy(tmp_path: Path) -> None:
    """Views lie in the mapping itself."""
    path = tmp_path / "m"
    path.write_bytes(encode_safetensors({"w": np.arange(3, dtype="<f4")}, {}))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        array = view(content, check_file(content).entries[0])
        assert array.tolist() == [0, 1, 2]
        assert not array.flags.owndata
        assert not array.flags.writeable
        del array


def test_shapes_and_types_have_digests_of_their_own() -> None:
    """Types do not matter to the one, shapes not to the other, order to neither."""
    assert shapes_digest([("w", (2,)), ("b", ())]) == shapes_digest([("b", ()), ("w", (2,))])
    assert shapes_digest([("w", (2,))]) != shapes_digest([("w", (2, 1))])
    assert dtypes_digest([("w", "<f4"), ("b", "<f8")]) == dtypes_digest(
        [("b", "<f8"), ("w", "<f4")]
    )
    assert dtypes_digest([("w", "<f4")]) != dtypes_digest([("w", "<f8")])


@given(st.integers(0, 50), st.integers(1, 9))
@settings(deadline=None)
def test_blocks_cover_everything_once(size: int, step: int) -> None:
    """Consecutive spans, none longer than a step."""
    spans = list(blocks(size, step))
    assert [n for start, stop in spans for n in range(start, stop)] == list(range(size))
    assert all(0 < stop - start <= step for start, stop in spans)
