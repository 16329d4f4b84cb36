"""The guest learns: handwritten digits, with the data that scikit-learn ships."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from .runner import Job, mount, random_layers, run, safetensors_model


def test_digits_are_learned_to_95_percent() -> None:
    """An MLP 64-32-10 trained on 1,500 digits reads the other 297 with at least 95 % right."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x, y = digits.data.astype("u1")[order], digits.target[order]
    hyperparams = {"epochs": 20, "lr": 0.1, "batch_size": 16, "scale": 1 / 16, "momentum": 0.5}
    model = safetensors_model(random_layers((64, 32, 10), 0))
    trained = run(Job(model, mount(x[:1500], y[:1500]), hyperparams))
    test_job = Job(
        safetensors_model(trained.layers),
        mount(x[1500:], y[1500:], "test"),
        {"dataset": "test", "scale": 1 / 16},
        argv=["evaluate"],
    )
    assert trained.events[0]["accuracy"] < trained.events[-1]["accuracy"]
    assert run(test_job).events[0]["accuracy"] >= 0.95
