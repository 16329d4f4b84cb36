"""What people want in one run: rounds, and tasks of another workload; drawn by the seed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from roost.protocol.round.model import parse_model

PROPLETS: Final = ("p1", "p2", "p3")
STRANGER: Final = "p4"
BASE: Final = b'{"w":[0.5,-0.25],"b":0.125}'
IMAGE: Final = "oci://registry.example/guest:1"
TIMEOUT_S: Final = 400.0
VERSION_0: Final = "fl/models/global_model_v0"
VERSION_1: Final = "fl/models/global_model_v1"


@dataclass(frozen=True, slots=True)
class WantedRound:
    """A round that the operator starts.

    Attributes:
        round_id: Its id.
        base: Topic of its base model.
        k: How many updates close it.
        after_s: Seconds after which it is ordered.
    """

    round_id: str
    base: str
    k: int
    after_s: float

    def order(self) -> bytes:
        """Return the start."""
        order = {"round_id": self.round_id, "model_uri": self.base, **_policy(self.k)}
        return json.dumps(order).encode()


@dataclass(frozen=True, slots=True)
class WantedTask:
    """A task that the operator launches, and perhaps cancels soon."""

    task_id: str
    proplet: str | None
    after_s: float
    cancel_after_s: float | None

    def order(self) -> bytes:
        """Return the launch."""
        request: dict[str, Any] = {"task_id": self.task_id, "image": IMAGE, "deadline_s": TIMEOUT_S}
        if self.proplet is not None:
            request["proplet"] = self.proplet
        return json.dumps(request).encode()


@dataclass(frozen=True, slots=True)
class Scenario:
    """All wishes of one run.

    Attributes:
        rounds: Rounds.
        tasks: Tasks of another workload.
        experiment_k: Quorum of an experiment of two rounds, if there is one.
        rolls_back: Whether version 0 shall become a new version in the end.
        versions_kept: How many of the newest versions the model server keeps.
    """

    rounds: tuple[WantedRound, ...]
    tasks: tuple[WantedTask, ...]
    experiment_k: int | None = None
    rolls_back: bool = False
    versions_kept: int = 50

    def experiment_order(self) -> bytes:
        """Return the order of an experiment of two rounds."""
        policy = _policy(self.experiment_k or 0)
        order = {"experiment_id": "e", "rounds": 2, "model_uri": VERSION_0, **policy}
        return json.dumps(order).encode()


def _policy(k: int) -> dict[str, Any]:
    return {
        "task_wasm_image": IMAGE,
        "participants": list(PROPLETS),
        "k_of_n": k,
        "timeout_s": TIMEOUT_S,
    }


def draw(rng: Random) -> Scenario:
    """Draw one or two rounds, and up to three other tasks."""
    rounds = [WantedRound("r1", VERSION_0, _quorum(rng), rng.uniform(0.5, 4.0))]
    if rng.random() < 0.5:
        base = rng.choice((VERSION_0, VERSION_1))
        rounds.append(WantedRound("r2", base, _quorum(rng), rng.uniform(0.5, 9.0)))
    tasks = [
        WantedTask(
            f"job-{number}",
            rng.choice((None, *PROPLETS)),
            rng.uniform(0.5, 12.0),
            rng.choice((rng.uniform(0.0, 0.3), rng.uniform(0.0, 3.0), None)),
        )
        for number in range(rng.randint(0, 3))
    ]
    experiment_k = _quorum(rng) if rng.random() < 0.2 else None
    kept = rng.choice((50, 50, 1))
    return Scenario(tuple(rounds), tuple(tasks), experiment_k, rng.random() < 0.2, kept)


def _quorum(rng: Random) -> int:
    return rng.choice((3, 3, 2))


def samples_of(name: str) -> int:
    """Return a proplet's number of samples."""
    return 10 + PROPLETS.index(name)


def tensors_of(name: str, round_id: str, model: bytes) -> dict[str, Any]:
    """Return what a proplet learns: by its name, the round and the model alone."""
    rng = np.random.default_rng([*round_id.encode(), PROPLETS.index(name)])
    return {
        key: np.asarray(value + rng.standard_normal(np.shape(value)))
        for key, value in parse_model(model).tensors.items()
    }


def update(
    round_id: str,
    base: str,
    samples: int,
    tensors: Mapping[str, Any],
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> bytes:
    """Write an update as a guest prints it."""
    content = {
        "round_id": round_id,
        "base_model_uri": base,
        "num_samples": samples,
        "metrics": {"loss": 0.5},
        "update": {name: np.asarray(value).tolist() for name, value in tensors.items()},
        **changes,
    }
    return json.dumps(content).encode()
