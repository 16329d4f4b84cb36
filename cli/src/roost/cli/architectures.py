"""Models as arrays: fresh ones, and what a model says about samples.

Weights follow PyTorch's convention, `weight` (outputs, inputs) and `y = x @ weight.T + bias`, with
ReLU between the layers of an MLP. The linear form is `w` and `b`: (outputs, inputs) and (outputs,),
or for a single output (inputs,) and a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["accuracy", "classify", "fresh_linear", "fresh_mlp"]

Floats = NDArray[np.floating[Any]]


def fresh_mlp(layers: Sequence[int], seed: int) -> dict[str, NDArray[np.float32]]:
    """A dense network with Glorot-uniform weights and zero biases (Glorot and Bengio 2010).

    Args:
        layers: sizes from input to output, at least two.
        seed: of the weights; the same arguments make the same bytes.

    Returns:
        `layers.N.weight` float32 (out, in) and `layers.N.bias` float32 (out,), N from 0.
    """
    rng = np.random.default_rng(seed)
    tensors: dict[str, NDArray[np.float32]] = {}
    for n, (inputs, outputs) in enumerate(pairwise(layers)):
        bound = np.sqrt(6.0 / (inputs + outputs))
        weight = rng.uniform(-bound, bound, (outputs, inputs))
        tensors[f"layers.{n}.weight"] = weight.astype(np.float32)
        tensors[f"layers.{n}.bias"] = np.zeros(outputs, dtype=np.float32)
    return tensors


def fresh_linear(inputs: int, outputs: int) -> dict[str, NDArray[np.float64]]:
    """Softmax or logistic regression before any learning: zeros, the convex problem's usual start.

    Returns:
        `w` (outputs, inputs) and `b` (outputs,); for one output `w` (inputs,) and `b` ().
    """
    shape = (inputs,) if outputs == 1 else (outputs, inputs)
    return {"w": np.zeros(shape), "b": np.zeros(shape[:-1])}


def classify(tensors: Mapping[str, Floats], x: NDArray[np.float32]) -> NDArray[np.int64]:
    """The class that a model gives each row of `x`.

    Args:
        tensors: an MLP's `layers.N.weight` and `.bias`, or a linear model's `w` and `b`.
        x: (n, inputs).

    Returns:
        (n,): the largest output's index; for a single output whether it is positive.

    Raises:
        KeyError: the tensors are of neither form.
    """
    scores: Floats = x
    if "w" in tensors:
        scores = x @ np.atleast_2d(tensors["w"]).T + tensors["b"]
    else:
        depth = len(tensors) // 2
        for n in range(depth):
            scores = scores @ tensors[f"layers.{n}.weight"].T + tensors[f"layers.{n}.bias"]
            if n < depth - 1:
                scores = np.maximum(scores, 0)
    if scores.shape[1] == 1:
        return (scores[:, 0] > 0).astype(np.int64)
    found: NDArray[np.int64] = scores.argmax(axis=1)
    return found


def accuracy(tensors: Mapping[str, Floats], x: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """The share of rows of `x` that a model classifies as `y` says, in 0..1."""
    return float((classify(tensors, x) == y).mean())
