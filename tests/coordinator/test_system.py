"""Whole rounds over a real broker, with the task side played by the test."""

import json
import shutil
import subprocess
import sys
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


def open_round(stage: Stage, round_id: str, k: int, **more: Any) -> bytes:
    """Publish version 0 and start a round of the trio."""
    stage.present(*TRIO)
    stage.send("fl/models/publish", SEED_MODEL)
    stage.index(lambda index: "global_model" in index.models)
    order = start(round_id, TRIO, k, **more)
    stage.send("fl/rounds/start", order)
    stage.state(round_id, lambda state: state.state is RoundStatus.OPEN)
    return order


def answer(
    stage: Stage, round_id: str, who: str, value: float, samples: int, version: int = 0
) -> None:
    """Forward an update whose numbers are all the same."""
    tensors = {"w": [value] * 3, "b": value}
    base = f"fl/models/global_model_v{version}"
    stage.forward(round_id, who, update(round_id, tensors, samples, base=base))


def test_what_is_refused_is_told_and_does_not_count(stage: Stage) -> None:
    """Each with its reason, on the state and in the outcome (ROUND-011, ROUND-032)."""
    order = open_round(stage, "r", 2)
    answer(stage, "r", "stranger", 1.0, 10)
    stage.forward("r", "proplet-1", b"rubbish")
    stage.forward("r", "proplet-2", update("r", {"w": [1.0], "b": 1.0}, 10))
    answer(stage, "r", "proplet-3", 1.0, 0)
    answer(stage, "r", "proplet-3", 2.0, 10)
    answer(stage, "r", "proplet-3", 3.0, 10)
    stage.send("fml/updates", b"{}")
    state = stage.state("r", lambda state: sum(state.refusals.values()) == 5)
    assert state.refusals == {
        "not_invited": 1,
        "bad_update": 1,
        "wrong_shape": 1,
        "bad_samples": 1,
        "duplicate": 1,
    }
    assert (state.updates, state.missing) == (1, ("proplet-1", "proplet-2"))
    stage.task(order, "proplet-1", TaskStatus.RUNNING)
    answer(stage, "r", "proplet-2", 4.0, 30)
    outcome = stage.outcome("r")
    assert outcome.verdicts == {
        "proplet-1": "bad_update",
        "proplet-2": "accepted",
        "proplet-3": "accepted",
        "(uninvited)": "1 refused",
    }
    assert stage.model("fl/models/global_model_v1").tensors["w"].tolist() == [3.5] * 3
    stage.wait("tasks/r:proplet-1/cancel")
    own = stage.wait("fl/coordinator/state", lambda each: b"bad_source" in each.payload)
    assert json.loads(own.payload)["refusals"] == {"bad_source": 1}
    kept = [path.name for path in (stage.folder / "coordinator/spool/r").iterdir()]
    assert sorted(name.partition(".")[0] for name in kept) == ["proplet-2", "proplet-3"]


def test_starts_that_cannot_be_carried_out_fail_at_once(stage: Stage) -> None:
    """Bad JSON, an impossible quorum, strangers, other bytes under a used id (ROUND-002 ff.)."""
    stage.send("fl/rounds/start", b'{"round_id": "broken", "k_of_n": ')
    assert stage.outcome("broken").reason == "malformed"
    stage.send("fl/rounds/start", start("greedy", TRIO, 4))
    assert "k_of_n is 4" in (stage.outcome("greedy").message or "")
    open_round(stage, "r", 1)
    stage.send("fl/rounds/start", start("lonely", ("nobody", "proplet-1"), 1))
    assert "never seen: nobody; known are: proplet-1, proplet-2, proplet-3" in (
        stage.outcome("lonely").message or ""
    )
    stage.send("fl/rounds/start", start("r", TRIO, 2))
    state = stage.state("r", lambda state: bool(state.refusals))
    assert state.refusals == {"round_reused": 1}


def test_failures_of_tasks_end_a_round_early(stage: Stage) -> None:
    """Long before its time of 30 s (ROUND-016)."""
    order = open_round(stage, "r", 2)
    stage.task(order, "proplet-1", TaskStatus.FAILED, "trap")
    stage.task(order, "proplet-2", TaskStatus.FAILED, "memory_limit")
    outcome = stage.outcome("r")
    assert outcome.reason == "quorum_unreachable"
    assert outcome.verdicts["proplet-2"] == "memory_limit"
    assert outcome.duration_s < 10


def test_a_manager_that_was_away_is_told_the_start_again(stage: Stage) -> None:
    """And outputs are asked for again (ROUND-018)."""
    order = open_round(stage, "r", 1)
    starts = len(stage.seen("fl/rounds/start"))
    again = stage.wait("fl/rounds/start", since=len(stage.received))
    assert again.payload == order
    assert starts == 1
    for who in TRIO:
        stage.task(order, who, TaskStatus.SUCCEEDED)
    stage.wait("tasks/r:proplet-2/resend")
    answer(stage, "r", "proplet-2", 1.0, 1)
    assert stage.outcome("r").outcome is RoundStatus.COMPLETED


def test_an_experiment_then_a_rollback(stage: Stage) -> None:
    """Rounds in a row, each on the version before; the old content as a new version."""
    stage.present(*TRIO)
    stage.send("fl/models/publish", SEED_MODEL)
    stage.index(lambda index: "global_model" in index.models)
    fields = json.loads(start("unused", TRIO, 2))
    del fields["round_id"]
    order = json.dumps({**fields, "experiment_id": "e", "rounds": 3})
    stage.send("fl/experiments/start", order)
    for number in (1, 2, 3):
        round_id = f"e:{number:04d}"
        stage.state(round_id, lambda state: state.state is RoundStatus.OPEN)
        for who in TRIO[:2]:
            answer(stage, round_id, who, float(number), 5, version=number - 1)
        assert stage.outcome(round_id).model_version == number
    stage.wait("fl/experiments/e/state", lambda each: b'"completed"' in each.payload)
    stage.send("fl/models/rollback", b'{"version": 1}')
    index = stage.index(
        lambda index: index.models["global_model"].latest == 4 if index.models else False
    )
    versions = index.models["global_model"].versions
    assert versions[4].digest == versions[1].digest
    assert (versions[4].parent, versions[4].publish_id) == (1, "rollback:v1-after-v3")
    assert stage.model("fl/models/global_model_v4").tensors["w"].tolist() == [1.0] * 3


def test_two_rounds_at_once(stage: Stage) -> None:
    """Both on version 0; versions stay monotonic and name their parent (ROUND-035)."""
    open_round(stage, "one", 2)
    stage.send("fl/rounds/start", start("two", TRIO, 2))
    for who in TRIO[:2]:
        for round_id, value in (("one", 1.0), ("two", 2.0)):
            answer(stage, round_id, who, value, 1)
    outcomes = {each: stage.outcome(each) for each in ("one", "two")}
    assert sorted(each.model_version or 0 for each in outcomes.values()) == [1, 2]
    for round_id, value in (("one", 1.0), ("two", 2.0)):
        found = stage.model(outcomes[round_id].model_topic or "")
        assert found.tensors["w"].tolist() == [value] * 3
        assert (found.metadata["parent"], found.metadata["publish_id"]) == (0, round_id)


def test_a_coordinator_without_its_state_goes_on_when_told_to(stage: Stage) -> None:
    """It asks first; version 1 stays, and version 2 follows it (MODEL-045, MODEL-046)."""
    open_round(stage, "r", 1)
    answer(stage, "r", "proplet-1", 1.0, 1)
    assert stage.outcome("r").model_version == 1
    stage.kill("coordinator")
    shutil.rmtree(stage.folder / "coordinator")
    stage.launch("coordinator")
    stage.wait("fl/coordinator/state", lambda each: b'"unadopted":["global_model"]' in each.payload)
    base = "fl/models/global_model_v1"
    stage.send("fl/rounds/start", start("early", TRIO, 1, model_uri=base))
    assert stage.outcome("early").reason == "unknown_lineage"
    at = ["--broker", stage.url]
    command = [sys.executable, "-m", "roost.cli", "model", "adopt", *at]
    said = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)]
    assert said[0].stdout == f"{base}: rounds may go on from it\n"
    assert said[1].stdout == f"{base}: the coordinator knows it already\n"
    stage.send("fl/rounds/start", start("late", TRIO, 1, model_uri=base))
    stage.state("late", lambda state: state.state is RoundStatus.OPEN)
    answer(stage, "late", "proplet-1", 3.0, 1, version=1)
    assert stage.outcome("late").model_version == 2
    assert stage.model(base).tensors["w"].tolist() == [1.0] * 3
    assert stage.model("fl/models/global_model_v2").tensors["w"].tolist() == [3.0] * 3


def test_a_killed_coordinator_goes_on_with_its_round(stage: Stage) -> None:
    """What was acknowledged is on its disk: same updates, same outcome."""
    open_round(stage, "r", 2)
    answer(stage, "r", "proplet-1", 1.0, 1)
    stage.state("r", lambda state: state.updates == 1)
    stage.kill("coordinator")
    answer(stage, "r", "proplet-2", 3.0, 1)
    stage.launch("coordinator")
    outcome = stage.outcome("r")
    assert (outcome.outcome, outcome.updates) == (RoundStatus.COMPLETED, 2)
    assert stage.model("fl/models/global_model_v1").tensors["w"].tolist() == [2.0] * 3
