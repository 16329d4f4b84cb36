"""What the guest writes: updates, progress and names, in the form of the model it was given."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy

from .runner import IDS, Job, json_model, mount, random_layers, run, safetensors_model

X = np.random.default_rng(0).standard_normal((12, 3)).astype("f4")
Y = np.arange(12) % 2


def test_the_plainest_round_works() -> None:
    """The smallest JSON model and hyperparameters give an update of the same form."""
    model = b'{"w":[0.12,-0.05,1.01],"b":0.33,"version":7}'
    outcome = run(Job(model, mount(X, Y), '{"epochs":1,"lr":0.01,"batch_size":16}'))
    update = outcome.update
    assert list(update) == ["round_id", "base_model_uri", "num_samples", "metrics", "update"]
    assert update["round_id"] == IDS["ROUND_ID"]
    assert update["base_model_uri"] == IDS["MODEL_URI"]
    assert update["num_samples"] == len(X)
    assert list(update["metrics"]) == ["loss", "accuracy"]
    assert len(update["update"]["w"]) == 3
    assert isinstance(update["update"]["b"], float)
    assert list(outcome.files) == ["update"]


def test_a_safetensors_model_gives_a_messagepack_update() -> None:
    """The same fields, with a safetensors file of the same tensors as the update."""
    layers = random_layers((3, 5, 2), 1)
    update = run(Job(safetensors_model(layers), mount(X, Y))).update
    assert list(update) == ["round_id", "base_model_uri", "num_samples", "metrics", "update"]
    tensors = safetensors.numpy.load(update["update"])
    assert {name: (str(t.dtype), t.shape) for name, t in tensors.items()} == {
        "layers.0.weight": ("float32", (5, 3)),
        "layers.0.bias": ("float32", (5,)),
        "layers.1.weight": ("float32", (2, 5)),
        "layers.1.bias": ("float32", (2,)),
    }
    length = int.from_bytes(update["update"][:8], "little")
    assert length % 8 == 0
    metadata = json.loads(update["update"][8 : 8 + length])["__metadata__"]
    assert metadata == {"architecture": "mlp"}


@pytest.mark.parametrize("rows", [1, 4])
def test_a_matrix_stays_a_matrix(rows: int) -> None:
    """A 2-D w and a 1-D b stay so, with one row too."""
    w = np.zeros((rows, 3)).tolist()
    model = json.dumps({"b": [0.0] * rows, "w": w}).encode()
    update = run(Job(model, mount(X, Y))).update["update"]
    assert np.shape(update["w"]) == (rows, 3)
    assert np.shape(update["b"]) == (rows,)


def test_numbers_are_the_shortest_that_read_back() -> None:
    """Parameters that training leaves alone come back digit for digit."""
    values = [0.1, -0.05, 1.01, 16777216, 1e-45, -3.4028235e38, 0.33333334, 1e-7, 5e20]
    text = json.dumps(values, separators=(",", ":"))
    x, y = np.zeros((2, len(values)), "f4"), np.array([0, 1])
    outcome = run(Job(b'{"w":' + text.encode() + b',"b":0}', mount(x, y)))
    written = outcome.update["update"]["w"]
    assert np.array_equal(np.array(written, np.float32), np.array(values, np.float32))
    for value, number in zip(values, written, strict=True):
        assert float(str(np.float32(value))) == number


def test_progress_is_one_json_line_per_epoch() -> None:
    """Each finished epoch is reported; the last one's metrics are the update's."""
    outcome = run(Job(json_model(random_layers((3, 2), 1)[0]), mount(X, Y), {"epochs": 3}))
    assert [event["epoch"] for event in outcome.events] == [1, 2, 3]
    last = outcome.events[-1]
    metrics = outcome.update["metrics"]
    assert last == {
        "event": "epoch_finished",
        "epoch": 3,
        "epochs": 3,
        "loss": metrics["loss"],
        "accuracy": metrics["accuracy"],
        "num_samples": 12,
    }


@pytest.mark.parametrize("kind", ["json", "safetensors"])
@pytest.mark.parametrize("length", [1, 31, 32, 300])
def test_names_come_back_as_they_were(kind: str, length: int) -> None:
    """Quotes, backslashes, controls and letters beyond ASCII survive in ids of any length."""
    name = ('"\\\n\té漢😀' * length)[:length]
    layers = random_layers((3, 2), 1)
    model = json_model(layers[0]) if kind == "json" else safetensors_model(layers)
    env = {"ROUND_ID": name, "MODEL_URI": name[::-1], "PROPLET_ID": name}
    update = run(Job(model, mount(X, Y), env=env)).update
    assert update["round_id"] == name
    assert update["base_model_uri"] == name[::-1]


def test_a_header_length_that_looks_like_json_is_safetensors() -> None:
    """A safetensors file whose first byte is '{' (a header of 123 bytes) is not taken for JSON."""
    body = safetensors_model(random_layers((3, 2), 1))
    length = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + length])
    del header["__metadata__"]
    text = json.dumps(header, separators=(",", ":")).encode()
    # 123 + 256 = 379: the low byte of the length is '{'.
    padded = text.ljust(379)
    model = len(padded).to_bytes(8, "little") + padded + body[8 + length :]
    assert model[:1] == b"{"
    assert isinstance(run(Job(model, mount(X, Y))).update["update"], bytes)


def test_json_may_begin_with_blanks() -> None:
    """Blanks before the model's '{' do not make it another format."""
    model = b" \r\n\t      " + json_model(random_layers((3, 2), 1)[0])
    assert run(Job(model, mount(X, Y))).code == 0


def test_unknown_keys_of_a_model_are_passed_over() -> None:
    """Whatever else a JSON model carries, in any order and depth, changes nothing."""
    layer = random_layers((3, 2), 1)[0]
    more = {"note": 'a "b" \\ \u20ac', "tree": [{"a": [1, -2.5e3, None, True]}, []], "ok": False}
    plain = run(Job(json_model(layer), mount(X, Y)))
    assert run(Job(json_model(layer, **more), mount(X, Y))).files == plain.files


def test_another_data_set_can_be_named() -> None:
    """`dataset` names the mount."""
    model = json_model(random_layers((3, 2), 1)[0])
    assert run(Job(model, mount(X, Y, "val-1"), {"dataset": "val-1"})).code == 0


def test_the_same_task_gives_the_same_bytes() -> None:
    """Two runs agree in every byte; another round or another proplet shuffles otherwise."""
    job = Job(safetensors_model(random_layers((3, 9, 2), 1)), mount(X, Y), {"batch_size": 2})
    first = run(job)
    assert run(job) == first
    for name in ("ROUND_ID", "PROPLET_ID"):
        other = Job(job.model, job.files, job.hyperparams, env={**IDS, name: "other"})
        assert run(other).files != first.files
