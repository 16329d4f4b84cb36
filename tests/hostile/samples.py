"""One honest payload, or several, for everything that a service reads."""

import json
from collections.abc import Mapping
from typing import Any, Final

import msgpack
import numpy as np
from roost.protocol.round.messages import (
    ExperimentStart,
    ExperimentStop,
    ModelIndex,
    Rollback,
    RoundStart,
    RoundState,
)
from roost.protocol.round.model import encode_safetensors
from roost.protocol.task.messages import (
    CancelTask,
    Presence,
    ReloadWorkloads,
    Report,
    StartTask,
    StopTask,
    TaskRequest,
    TaskState,
    Telemetry,
)
from roost.wire.blob import Manifest
from roost.wire.message import Message

from .shapes import BASE, update_map

SHA: Final = "0" * 63 + "1"
IMAGE: Final = f"blob:operator/{SHA}"
ARRAYS: Final[Mapping[str, Any]] = {
    "b": np.array([0.25, -1.5], "<f4"),
    "w": np.arange(6, dtype="<f4").reshape(3, 2) / 8,
}
MODEL: Final = encode_safetensors(ARRAYS, {"architecture": "softmax", "version": "0"})
JSON_MODEL: Final = (
    b'{"w":[[0.1,-2],[3,4e-2]],"b":0.5,"version":0,"name":"other","metrics":{"loss":1}}'
)

_TASK: Final[dict[str, Any]] = {
    "image": IMAGE,
    "args": ["--fast", "x"],
    "env": {"A": "1", "LONG_NAME": "text"},
    "inputs": [
        {"name": "model", "topic": "some/topic"},
        {"name": "b", "blob": f"operator/{SHA}"},
        {"name": "t", "text": "hello"},
        {"name": "c", "base64": "aGVsbG8="},
    ],
    "outputs": [{"file": "out", "topic": "results/x"}],
    "mounts": ["data?", "more"],
    "limits": {"memory_mb": 64, "wall_s": 10.5, "out_mb": 1, "stdout_mb": 1},
}
_POLICY: Final[dict[str, Any]] = {
    "model_uri": BASE,
    "task_wasm_image": IMAGE,
    "participants": ["p1", "p2"],
    "hyperparams": {"epochs": 1, "lr": 0.01, "more": [1, {"a": None}]},
    "k_of_n": 1,
    "timeout_s": 60.5,
    "on_timeout": "aggregate",
    "min_updates": 1,
    "max_samples": 1000,
}
_VERSION: Final[dict[str, Any]] = {
    "version": 0,
    "topic": BASE,
    "digest": SHA,
    "sha256": SHA,
    "size": 100,
    "form": "safetensors",
    "publish_id": "initial",
    "metrics": {"loss": 0.5},
}

MESSAGES: Final[Mapping[type[Message], dict[str, Any]]] = {
    TaskRequest: {
        **_TASK,
        "v": 1,
        "task_id": "t-1",
        "proplet": "p1",
        "selector": {"room": "attic"},
        "deadline_s": 30,
    },
    StartTask: {"attempt": 2, "remaining_s": 12.5, "task": _TASK},
    StopTask: {"attempt": 2, "reason": "stale"},
    CancelTask: {"reason": "enough"},
    ReloadWorkloads: {"reload_id": "r-1"},
    Report: {
        "attempt": 1,
        "boot_id": "b1",
        "status": "failed",
        "reason": "exit_code",
        "message": "what happened",
        "exit_code": 3,
        "stderr_tail": "last words",
        "progress": {"epoch": 1, "loss": 0.25, "deep": {"a": [1, 2]}},
        "usage": {"wall_s": 1.5, "cpu_s": 0.5, "memory_mb": 12.0, "out_bytes": 77},
    },
    Presence: {
        "proplet_id": "p1",
        "status": "online",
        "boot_id": "b1",
        "labels": {"room": "attic"},
        "resources": {"cpus": 4, "memory_mb": 1000, "arch": "x86_64"},
        "runtimes": ["wasi-preview1"],
        "protocols": {"task": 1},
        "mounts": ["train"],
        "running": [{"task_id": "r:p1", "attempt": 1}],
    },
    Telemetry: {
        "load": 0.5,
        "memory_free_mb": 100,
        "battery": 55.5,
        "on_power": True,
        "thermal": "fair",
        "running": 1,
    },
    TaskState: {
        "task_id": "r:p1",
        "state": "running",
        "proplet": "p1",
        "attempt": 1,
        "reason": "trap",
        "message": "x",
        "durations": {"queued_s": 0.5},
        "launch": {"topic": "fl/rounds/start", "sha256": SHA, "key": "r"},
    },
    RoundStart: {**_POLICY, "round_id": "r-1"},
    ExperimentStart: {**_POLICY, "experiment_id": "e-1", "rounds": 3},
    ExperimentStop: {"reason": "enough"},
    Rollback: {"name": "global_model", "version": 0, "rollback_id": "back-1"},
    ModelIndex: {
        "models": {"global_model": {"latest": 0, "versions": [_VERSION]}},
        "refusals": [{"publish_id": "x", "code": 341, "reason": "taken"}],
    },
    RoundState: {
        "round_id": "r-1",
        "state": "open",
        "model_uri": BASE,
        "k_of_n": 2,
        "participants": 3,
        "updates": 1,
        "missing": ["p2"],
        "failed": {"p3": "trap"},
        "refusals": {"late": 1},
        "time_left_s": 1.5,
    },
    Manifest: {"owner": "p1", "sha256": SHA, "size": 3_000_000, "chunk_bytes": 262_144},
}


def text(kind: type[Message]) -> bytes:
    """Return an honest message of a kind."""
    return json.dumps(MESSAGES[kind]).encode()


def updates(round_id: str = "r", **changed: Any) -> list[bytes]:
    """Return honest updates of both forms."""
    lists = {name: array.tolist() for name, array in ARRAYS.items()}
    said = update_map(round_id=round_id, update=lists, **changed)
    packed = {**said, "update": encode_safetensors(ARRAYS, {})}
    return [json.dumps(said).encode(), bytes(msgpack.packb(packed))]
