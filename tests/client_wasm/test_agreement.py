"""The guest computes what the NumPy reference computes, to 1e-5."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roost.client_wasm import reference
from roost.client_wasm.reference import Hyperparams

from .runner import IDS, Job, json_model, mount, npy, random_layers, run, safetensors_model

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Case:
    """One training to compare."""

    sizes: tuple[int, ...]
    count: int
    hyperparams: Hyperparams
    seed: int


def case_data(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Samples and labels for a case."""
    random = np.random.default_rng(case.seed)
    x = random.standard_normal((case.count, case.sizes[0])).astype(np.float32)
    return x, random.integers(0, max(2, case.sizes[-1]), case.count)


def compare(case: Case, *, as_json: bool = False) -> None:
    """Train with both and compare parameters, losses and accuracies of every epoch."""
    x, y = case_data(case)
    layers = random_layers(case.sizes, case.seed)
    model = json_model(layers[0]) if as_json else safetensors_model(layers)
    outcome = run(Job(model, mount(x, y), asdict(case.hyperparams)))
    seed = reference.derived_seed(IDS["ROUND_ID"], IDS["PROPLET_ID"])
    expected = reference.train(layers, reference.prepare(x), y, case.hyperparams, seed)
    assert outcome.update["num_samples"] == case.count
    # float32 rounds in proportion to the numbers it adds: the tolerance follows the largest one.
    largest = max(float(abs(array).max()) for w in expected.layers for array in (w.weight, w.bias))
    allowed = TOLERANCE * max(1.0, largest)
    for got, want in zip(outcome.layers, expected.layers, strict=True):
        np.testing.assert_allclose(got.weight, want.weight, rtol=0, atol=allowed)
        np.testing.assert_allclose(got.bias, want.bias, rtol=0, atol=allowed)
    for event, metrics in zip(outcome.events, expected.history, strict=True):
        assert event["loss"] == pytest.approx(metrics.loss, rel=TOLERANCE, abs=TOLERANCE)
        # Scores that tie to within rounding may fall either way.
        assert event["accuracy"] == pytest.approx(metrics.accuracy, abs=1.01 / case.count)


@pytest.mark.parametrize(
    "case",
    [
        Case((5, 1), 40, Hyperparams(epochs=3), 1),
        Case((7, 3), 41, Hyperparams(epochs=3, batch_size=10), 2),
        Case((13, 12, 4), 50, Hyperparams(epochs=2, batch_size=7, momentum=0.9, lr=0.05), 3),
        Case((12, 24, 36, 10), 33, Hyperparams(epochs=2, batch_size=4, weight_decay=0.01), 4),
        Case((1, 1, 1), 9, Hyperparams(batch_size=2, proximal_mu=0.5), 5),
        Case((30, 25, 20, 15, 10, 5), 64, Hyperparams(epochs=2, batch_size=1, lr=0.02), 6),
        Case((64, 32, 10), 100, Hyperparams(2, 0.05, 16, 0.9, 1e-3, 0.1), 7),
        Case((3, 5, 1), 20, Hyperparams(epochs=4, batch_size=1000), 8),
    ],
    ids=lambda case: "-".join(map(str, case.sizes)),
)
def test_training_agrees_with_the_reference(case: Case) -> None:
    """Depths 1 to 5, odd widths, every term of the step, batches of 1 and beyond the data."""
    compare(case)


@pytest.mark.parametrize("outputs", [1, 3])
def test_json_regression_agrees_with_the_reference(outputs: int) -> None:
    """Both JSON forms train as the reference does, with every term of the step."""
    hyperparams = Hyperparams(3, 0.2, 6, 0.5, 0.01, 0.1)
    compare(Case((4, outputs), 25, hyperparams, outputs), as_json=True)


cases = st.builds(
    Case,
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=5).map(tuple),
    count=st.integers(1, 60),
    hyperparams=st.builds(
        Hyperparams,
        epochs=st.integers(1, 3),
        lr=st.sampled_from([0.001, 0.01, 0.0625, 0.1]),
        batch_size=st.integers(1, 20),
        momentum=st.sampled_from([0.0, 0.5, 0.875]),
        weight_decay=st.sampled_from([0.0, 0.01]),
        proximal_mu=st.sampled_from([0.0, 0.25]),
    ),
    seed=st.integers(0, 10_000),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=cases)
def test_any_shape_agrees_with_the_reference(case: Case) -> None:
    """Agreement does not depend on shapes, batch sizes or terms."""
    compare(case)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=4),
    count=st.integers(1, 600),
    seed=st.integers(0, 10_000),
)
def test_evaluation_agrees_with_the_reference(sizes: list[int], count: int, seed: int) -> None:
    """Evaluate mode gives the reference's loss and accuracy, on stdout and as a file."""
    case = Case(tuple(sizes), count, Hyperparams(), seed)
    x, y = case_data(case)
    layers = random_layers(sizes, seed)
    outcome = run(Job(safetensors_model(layers), mount(x, y), argv=["evaluate"], env={}))
    expected = reference.evaluate(layers, reference.prepare(x), y)
    assert outcome.code == 0, outcome.stderr
    (event,) = outcome.events
    assert event["event"] == "evaluated"
    assert event["num_samples"] == count
    assert event["loss"] == pytest.approx(expected.loss, rel=TOLERANCE)
    assert event["accuracy"] == pytest.approx(expected.accuracy, abs=1.01 / count)
    assert outcome.files["metrics.json"] == outcome.stdout


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "?"])
@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_every_number_type_means_the_same_numbers(dtype: str, scale: float) -> None:
    """The samples' type changes nothing but the file; `scale` multiplies each of them."""
    random = np.random.default_rng(3)
    x = random.integers(0, 2 if dtype == "?" else 128, (20, 2, 3)).astype(dtype)
    y = random.integers(0, 4, 20)
    layers = random_layers((6, 4), 3)
    job = Job(safetensors_model(layers), mount(x, y), {"scale": scale}, argv=["evaluate"], env={})
    expected = reference.evaluate(layers, reference.prepare(x, scale), y)
    assert run(job).events[0]["loss"] == pytest.approx(expected.loss, rel=TOLERANCE)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("label_type", ["u1", "i1", "i4", "i8", "u8", "?"])
def test_every_label_type_and_npy_version_is_read(
    version: tuple[int, int], label_type: str
) -> None:
    """Labels of any integer type, in a column or not, in any .npy version."""
    x = np.arange(8, dtype="f4").reshape(4, 2)
    y = np.array([0, 1, 1, 0]).astype(label_type)
    model = safetensors_model(random_layers((2, 2), 1))
    flat = {"train/x.npy": npy(x, version), "train/y.npy": npy(y, version)}
    column = {**flat, "train/y.npy": npy(y[:, None], version)}
    plain = run(Job(model, mount(x, y.astype("i8"))))
    assert plain.code == 0, plain.stderr
    assert run(Job(model, flat)).files == plain.files
    assert run(Job(model, column)).files == plain.files


def test_shuffling_follows_the_specified_seed() -> None:
    """A given seed is used as it is, so an explicit one equals the derived one's order."""
    case = Case((6, 3), 30, Hyperparams(batch_size=4), 9)
    x, y = case_data(case)
    model = safetensors_model(random_layers(case.sizes, 9))
    derived = run(Job(model, mount(x, y), {"batch_size": 4}))
    seed = reference.derived_seed(IDS["ROUND_ID"], IDS["PROPLET_ID"])
    assert run(Job(model, mount(x, y), {"batch_size": 4, "seed": seed})).files == derived.files
    assert run(Job(model, mount(x, y), {"batch_size": 4, "seed": 0})).files != derived.files


def test_random_numbers_are_those_of_the_literature() -> None:
    """SplitMix64 and FNV-1a give their published first values."""
    state, first = reference.next_random(1234567)
    _, second = reference.next_random(state)
    assert (first, second) == (6457827717110365317, 3203168211198807973)
    assert reference.fnv1a(b"foobar") == 0x85944171F73967E8
