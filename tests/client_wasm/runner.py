"""Runs the guest the way a proplet does, and speaks its file formats."""

from __future__ import annotations

import functools
import itertools
import json
import struct
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import safetensors.numpy
import wasmtime
from roost.client_wasm import guest_path
from roost.client_wasm.reference import Layer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

MEMORY_LIMIT = 256 * 1024 * 1024

IDS = {
    "ROUND_ID": "r-1",
    "MODEL_URI": "fl/models/global_model_v0",
    "PROPLET_ID": "p-1",
}


@dataclass(frozen=True)
class Run:
    """What one run of the guest left behind."""

    code: int
    stdout: bytes
    stderr: str
    files: Mapping[str, bytes]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON lines of stdout."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def update(self) -> dict[str, Any]:
        """The decoded /out/update."""
        assert self.code == 0, self.stderr
        raw = self.files["update"]
        decoded: dict[str, Any] = json.loads(raw) if raw[:1] == b"{" else msgpack.unpackb(raw)
        return decoded

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The parameters of /out/update, as the reference has them."""
        return layers_of(self.update["update"])


@dataclass(frozen=True)
class Job:
    """One run to be: the guest's whole world."""

    model: bytes | None
    files: Mapping[str, bytes] = field(default_factory=dict)
    """What lies below /data, by path, such as `train/x.npy`."""
    hyperparams: Mapping[str, Any] | str | None = None
    argv: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=lambda: dict(IDS))


@functools.cache
def _compiled() -> tuple[wasmtime.Engine, wasmtime.Module]:
    engine = wasmtime.Engine()
    return engine, wasmtime.Module.from_file(engine, str(guest_path()))


def run(job: Job) -> Run:
    """Run the guest once in fresh folders; a trap is an error of the test."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("in", "data", "out"):
            (root / folder).mkdir()
        if job.model is not None:
            (root / "in" / "model").write_bytes(job.model)
        for path, content in job.files.items():
            (root / "data" / path).parent.mkdir(exist_ok=True)
            (root / "data" / path).write_bytes(content)
        code = _start(root, job)
        return Run(
            code,
            (root / "stdout").read_bytes(),
            (root / "stderr").read_text(),
            {path.name: path.read_bytes() for path in (root / "out").iterdir()},
        )


def _start(root: Path, job: Job) -> int:
    engine, module = _compiled()
    store = wasmtime.Store(engine)
    store.set_limits(memory_size=MEMORY_LIMIT)
    wasi = wasmtime.WasiConfig()
    wasi.argv = ["fl-client", *job.argv]
    env = dict(job.env)
    if job.hyperparams is not None:
        given = job.hyperparams
        env["HYPERPARAMS"] = given if isinstance(given, str) else json.dumps(given)
    wasi.env = list(env.items())
    wasi.stdout_file = str(root / "stdout")
    wasi.stderr_file = str(root / "stderr")
    wasi.preopen_dir(str(root / "in"), "/in", False)  # noqa: FBT003 - positional only
    for mount in sorted((root / "data").iterdir()):
        wasi.preopen_dir(str(mount), f"/data/{mount.name}", False)  # noqa: FBT003
    wasi.preopen_dir(str(root / "out"), "/out", True)  # noqa: FBT003
    store.set_wasi(wasi)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    start = linker.instantiate(store, module).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    try:
        start(store)
    except wasmtime.ExitTrap as stop:
        return stop.code
    return 0


def npy(array: NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    """The array as a .npy file."""
    with tempfile.TemporaryFile() as file:
        np.lib.format.write_array(file, array, version=version)
        file.seek(0)
        return file.read()


def mount(x: NDArray[Any], y: NDArray[Any], name: str = "train") -> dict[str, bytes]:
    """Samples and labels as the files of one mount."""
    return {f"{name}/x.npy": npy(x), f"{name}/y.npy": npy(y)}


def safetensors_model(layers: Sequence[Layer]) -> bytes:
    """An MLP as a safetensors file."""
    tensors = {}
    for i, layer in enumerate(layers):
        tensors[f"layers.{i}.weight"] = layer.weight.astype(np.float32)
        tensors[f"layers.{i}.bias"] = layer.bias.astype(np.float32)
    metadata = {"architecture": "mlp", "version": "0"}
    return safetensors.numpy.save(tensors, metadata=metadata)


def json_model(layer: Layer, **more: Any) -> bytes:
    """A regression as JSON: w 1-D where the layer has one output."""
    if layer.weight.shape[0] == 1:
        parameters = {"w": layer.weight[0].tolist(), "b": float(layer.bias[0])}
    else:
        parameters = {"w": layer.weight.tolist(), "b": layer.bias.tolist()}
    return json.dumps({**parameters, "version": 0, **more}).encode()


def layers_of(parameters: bytes | Mapping[str, Any]) -> tuple[Layer, ...]:
    """Parameters of an update, in either form, as the reference has them."""
    if isinstance(parameters, bytes):
        tensors = safetensors.numpy.load(parameters)
        return tuple(
            Layer(
                tensors[f"layers.{i}.weight"].astype(np.float64),
                tensors[f"layers.{i}.bias"].astype(np.float64),
            )
            for i in range(len(tensors) // 2)
        )
    weight = np.atleast_2d(np.array(parameters["w"], np.float64))
    return (Layer(weight, np.atleast_1d(np.array(parameters["b"], np.float64))),)


def random_layers(sizes: Sequence[int], seed: int) -> tuple[Layer, ...]:
    """Glorot-uniform weights and small biases for the given widths, exact in float32."""
    random = np.random.default_rng(seed)
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        limit = np.sqrt(6 / (inputs + outputs))
        weight = random.uniform(-limit, limit, (outputs, inputs)).astype(np.float32)
        bias = random.uniform(-0.1, 0.1, outputs).astype(np.float32)
        layers.append(Layer(weight.astype(np.float64), bias.astype(np.float64)))
    return tuple(layers)


def with_header(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file put together by hand."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data
