"""Whole rounds over a real broker, with the task side played by the test."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from roost.protocol.round.messages import RoundStatus
from roost.protocol.round.model import digest
from roost.protocol.task.messages import TaskStatus

from .stage import Stage, opened, safetensors_model, start, update

pytestmark = pytest.mark.system

# The example of the project's first sketch, with the image it names.
SEED_START = b"""{
  "round_id": "r-0001",
  "model_uri": "fl/models/global_model_v0",
  "task_wasm_image": "oci://example/fl-client-wasm:latest",
  "participants": ["proplet-1", "proplet-2", "proplet-3"],
  "hyperparams": {"epochs": 1, "lr": 0.01, "batch_size": 16},
  "k_of_n": 3,
  "timeout_s": 30
}"""
SEED_MODEL = b'{"w":[0.0,0.0,0.0],"b":0.0,"version":0}'
TRIO = ("proplet-1", "proplet-2", "proplet-3")


@pytest.fixture
def stage(broker: Any, tmp_path: Path) -> Iterator[Stage]:
    """Open a stage with both services."""
    with opened(broker.url, tmp_path, "model_server", "coordinator") as opened_stage:
        yield opened_stage


def test_the_round_of_the_sketch_in_json(stage: Stage) -> None:
    """A round by hand: JSON in, the weighted average out, outcome and model retained.

    (UPDATE-003, ROUND-020)
    """
    stage.present(*TRIO)
    stage.send("fl/models/publish", SEED_MODEL)
    stage.index(lambda index: "global_model" in index.models)
    stage.send("fl/rounds/start", SEED_START)
    for number, who in enumerate(TRIO, 1):
        stage.task(SEED_START, who, TaskStatus.RUNNING)
        tensors = {"w": [0.12 * number, -0.05, 1.01], "b": 0.33}
        stage.forward(
            "r-0001", who, update("r-0001", tensors, 100 * number, metrics={"loss": number})
        )
        stage.task(SEED_START, who, TaskStatus.SUCCEEDED)
    outcome = stage.outcome("r-0001")
    assert (outcome.outcome, outcome.model_version) == (RoundStatus.COMPLETED, 1)
    assert outcome.verdicts == dict.fromkeys(TRIO, "accepted")
    assert outcome.samples == 600
    assert outcome.metrics == {"loss": pytest.approx(14 / 6)}
    content = json.loads(stage.retained("fl/models/global_model_v1").payload)
    assert content["w"] == pytest.approx([0.12 * 14 / 6, -0.05, 1.01])
    assert content["b"] == pytest.approx(0.33)
    assert (content["version"], content["parent"], content["publish_id"]) == (1, 0, "r-0001")
    assert stage.retained("fl/rounds/r-0001/complete").retain
    assert digest(stage.model("fl/models/global_model_v1").tensors) == outcome.model_digest


@pytest.mark.parametrize("size", [1_000, 600_000], ids=["inline", "blob"])
def test_a_binary_round(stage: Stage, size: int) -> None:
    """Safetensors in, safetensors out; above 1 MB everything travels as blobs.

    (BLOB-001, MODEL-004)
    """
    rng = np.random.default_rng(3)
    stage.present(*TRIO)
    base = {"w": rng.random(size, np.float32), "b": rng.random((2, 3), np.float32)}
    model = safetensors_model(base, architecture="mlp:2,3", version="0")
    if len(model) > 1_000_000:
        stage.offer_model(model)
    else:
        stage.send("fl/models/publish", model)
    stage.index(lambda index: "global_model" in index.models)
    order = start("big", TRIO, 2)
    stage.send("fl/rounds/start", order)
    made = {
        who: {name: rng.random(each.shape, np.float32) for name, each in base.items()}
        for who in TRIO
    }
    for who, samples in (("proplet-3", 10), ("proplet-1", 30)):
        stage.answer("big", who, update("big", made[who], samples, binary=True))
    outcome = stage.outcome("big")
    assert outcome.outcome is RoundStatus.COMPLETED
    found = stage.model("fl/models/global_model_v1")
    for name in base:
        wanted = (
            made["proplet-1"][name].astype(float) * 30 + made["proplet-3"][name].astype(float) * 10
        ) / 40
        assert found.tensors[name].dtype == np.float32
        np.testing.assert_array_equal(found.tensors[name], wanted.astype(np.float32))
    assert found.metadata["architecture"] == "mlp:2,3"
    assert (found.metadata["version"], found.metadata["parent"]) == ("1", "0")
