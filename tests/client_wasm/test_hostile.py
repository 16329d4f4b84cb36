"""Nothing that comes from outside makes the guest trap, hang or return nonsense."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .runner import (
    IDS,
    Job,
    Run,
    json_model,
    mount,
    npy,
    random_layers,
    run,
    safetensors_model,
    with_header,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

BAD_INPUT, DIVERGED, RESOURCES = 2, 3, 4

X = np.random.default_rng(0).standard_normal((6, 3)).astype("f4")
Y = np.arange(6) % 2
LAYERS = random_layers((3, 2), 1)
GOOD_JSON = json_model(LAYERS[0])
GOOD_TENSORS = safetensors_model(random_layers((3, 4, 2), 1))
GOOD_DATA = mount(X, Y)


def assert_refused(outcome: Run, *words: str, code: int = BAD_INPUT) -> None:
    """One line on stderr with all the words, the right exit code, and no update."""
    assert outcome.code == code, outcome.stderr
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1
    assert outcome.stderr.endswith("\n")
    assert "update" not in outcome.files
    for word in words:
        assert word in outcome.stderr


@pytest.mark.parametrize(
    ("hyperparams", "words"),
    [
        ('{"epoch":1}', ["unknown key", '"epoch"', "epochs, lr, batch_size, momentum"]),
        ('{"epochs":0}', ['"epochs"', "from 1 to 100000"]),
        ('{"epochs":-1}', ['"epochs"', "whole number"]),
        ('{"epochs":1.5}', ['"epochs"', "whole number"]),
        ('{"epochs":1e3}', ['"epochs"', "whole number"]),
        ('{"epochs":99999999999999999999999}', ["beyond"]),
        ('{"epochs":"1"}', ['"epochs" must be a number']),
        ('{"lr":0}', ['"lr"', "above 0"]),
        ('{"lr":-0.1}', ['"lr"', "above 0"]),
        ('{"lr":NaN}', ['"lr" must be a number']),
        ('{"lr":1e999}', ['"lr"', "at most 1000"]),
        ('{"lr":1e-60}', ['"lr"', "float32"]),
        ('{"lr":null}', ['"lr" must be a number']),
        ('{"momentum":1}', ['"momentum"', "below 1"]),
        ('{"momentum":0.99999999999}', ['"momentum"', "float32"]),
        ('{"momentum":-0.1}', ['"momentum"']),
        ('{"batch_size":0}', ['"batch_size"']),
        ('{"batch_size":1048577}', ['"batch_size"', "1048576"]),
        ('{"weight_decay":-1}', ['"weight_decay"']),
        ('{"proximal_mu":1e9}', ['"proximal_mu"', "from 0 to 1000"]),
        ('{"seed":-1}', ['"seed"']),
        ('{"seed":18446744073709551616}', ["18446744073709551615"]),
        ('{"scale":0}', ['"scale"']),
        ('{"scale":1e13}', ['"scale"']),
        ('{"dataset":"../train"}', ['"dataset"', "letters, digits"]),
        ('{"dataset":""}', ['"dataset"']),
        ('{"dataset":"a\\u0000b"}', ["u0000"]),
        ('{"dataset":"' + "a" * 65 + '"}', ['"dataset"']),
        ('{"dataset":7}', ['"dataset" must be a string']),
        ('{"lr":0.1,"lr":0.2}', ['"lr" is given twice']),
        ('{"lr":0.1', ["cut off"]),
        ('{"lr":', ["number"]),
        ('{"lr":01}', ["begin with 0"]),
        ('{"lr":0.1}}', ["follows"]),
        ('{"lr":0.1,}', ["','"]),
        ("[]", ["JSON object", "epochs"]),
        ("epochs=1", ["JSON object"]),
        ('{"a\u00e9\n":1}', ["control character"]),
    ],
)
def test_bad_hyperparameters_are_named(hyperparams: str, words: list[str]) -> None:
    """The message names the key and what would be right."""
    assert_refused(run(Job(GOOD_JSON, GOOD_DATA, hyperparams)), "HYPERPARAMS", *words)


@pytest.mark.parametrize("text", ["", "  ", "{}", " { } "])
def test_no_hyperparameters_mean_the_defaults(text: str) -> None:
    """Empty, blank and {} are the same as none."""
    assert run(Job(GOOD_JSON, GOOD_DATA, text)).files == run(Job(GOOD_JSON, GOOD_DATA)).files


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (b"", ["empty"]),
        (b"hello", ["neither a JSON model", "safetensors"]),
        (b"{", ["cut off"]),
        (b"{}", ['"w" is missing']),
        (b'{"w":[1,2,3]}', ['"b" is missing']),
        (b'{"w":[1,2,3],"b":[0]}', ['"b" must be a number']),
        (b'{"w":[[1,2,3]],"b":0}', ['"b" must be a list of 1']),
        (b'{"w":[[1,2,3],[1,2]],"b":[0,0]}', ["row of 2", "rows of 3"]),
        (b'{"w":[[[1]]],"b":[0]}', ['"w" must hold numbers']),
        (b'{"w":[[1],2],"b":[0]}', ["'['"]),
        (b'{"w":[1,[2]],"b":0}', ['"w" must hold numbers']),
        (b'{"w":[],"b":0}', ['"w" must be a list']),
        (b'{"w":[[],[]],"b":[0,0]}', ['"w" must be a list']),
        (b'{"w":1,"b":0}', ['"w" must be a list']),
        (b'{"w":[1,2,1e39],"b":0}', ["beyond float32"]),
        (b'{"w":[1,2,NaN],"b":0}', ["must hold numbers"]),
        (b'{"w":[1,2,null],"b":0}', ["must hold numbers"]),
        (b'{"w":[1,2,3],"w":[1,2,3],"b":0}', ['"w" is given twice']),
        (b'{"w":[1,2,3],"b":0,"b":0}', ['"b" is given twice']),
        (b'{"w":[1,2,3],"b":0} x', ["follows"]),
        (b'{"w":[1,2,0x10],"b":0}', ["invalid JSON"]),
        (b'{"w":[1,2,3],"b":0,"z":' + b"[" * 100_000, ["nested deeper than 64"]),
        (b'{"w":' + b"[" * 100_000, ["must hold numbers"]),
        (b'{"w":[1,2],"b":0}', ["3 numbers per sample", "takes 2"]),
        (b'{"w":[1,2,3],"b":0,"s":"\\ud800"}', ["surrogate"]),
        (b'{"w":[1,2,3],"b":0,"s":"\\x"}', ["escape"]),
        (b'{"w":[1,2,3],"b":0,"s":tru}', ["number was expected"]),
    ],
)
def test_bad_json_models_are_named(model: bytes, words: list[str]) -> None:
    """The message says what of the model is wrong."""
    assert_refused(run(Job(model, GOOD_DATA)), *words)


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    """One entry of a safetensors header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


W, B = tensor([2, 3], 0, 24), tensor([2], 24, 32)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({}, ["no layers"]),
        ({"__metadata__": {"architecture": "cnn"}, "layers.0.weight": W}, ['"cnn"', '"mlp"']),
        ({"layers.0.weight": W}, ["layers.0.bias is missing"]),
        ({"layers.0.bias": B}, ["layers.0.weight is missing"]),
        ({"layers.1.weight": W, "layers.1.bias": B}, ["layers.0.weight is missing"]),
        ({"fc.weight": W}, ["unknown tensor", "fc.weight"]),
        ({"layers.00.weight": W}, ["unknown tensor"]),
        ({"layers.64.weight": W}, ["at most 64"]),
        ({"layers.0.weight": tensor([2, 3], 0, 24, "F16")}, ["F16", "convert"]),
        ({"layers.0.weight": tensor([2, 3, 1], 0, 24)}, ["shape"]),
        ({"layers.0.weight": tensor([0, 3], 0, 0)}, ["shape"]),
        ({"layers.0.weight": tensor([2**40, 3], 0, 24)}, ["shape"]),
        ({"layers.0.weight": tensor([6], 0, 24), "layers.0.bias": B}, ["(out, in)"]),
        ({"layers.0.weight": W, "layers.0.bias": tensor([1], 24, 28)}, ["(out, in)"]),
        ({"layers.0.weight": W, "layers.0.bias": tensor([2], 16, 24)}, ["shares bytes"]),
        ({"layers.0.weight": W, "layers.0.bias": tensor([2], 24, 40)}, ["layers.0.bias needs 8"]),
        ({"layers.0.weight": tensor([2, 3], 8, 24), "layers.0.bias": B}, ["layers.0.weight needs"]),
        ({"layers.0.weight": tensor([2, 3], 24, 0), "layers.0.bias": B}, ["layers.0.weight needs"]),
        ({"layers.0.weight": {"dtype": "F32", "shape": [2, 3]}}, ["lacks"]),
        ({"layers.0.weight": {**W, "color": 1}}, ["unknown field"]),
    ],
)
def test_bad_safetensors_headers_are_named(header: Mapping[str, Any], words: list[str]) -> None:
    """The message names the tensor and what is wrong with it."""
    model = with_header(json.dumps(header).encode(), bytes(32))
    assert_refused(run(Job(model, GOOD_DATA)), *words)


def test_a_huge_shape_ends_in_a_message() -> None:
    """A shape whose product overflows 32 bits is refused before anything is allocated."""
    shapes = [2**28, 2**28]
    header = {"layers.0.weight": tensor(shapes, 0, 24), "layers.0.bias": tensor(shapes[:1], 24, 32)}
    model = with_header(json.dumps(header).encode(), bytes(32))
    assert_refused(run(Job(model, GOOD_DATA)), "too large", code=RESOURCES)


@pytest.mark.parametrize("length", [0, 1, 2**20 + 1, 2**31, 2**55 - 1])
def test_a_wrong_header_length_is_refused(length: int) -> None:
    """Lengths that lie about the file never lead outside it."""
    model = with_header(b'{"layers.0.weight":' + b" " * 100, bytes(32), length)
    assert run(Job(model, GOOD_DATA)).code == BAD_INPUT


def test_layers_must_fit_each_other() -> None:
    """A layer that takes other widths than its predecessor gives is refused with both."""
    layers = (random_layers((3, 4), 1)[0], random_layers((5, 2), 1)[0])
    words = "layers.1 takes 5", "layers.0 gives 4"
    assert_refused(run(Job(safetensors_model(layers), GOOD_DATA)), *words)


def test_a_tensor_given_twice_is_refused() -> None:
    """Duplicate names cannot hide a tensor behind another."""
    one = b'"layers.0.weight":' + json.dumps(W).encode()
    model = with_header(b"{" + one + b"," + one + b"}", bytes(32))
    assert_refused(run(Job(model, GOOD_DATA)), "given twice")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_model_that_is_not_finite_is_refused(bad: float) -> None:
    """NaN and infinity do not enter training."""
    layers = random_layers((3, 2), 1)
    layers[0].weight[1, 2] = bad
    assert_refused(run(Job(safetensors_model(layers), GOOD_DATA)), "/in/model", "not finite")


def header_of(text: str) -> bytes:
    """A version 1 .npy header with this text."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


GOOD_HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 3), }"


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (b"", ["not a .npy file"]),
        (b"\x93NUMPY\x04\x00\x00\x00\x00\x00\x00", ["version 4"]),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", ["cut off inside its header"]),
        (header_of(GOOD_HEADER), ["18 items of 4 bytes but 0"]),
        (header_of(GOOD_HEADER) + bytes(71), ["but 71"]),
        (header_of(GOOD_HEADER) + bytes(73), ["but 73"]),
        (header_of(GOOD_HEADER.replace("6, 3", "6, 4294967295, 4294967295")), ["too large"]),
        (header_of(GOOD_HEADER.replace("6, 3", "99999999999999999999")), ["too large"]),
        (header_of(GOOD_HEADER.replace("6, 3", "-6, 3")), ["shape"]),
        (header_of(GOOD_HEADER.replace("6, 3", "")) + bytes(4), ["single number"]),
        (header_of(GOOD_HEADER.replace("False", "Maybe")), ["fortran_order"]),
        (header_of(GOOD_HEADER.replace("'<f4'", "[('a', '<f4')]")), ["not a plain number"]),
        (header_of(GOOD_HEADER.replace("shape", "shapes")), ["unknown key"]),
        (header_of("{'shape': (6, 3), 'shape': (6, 3)}"), ["twice"]),
        (header_of("{'shape': (6, 3)}"), ["missing"]),
        (header_of(GOOD_HEADER + "x"), ["something follows"]),
        (npy(X.astype(">f4")), ["big-endian", "astype('<f4')"]),
        (npy(X.astype("f2")), ["<f2", "convert"]),
        (npy(X.astype("c8")), ["<c8", "convert"]),
        (npy(X.astype("U1")), ["<U1", "convert"]),
        (npy(np.asfortranarray(X)), ["Fortran", "ascontiguousarray"]),
        (npy(X[:0]), ["no samples"]),
        (npy(X[:, :0]), ["no samples"]),
        (npy(X[:5]), ["5 samples", "6 labels"]),
        (npy(X[:, :2]), ["2 numbers per sample", "takes 3"]),
        (
            npy(np.where(np.arange(18).reshape(6, 3) == 13, np.nan, X)),
            ["sample 4, number 1", "not finite"],
        ),
        (npy(X.astype("f8") * 1e300), ["not finite as a float32"]),
    ],
)
def test_bad_samples_are_named(x: bytes, words: list[str]) -> None:
    """The message names x.npy, what is wrong, and mostly the NumPy call that mends it."""
    outcome = run(Job(GOOD_JSON, {**GOOD_DATA, "train/x.npy": x}))
    assert_refused(outcome, "/data/train/x.npy", *words)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (Y + 1, ["label 1 is 2", "labels 0 to 1"]),
        (Y - 1, ["label 0 is -1"]),
        (Y.astype("f8"), ["floats", "astype('<i8')"]),
        (np.full(6, 2**64 - 1, "u8"), ["labels 0 to 1"]),
        (np.stack([Y, Y], axis=1), ["2 numbers per sample"]),
    ],
)
def test_bad_labels_are_named(y: np.ndarray, words: list[str]) -> None:
    """The message names y.npy and the first label that the model cannot have."""
    outcome = run(Job(GOOD_JSON, {**GOOD_DATA, "train/y.npy": npy(y)}))
    assert_refused(outcome, "/data/train/y.npy", *words)


def test_missing_data_says_where_it_comes_from() -> None:
    """The very first mistake of a newcomer gets the cure."""
    outcome = run(Job(GOOD_JSON))
    assert_refused(outcome, "no data at /data/train", "a mount called train", "roost data digits")


@pytest.mark.parametrize("member", ["x.npy", "y.npy"])
def test_a_missing_file_is_named(member: str) -> None:
    """A mount without its arrays names the one that is missing."""
    files = {path: data for path, data in GOOD_DATA.items() if not path.endswith(member)}
    assert_refused(run(Job(GOOD_JSON, files)), f"/data/train/{member}", "roost data import")


def test_a_missing_model_is_named() -> None:
    """No /in/model: the message says which input the task lacks."""
    assert_refused(run(Job(None, GOOD_DATA)), "/in/model", "input named model")


@pytest.mark.parametrize("name", list(IDS))
@pytest.mark.parametrize("value", [None, "", "x" * 1025])
def test_ids_are_required_and_bounded(name: str, value: str | None) -> None:
    """Training needs each of the three ids."""
    env = {key: text for key, text in IDS.items() if key != name}
    if value is not None:
        env[name] = value
    assert_refused(run(Job(GOOD_JSON, GOOD_DATA, env=env)), name)


@pytest.mark.parametrize("argv", [["predict"], ["train", "now"]])
def test_unknown_arguments_are_refused(argv: list[str]) -> None:
    """Only train and evaluate exist."""
    assert_refused(run(Job(GOOD_JSON, GOOD_DATA, argv=argv)), "train or evaluate")


def test_diverging_training_gives_no_update() -> None:
    """A step size that leaves the finite numbers ends in its own exit code, not in NaN."""
    job = Job(GOOD_TENSORS, mount(X * 1e6, Y), {"lr": 1000, "epochs": 50})
    assert_refused(run(job), "diverged", "lower lr", code=DIVERGED)


def test_too_little_memory_is_said_plainly() -> None:
    """A batch that does not fit the task's memory limit is an error message, not a trap."""
    x, y = np.zeros((2**20, 1), "u1"), np.zeros(2**20, "u1")
    layers = random_layers((1, 600, 2), 1)
    job = Job(safetensors_model(layers), mount(x, y), {"batch_size": 2**20})
    assert_refused(run(job), "out of memory", "memory limit", code=RESOURCES)


def refused_or_trained(outcome: Run) -> None:
    """Either a finite update or one clear line; nothing else."""
    if outcome.code == 0:
        for layer in outcome.layers:
            assert np.isfinite(layer.weight).all()
            assert np.isfinite(layer.bias).all()
    else:
        assert_refused(outcome, code=outcome.code)
        assert outcome.code in (BAD_INPUT, DIVERGED, RESOURCES)


def damaged(good: bytes) -> st.SearchStrategy[bytes]:
    """The file cut off, or with a few bytes changed, or with a piece taken out or put in."""
    position = st.integers(0, len(good) - 1)
    cut = position.map(lambda at: good[:at])
    flips = st.lists(st.tuples(position, st.integers(0, 255)), min_size=1, max_size=4)
    changed = flips.map(lambda pairs: _with_bytes(good, pairs))
    spliced = st.tuples(position, position, st.binary(max_size=8)).map(
        lambda part: good[: min(part[:2])] + part[2] + good[max(part[:2]) :]
    )
    return st.one_of(cut, changed, spliced)


def _with_bytes(good: bytes, pairs: list[tuple[int, int]]) -> bytes:
    changed = bytearray(good)
    for at, value in pairs:
        changed[at] = value
    return bytes(changed)


FUZZ = settings(max_examples=150, deadline=None, derandomize=True)


@FUZZ
@given(model=st.one_of(damaged(GOOD_JSON), damaged(GOOD_TENSORS), st.binary(max_size=64)))
def test_a_damaged_model_never_traps(model: bytes) -> None:
    """Whatever the bytes of a model, the guest refuses or trains."""
    refused_or_trained(run(Job(model, GOOD_DATA)))


@FUZZ
@given(x=damaged(GOOD_DATA["train/x.npy"]), y=st.one_of(st.just(b""), damaged(npy(Y))))
def test_damaged_data_never_traps(x: bytes, y: bytes) -> None:
    """Whatever the bytes of the data, the guest refuses or trains."""
    labels = y or GOOD_DATA["train/y.npy"]
    refused_or_trained(run(Job(GOOD_TENSORS, {"train/x.npy": x, "train/y.npy": labels})))


WELL_FORMED = '{"epochs":2,"lr":0.05,"batch_size":3,"momentum":0.5,"seed":7,"dataset":"train"}'


@FUZZ
@given(text=damaged(WELL_FORMED.encode()))
def test_damaged_hyperparameters_never_trap(text: bytes) -> None:
    """Whatever stands in HYPERPARAMS, the guest refuses or trains."""
    printable = text.decode("utf-8", "replace").replace("\0", "?")
    refused_or_trained(run(Job(GOOD_JSON, GOOD_DATA, printable)))
