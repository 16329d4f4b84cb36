"""What the guest must compute, in plain NumPy and float64.

The guest computes in float32; the two agree to 1e-5 over a few epochs. Everything here follows the
guest's specification in README.md, in the same words: the seed, the shuffle, the loss, the step.

Sources: SplitMix64, Steele, Lea and Flood 2014; FNV-1a, Fowler, Noll and Vo; momentum and weight
decay as in PyTorch's `torch.optim.SGD`; the proximal term, Li et al. 2020 (FedProx), equation 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = [
    "Hyperparams",
    "Layer",
    "Metrics",
    "Trained",
    "derived_seed",
    "evaluate",
    "fnv1a",
    "next_random",
    "prepare",
    "shuffled",
    "train",
]

_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Layer:
    """One dense layer, in PyTorch's convention: `y = x @ weight.T + bias`."""

    weight: Floats
    """Shape (outputs, inputs)."""
    bias: Floats
    """Shape (outputs,)."""


@dataclass(frozen=True)
class Hyperparams:
    """The guest's HYPERPARAMS that change what is computed; same names, same defaults."""

    epochs: int = 1
    lr: float = 0.1
    batch_size: int = 32
    momentum: float = 0.0
    weight_decay: float = 0.0
    proximal_mu: float = 0.0


@dataclass(frozen=True)
class Metrics:
    """Means over one pass."""

    loss: float
    """Cross-entropy per sample, in nats, without penalties."""
    accuracy: float
    """Share of samples whose label scores highest, 0 to 1."""


@dataclass(frozen=True)
class Trained:
    """The outcome of `train`."""

    layers: tuple[Layer, ...]
    history: tuple[Metrics, ...]
    """One entry per epoch; the last is what an update reports."""


def fnv1a(data: bytes) -> int:
    """FNV-1a, 64 bit."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & _MASK
    return value


def derived_seed(round_id: str, proplet_id: str) -> int:
    """The guest's seed where HYPERPARAMS names none: FNV-1a of `{round_id}:{proplet_id}`."""
    return fnv1a(f"{round_id}:{proplet_id}".encode())


def next_random(state: int) -> tuple[int, int]:
    """One step of SplitMix64: the new state and 64 random bits."""
    state = (state + 0x9E3779B97F4A7C15) & _MASK
    z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return state, z ^ (z >> 31)


def shuffled(order: Sequence[int], state: int) -> tuple[list[int], int]:
    """Fisher-Yates from the last element down; returns the new order and the new state."""
    items = list(order)
    for i in range(len(items), 1, -1):
        state, bits = next_random(state)
        j = (bits >> 32) * i >> 32
        items[i - 1], items[j] = items[j], items[i - 1]
    return items, state


def prepare(x: NDArray[np.generic], scale: float = 1.0) -> Floats:
    """Samples as the guest sees them: (n, ...) flattened to (n, d), scaled, rounded to float32."""
    flat = x.reshape(x.shape[0], -1).astype(np.float64) * scale
    return flat.astype(np.float32).astype(np.float64)


def _forward(layers: Sequence[Layer], x: Floats) -> list[Floats]:
    """Every layer's input, then the scores: len(layers) + 1 arrays."""
    values = [x]
    for index, layer in enumerate(layers):
        z = values[-1] @ layer.weight.T + layer.bias
        values.append(np.maximum(z, 0) if index + 1 < len(layers) else z)
    return values


def _judge(scores: Floats, y: Integers) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Per sample: the loss (n,), whether the label won (n,), d loss / d scores (n, outputs).

    One output is binary logistic regression, more are softmax; the first of equal scores wins.
    """
    if scores.shape[1] == 1:
        z = scores[:, 0]
        losses = np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0) - z * y
        excess: Floats = np.exp(-np.logaddexp(0, -z)) - y
        won: NDArray[np.bool_] = (z > 0) == (y == 1)
        return losses, won, excess[:, None]
    shifted = scores - scores.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    totals = exponentials.sum(axis=1)
    rows = np.arange(len(y))
    gradient: Floats = exponentials / totals[:, None]
    gradient[rows, y] -= 1
    losses = np.log(totals) - shifted[rows, y]
    return losses, scores.argmax(axis=1) == y, gradient


def _gradients(layers: Sequence[Layer], values: list[Floats], d_scores: Floats) -> list[Layer]:
    """The gradient of every layer's weight and bias."""
    gradients: list[Layer] = []
    d_out = d_scores
    for index in range(len(layers) - 1, -1, -1):
        gradients.append(Layer(d_out.T @ values[index], d_out.sum(axis=0)))
        if index > 0:
            d_out = (d_out @ layers[index].weight) * (values[index] > 0)
    return gradients[::-1]


def _step(
    value: Floats, gradient: Floats, velocity: Floats, base: Floats, h: Hyperparams
) -> tuple[Floats, Floats]:
    """The new parameter and the new velocity."""
    gradient = gradient + h.weight_decay * value + h.proximal_mu * (value - base)
    velocity = h.momentum * velocity + gradient
    return value - h.lr * velocity, velocity


def train(
    layers: Sequence[Layer], x: Floats, y: Integers, hyperparams: Hyperparams, seed: int
) -> Trained:
    """Minibatch SGD from `layers`, on samples x (n, d), from `prepare`, and labels y (n,)."""
    base = tuple(layers)
    current = list(base)
    velocity = [Layer(np.zeros_like(b.weight), np.zeros_like(b.bias)) for b in base]
    order: list[int] = list(range(len(y)))
    history: list[Metrics] = []
    for _ in range(hyperparams.epochs):
        order, seed = shuffled(order, seed)
        loss, correct = 0.0, 0
        for start in range(0, len(y), hyperparams.batch_size):
            rows = order[start : start + hyperparams.batch_size]
            values = _forward(current, x[rows])
            losses, won, d_scores = _judge(values[-1], y[rows])
            loss += float(losses.sum())
            correct += int(won.sum())
            gradients = _gradients(current, values, d_scores / len(rows))
            for i, g in enumerate(gradients):
                weight, weight_velocity = _step(
                    current[i].weight, g.weight, velocity[i].weight, base[i].weight, hyperparams
                )
                bias, bias_velocity = _step(
                    current[i].bias, g.bias, velocity[i].bias, base[i].bias, hyperparams
                )
                current[i] = Layer(weight, bias)
                velocity[i] = Layer(weight_velocity, bias_velocity)
        history.append(Metrics(loss / len(y), correct / len(y)))
    return Trained(tuple(current), tuple(history))


def evaluate(layers: Sequence[Layer], x: Floats, y: Integers) -> Metrics:
    """The model's loss and accuracy on samples x (n, d), from `prepare`, and labels y (n,)."""
    losses, won, _ = _judge(_forward(layers, x)[-1], y)
    return Metrics(float(losses.mean()), float(won.mean()))
