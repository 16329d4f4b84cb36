"""How fast the training guest is: against its own C built natively, and against NumPy.

    uv run --group guest python benchmarks/guest/run.py

One epoch of a 784-200-10 MLP over 600 samples in batches of 10, on one core. All three are measured
in one run, taking turns, as CPU time; an epoch's time is the difference between a long and a short
run, so loading and compiling do not count. Only the ratios mean anything on another machine.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Protocol

import numpy as np
import wasmtime
from roost.client_wasm import guest_path
from safetensors.numpy import save_file

HERE = Path(__file__).resolve()
BUILD = HERE.parents[2] / "client-wasm" / "build.py"

SIZES = (784, 200, 10)
SAMPLES = 600
BATCH = 10
LR = 0.1
SHORT, LONG = 1, 21
ROUNDS = 11
BUDGETS = {"native C, 128-bit vectors": 1.2, "NumPy, one BLAS thread": 1.3}


def prepare(folder: Path) -> None:
    """Write in/model, data/train and an empty out/ below `folder`."""
    for name in ("in", "data/train", "out"):
        (folder / name).mkdir(parents=True)
    random = np.random.default_rng(7)
    tensors: dict[str, np.ndarray] = {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(SIZES)):
        limit = np.sqrt(6 / (inputs + outputs))
        weight = random.uniform(-limit, limit, (outputs, inputs))
        tensors[f"layers.{i}.weight"] = weight.astype(np.float32)
        tensors[f"layers.{i}.bias"] = np.zeros(outputs, np.float32)
    save_file(tensors, folder / "in" / "model", metadata={"architecture": "mlp", "version": "0"})
    x = random.random((SAMPLES, SIZES[0]), dtype=np.float32)
    np.save(folder / "data" / "train" / "x.npy", x)
    np.save(folder / "data" / "train" / "y.npy", random.integers(0, SIZES[-1], SAMPLES))


def environment(epochs: int) -> dict[str, str]:
    """The guest's environment variables."""
    hyperparams = {"epochs": epochs, "lr": LR, "batch_size": BATCH}
    return {
        "ROUND_ID": "benchmark",
        "MODEL_URI": "fl/models/global_model_v0",
        "PROPLET_ID": "bench",
        "HYPERPARAMS": json.dumps(hyperparams),
    }


class Contender(Protocol):
    """What takes part in the measurement."""

    def seconds(self, epochs: int) -> float:
        """CPU seconds of training for so many epochs, with whatever comes before."""


class Guest:
    """The checked-in guest in Wasmtime, compiled once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._engine = wasmtime.Engine()
        self._module = wasmtime.Module.from_file(self._engine, str(guest_path()))

    def seconds(self, epochs: int) -> float:
        """CPU seconds of one run."""
        store = wasmtime.Store(self._engine)
        wasi = wasmtime.WasiConfig()
        wasi.argv = ["fl-client"]
        wasi.env = list(environment(epochs).items())
        wasi.stdout_file = str(self._folder / "stdout")
        wasi.inherit_stderr()
        for name, writable in (("in", False), ("data/train", False), ("out", True)):
            wasi.preopen_dir(str(self._folder / name), f"/{name}", writable)
        store.set_wasi(wasi)
        linker = wasmtime.Linker(self._engine)
        linker.define_wasi()
        start = linker.instantiate(store, self._module).exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        begin = time.thread_time()
        try:
            start(store)
        except wasmtime.ExitTrap as stop:
            if stop.code != 0:
                raise
        return time.thread_time() - begin


class Native:
    """The same C files as a program of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program = folder / "fl-client"
        subprocess.run([sys.executable, BUILD, "--native", self._program], check=True)

    def seconds(self, epochs: int) -> float:
        """CPU seconds of one run."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [self._program],
            cwd=self._folder,
            env=environment(epochs),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class NumPy:
    """`train_numpy` in a process whose BLAS has one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def seconds(self, epochs: int) -> float:
        """CPU seconds of the training alone."""
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        done = subprocess.run(
            [sys.executable, HERE, "--numpy", self._folder, str(epochs)],
            env={**os.environ, **dict.fromkeys(names, "1")},
            capture_output=True,
            check=True,
        )
        return float(done.stdout)


def train_numpy(folder: Path, epochs: int) -> float:
    """Train in float32 with in-place NumPy as one would write it for speed; CPU seconds."""
    random = np.random.default_rng(7)
    x = np.load(folder / "data" / "train" / "x.npy")
    y = np.load(folder / "data" / "train" / "y.npy")
    w1, w2 = (
        random.standard_normal(shape, dtype=np.float32) * np.float32(0.05)
        for shape in ((SIZES[1], SIZES[0]), (SIZES[2], SIZES[1]))
    )
    b1, b2 = np.zeros(SIZES[1], np.float32), np.zeros(SIZES[2], np.float32)
    g1, g2 = np.empty_like(w1), np.empty_like(w2)
    lr = np.float32(LR)
    rows = np.arange(BATCH)
    begin = time.process_time()
    for _ in range(epochs):
        order = random.permutation(SAMPLES)
        for start in range(0, SAMPLES, BATCH):
            chosen = order[start : start + BATCH]
            batch, labels = x[chosen], y[chosen]
            hidden = batch @ w1.T
            hidden += b1
            np.maximum(hidden, 0, out=hidden)
            scores = hidden @ w2.T
            scores += b2
            scores -= scores.max(axis=1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=1, keepdims=True)
            scores[rows, labels] -= 1
            scores *= lr / np.float32(BATCH)
            d_hidden = scores @ w2
            d_hidden *= hidden > 0
            np.matmul(scores.T, hidden, out=g2)
            np.matmul(d_hidden.T, batch, out=g1)
            w2 -= g2
            w1 -= g1
            b2 -= scores.sum(axis=0)
            b1 -= d_hidden.sum(axis=0)
    return time.process_time() - begin


def epoch_seconds(folder: Path) -> dict[str, list[float]]:
    """CPU seconds of one epoch per contender and round.

    Contenders take turns within a round, so that a machine that slows down slows all of them.
    """
    contenders: dict[str, Contender] = {
        "guest": Guest(folder),
        "native C, 128-bit vectors": Native(folder),
        "NumPy, one BLAS thread": NumPy(folder),
    }
    short = {
        name: min(contender.seconds(SHORT) for _ in range(ROUNDS))
        for name, contender in contenders.items()
    }
    epochs: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, contender in contenders.items():
            epochs[name].append((contender.seconds(LONG) - short[name]) / (LONG - SHORT))
    return epochs


def measure() -> list[dict[str, object]]:
    """One row per peer: row, value, unit, peer, peer_value, ratio, budget, met.

    The values are medians over the rounds; the ratio is the median of the rounds' own ratios.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        epochs = epoch_seconds(folder)
    guest = epochs.pop("guest")
    rows: list[dict[str, object]] = []
    for peer, seconds in epochs.items():
        ratio = statistics.median(a / b for a, b in zip(guest, seconds, strict=True))
        rows.append(
            {
                "row": "training guest, one epoch of 600 samples, MLP 784-200-10, batch 10",
                "value": round(statistics.median(guest) * 1000, 3),
                "unit": "CPU ms",
                "peer": peer,
                "peer_value": round(statistics.median(seconds) * 1000, 3),
                "ratio": round(ratio, 3),
                "budget": BUDGETS[peer],
                "met": ratio <= BUDGETS[peer],
            }
        )
    return rows


def main() -> int:
    """Print the rows as JSON; exit 1 where a budget is not met."""
    if sys.argv[1:2] == ["--numpy"]:
        print(train_numpy(Path(sys.argv[2]), int(sys.argv[3])))
        return 0
    rows = measure()
    print(json.dumps(rows, indent=2))
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
