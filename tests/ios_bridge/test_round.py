"""A whole round over a real broker: two Linux proplets and two phones, the same guest on all."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from roost.cli.phones import WasmtimeRunner
from roost.client_wasm import guest_path
from roost.ios_bridge.invitation import invite, make_token
from roost.ios_bridge.simulator.client import pair
from roost.ios_bridge.simulator.core.states import Model
from roost.ios_bridge.simulator.life import Habits, Life
from roost.protocol.phone import topics
from roost.protocol.task.messages import TaskRequest

from .conftest import DEADLINE_S, Bridge, Operator

pytestmark = pytest.mark.system
WORKLOADS = Path(__file__).parents[2] / "workloads"
LINUX, PHONES = ("proplet-1", "proplet-2"), ("phone-1", "phone-2")
# A phone's number of samples tells its data from the others'; proplet-1 has the data of phone-1.
SAMPLES = {"proplet-1": 40, "proplet-2": 50, "phone-1": 40, "phone-2": 60}
MODEL = {"w": [0.0, 0.0, 0.0], "b": 0.0, "version": 0}


def make_data(folder: Path) -> dict[str, Path]:
    """Write each participant's own data and return where."""
    places = {}
    for name, samples in SAMPLES.items():
        rng = np.random.default_rng(samples)
        place = folder / name / "train"
        place.mkdir(parents=True)
        points = rng.normal(size=(samples, 3)).astype(np.float32)
        np.save(place / "x.npy", points)
        np.save(place / "y.npy", (points.sum(axis=1) > 0).astype(np.int64))
        places[name] = place.parent
    return places


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Return where each participant's data lies."""
    return make_data(tmp_path / "data")


@pytest.fixture
def services(
    broker: Any, operator: Operator, tmp_path: Path, places: dict[str, Path]
) -> Iterator[None]:
    """Run manager, coordinator, model server and two proplets."""
    common = {
        **os.environ,
        "ROOST_BROKER": broker.url,
        "ROOST_FILE_IMAGES": str(guest_path().parent),
    }
    wanted = {
        "manager": {"ROOST_WORKLOADS": str(WORKLOADS)}, "coordinator": {}, "model_server": {},
        **{name: {"ROOST_PROPLET_ID": name, "ROOST_DATA_DIR": str(places[name])} for name in LINUX},
    }  # fmt: skip
    with ExitStack() as stack:
        for name, own in wanted.items():
            module = "proplet" if name in LINUX else name
            log = stack.enter_context((tmp_path / f"{name}.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", f"roost.{module}"], stdout=log, stderr=log,
                env={**common, **own, "ROOST_STATE_DIR": str(tmp_path / "state" / name)},
            )  # fmt: skip
            stack.callback(process.wait, DEADLINE_S)
            stack.callback(process.kill)
        presences = {f"proplets/{name}/presence" for name in LINUX}
        operator.wait_topics(
            {*presences, "workloads/state", "fl/models/index", "fl/coordinator/state"}
        )
        yield


@pytest.fixture
def phones(
    operator: Operator, start_bridge: Callable[..., Bridge], tmp_path: Path,
    places: dict[str, Path],
) -> Iterator[None]:  # fmt: skip
    """Run two simulated phones, with the guests in Wasmtime."""
    bridge = start_bridge(ROOST_FILE_IMAGES=str(guest_path().parent))
    runner = WasmtimeRunner(tmp_path / "cache")
    with ExitStack() as stack:
        for number, name in enumerate(PHONES):
            token = make_token()
            operator.publish(topics.INVITE.template, invite(token, name, 60.0))
            operator.wait("phones/state", lambda said: said.get("invites"))
            mounts = {"train": places[name] / "train"}
            life = Life(
                pair(bridge.url, token), Model("test 1", f"b{number}", mounts=tuple(mounts)),
                Habits(), tmp_path / name, lambda mounts=mounts: mounts, runner,
                random.Random(number),
            )  # fmt: skip
            stack.enter_context(closing(Ending(life)))
            life.start()
            operator.wait(f"proplets/{name}/presence", lambda said: said["status"] == "online")
        yield


class Ending:
    """Stops a phone where a block ends."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def close(self) -> None:
        """Stop it."""
        self._life.stop()


def test_a_round_with_phones(
    operator: Operator, services: None, phones: None, places: dict[str, Path]
) -> None:
    """All four answer; a phone's update has the bytes that the same guest makes on a proplet.

    (PHONE-015, PHONE-031, PHONE-032, PHONE-042)
    """
    operator.publish("fl/models/publish", json.dumps(MODEL).encode())
    operator.wait("fl/models/index", lambda said: said.get("models"))
    start = {
        "round_id": "r1", "model_uri": "fl/models/global_model_v0", "k_of_n": 4, "timeout_s": 60,
        "task_wasm_image": f"file:{guest_path()}", "participants": [*LINUX, *PHONES],
        "hyperparams": {"epochs": 2, "lr": 0.1, "batch_size": 8},
    }  # fmt: skip
    operator.publish("fl/rounds/start", json.dumps(start).encode())
    order = operator.wait("proplets/phone-1/tasks/r1:phone-1/start")
    update = operator.wait_bytes("fl/rounds/r1/updates/phone-1")
    outcome = operator.wait("fl/rounds/r1/complete")
    assert outcome["outcome"] == "completed", outcome
    assert outcome["verdicts"] == dict.fromkeys([*LINUX, *PHONES], "accepted")
    assert outcome["samples"] == sum(SAMPLES.values())
    assert json.loads(update)["num_samples"] == SAMPLES["phone-1"]
    # The same task, word for word, on a Linux proplet that has the same data.
    assert places["phone-1"] != places["proplet-1"]
    task = {**order["task"], "outputs": [{"file": "update", "topic": "compare/1"}]}
    request = TaskRequest.model_validate_json(
        json.dumps({**task, "task_id": "compare-1", "proplet": "proplet-1"})
    )
    operator.publish("tasks/launch", request)
    assert operator.wait_bytes("compare/1") == update
