"""Fresh models, and what a model says about samples."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roost.cli.architectures import accuracy, classify, fresh_linear, fresh_mlp
from roost.cli.models import fresh_model
from roost.protocol.round.model import digest, encode_model, parse_model

LAYERS = st.lists(st.integers(1, 20), min_size=2, max_size=5)


@given(layers=LAYERS, seed=st.integers(0, 2**32))
def test_a_fresh_mlp_has_its_layers_and_the_same_bytes_for_the_same_seed(
    layers: list[int], seed: int
) -> None:
    """Weights (out, in) within Glorot's bound, biases zero, all float32."""
    tensors = fresh_mlp(layers, seed)
    assert digest(tensors) == digest(fresh_mlp(layers, seed))
    for n, (inputs, outputs) in enumerate(pairwise(layers)):
        weight, bias = tensors[f"layers.{n}.weight"], tensors[f"layers.{n}.bias"]
        assert (weight.shape, bias.shape) == ((outputs, inputs), (outputs,))
        assert weight.dtype == bias.dtype == np.float32
        assert np.abs(weight).max() <= np.sqrt(6 / (inputs + outputs)) + 1e-6
        assert not bias.any()
    assert len(tensors) == 2 * (len(layers) - 1)


@given(layers=LAYERS)
def test_an_mlp_is_computed_layer_by_layer(layers: list[int]) -> None:
    """Against a loop over samples and outputs, written out."""
    tensors = fresh_mlp(layers, 1)
    x = np.random.default_rng(2).standard_normal((4, layers[0])).astype(np.float32)
    for row, found in zip(x, classify(tensors, x), strict=True):
        values = [float(v) for v in row]
        for n in range(len(layers) - 1):
            weight, bias = tensors[f"layers.{n}.weight"], tensors[f"layers.{n}.bias"]
            values = [
                sum(float(w) * v for w, v in zip(out, values, strict=True)) + float(b)
                for out, b in zip(weight, bias, strict=True)
            ]
            if n < len(layers) - 2:
                values = [max(0.0, v) for v in values]
        if len(values) > 1:
            assert values[found] == pytest.approx(max(values), abs=1e-5)
        else:
            assert found == (values[0] > 0)


def test_a_linear_model_classifies() -> None:
    """Several outputs, and one."""
    x = np.array([[1, 0], [0, 1]], dtype=np.float32)
    several = {"w": np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]), "b": np.zeros(3)}
    assert classify(several, x).tolist() == [0, 1]
    one = {"w": np.array([1.0, -1.0]), "b": np.array(0.5)}
    assert classify(one, x).tolist() == [1, 0]
    assert accuracy(one, x, np.array([1, 1])) == 0.5


def test_fresh_linear_models_have_the_shapes_of_their_form() -> None:
    """A list and a number for a single output."""
    assert [a.shape for a in fresh_linear(3, 1).values()] == [(3,), ()]
    assert [a.shape for a in fresh_linear(3, 4).values()] == [(4, 3), (4,)]


def test_a_fresh_model_is_written_in_the_form_of_its_kind() -> None:
    """JSON for people, safetensors for machines; both are read back the same."""
    linear = fresh_model("linear", [3, 1], 0)
    assert encode_model(linear) == b'{"w":[0.0,0.0,0.0],"b":0.0}'
    mlp = fresh_model("mlp", [4, 3, 2], 0)
    back = parse_model(encode_model(mlp))
    assert digest(back.tensors) == digest(mlp.tensors)
    assert back.metadata["architecture"] == "mlp"
