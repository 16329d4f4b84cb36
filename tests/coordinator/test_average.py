"""Weighted means: of metrics, of blocks, and of whole files."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from roost.coordinator.adapters import averaging
from roost.coordinator.adapters.averaging import BLOCK, average
from roost.coordinator.core.average import weighted_metrics, weighted_sum
from roost.protocol.round.model import digest, encode_safetensors, parse_safetensors
from roost.protocol.round.refusals import NOT_FINITE
from roost.protocol.round.tensorfile import read_layout
from roost.wire.refusal import Refused

COUNTER = itertools.count()
WEIGHTS = st.lists(st.integers(1, 10**9), min_size=1, max_size=6)
DTYPES = ("<f2", "<f4", "<f8")


@given(WEIGHTS, st.sampled_from(DTYPES), st.data())
@settings(deadline=None)
def test_a_block_is_the_weighted_mean(weights: list[int], dtype: str, data: st.DataObject) -> None:
    """Sums are float64, in the given order (ROUND-020)."""
    elements = npst.from_dtype(np.dtype(dtype), min_value=-1e4, max_value=1e4)
    blocks = [data.draw(npst.arrays(dtype, 5, elements=elements)) for _ in weights]
    out = weighted_sum(blocks, weights, np.full(5, np.nan), np.full(5, np.nan))
    wide = [block.astype(np.float64) for block in blocks]
    np.testing.assert_allclose(out, np.average(wide, axis=0, weights=weights), rtol=1e-9, atol=1e-9)
    in_order = np.zeros(5)
    for block, weight in zip(wide, weights, strict=True):
        in_order = in_order + block * float(weight)
    np.testing.assert_array_equal(out, in_order / float(sum(weights)))


def test_blocks_and_weights_must_be_as_many() -> None:
    """A mismatch is a bug, and is not averaged over."""
    with pytest.raises(ValueError, match="argument"):
        weighted_sum([np.ones(1)], [1, 2], np.empty(1), np.empty(1))


def test_equal_updates_give_themselves() -> None:
    """For float32 exactly, whatever the weights."""
    block = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    weights = [3, 1_000_000_000, 7]
    mean = weighted_sum([block] * 3, weights, np.empty(1000), np.empty(1000))
    np.testing.assert_array_equal(mean.astype(np.float32), block)


def test_metrics_are_weighted_over_those_who_have_them() -> None:
    """What overflows is left out (ROUND-021)."""
    reported = [(1, {"b": 1.0, "a": 4.0}), (3, {"b": 2.0}), (2, {"c": 1e308}), (2, {"c": 1e308})]
    means = weighted_metrics(reported)
    assert means == {"a": 4.0, "b": 1.75}
    assert list(means) == ["a", "b"]
    assert weighted_metrics([]) == {}


def write(folder: Path, tensors: dict[str, Any]) -> Path:
    """Write a spooled update."""
    path = folder / f"u{next(COUNTER)}"
    path.write_bytes(encode_safetensors(tensors, {}))
    return path


def run(
    folder: Path, base: dict[str, Any], updates: list[dict[str, Any]], weights: list[int]
) -> bytes:
    """Average updates and return the file."""
    paths = [write(folder, each) for each in updates]
    layout = read_layout(encode_safetensors(base, {"architecture": "mlp"}))
    into = folder / "out"
    made = average(paths, weights, layout, into)
    content = into.read_bytes()
    model = parse_safetensors(content)
    assert model.metadata == {"architecture": "mlp"}
    assert made == digest(model.tensors)
    return content


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_whole_files_are_averaged(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Several tensors, types of their own, blocks smaller and larger than a tensor."""
    folder = tmp_path_factory.mktemp("average")
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    size = data.draw(st.sampled_from([0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5]))
    dtype = data.draw(st.sampled_from(DTYPES))
    base = {"w": np.zeros(size, dtype), "b": np.zeros((), "<f8"), "a": np.zeros((2, 3), "<f2")}
    updates = [
        {name: rng.standard_normal(each.shape).astype(each.dtype) for name, each in base.items()}
        for _ in range(3)
    ]
    weights = [1, 5, 10**9]
    found = parse_safetensors(run(folder, base, updates, weights)).tensors
    for name, each in base.items():
        total = np.zeros(each.shape)
        for update, weight in zip(updates, weights, strict=True):
            total = total + np.asarray(update[name], np.float64) * float(weight)
        np.testing.assert_array_equal(found[name], (total / sum(weights)).astype(each.dtype))
        assert found[name].dtype == each.dtype


def test_json_updates_of_a_binary_base_are_taken_as_float64(tmp_path: Path) -> None:
    """The result has the base's type (UPDATE-004)."""
    updates = [{"w": np.asarray([0.1, 0.2])}, {"w": np.asarray([0.3, 0.4], "<f4")}]
    found = parse_safetensors(run(tmp_path, {"w": np.zeros(2, "<f4")}, updates, [1, 1]))
    np.testing.assert_allclose(found.tensors["w"], [0.2, 0.3], rtol=1e-6)
    assert found.tensors["w"].dtype == np.float32


def test_more_updates_than_files_may_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest are opened block by block, to the same result."""
    base = {"w": np.zeros(BLOCK + 3, "<f4")}
    updates = [{"w": np.full(BLOCK + 3, value, "<f4")} for value in (1, 2, 6)]
    wanted = run(tmp_path, base, updates, [1, 1, 1])
    monkeypatch.setattr(averaging, "_MAX_OPEN", 1)
    assert run(tmp_path, base, updates, [1, 1, 1]) == wanted
    assert parse_safetensors(wanted).tensors["w"][-1] == 3


@pytest.mark.parametrize(("dtype", "value"), [("<f8", 1.7e308), ("<f2", 65504.0)])
def test_a_mean_out_of_range_is_refused(tmp_path: Path, dtype: str, value: float) -> None:
    """float64 sums may leave the range; the mean of float16 never does (ROUND-022)."""
    updates = [{"w": np.asarray([value], dtype)}] * 2
    if dtype == "<f2":
        run(tmp_path, {"w": np.zeros(1, dtype)}, updates, [1, 1])
        return
    with pytest.raises(Refused) as caught:
        run(tmp_path, {"w": np.zeros(1, dtype)}, updates, [1, 1])
    assert caught.value.refusal is NOT_FINITE


def test_a_file_that_was_cut_short_is_an_error(tmp_path: Path) -> None:
    """It is never averaged over."""
    path = write(tmp_path, {"w": np.zeros(10, "<f4")})
    updates = averaging.Updates([path])
    path.write_bytes(path.read_bytes()[:-4])
    with updates, pytest.raises(OSError, match="ends before"):
        next(updates.read(0, 0, 10))
