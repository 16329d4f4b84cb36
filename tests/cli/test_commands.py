"""The commands against a running Roost of two proplets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wasmtime
from roost.cli.broker import find_mosquitto
from roost.cli.digits_data import deal_digits
from roost.cli.ports import free_port, wait_open
from roost.cli.state import StateDir
from roost.cli.wire_client import Wire
from roost.protocol.round.model import parse_model
from roost.protocol.round.topics import MODEL_INDEX
from roost.protocol.task.messages import PresenceStatus
from roost.protocol.task.topics import PRESENCE
from roost.wire.blob import BLOB_MANIFEST

from .conftest import BROKERS, Answer, start, up

pytestmark = pytest.mark.system

PROPLETS = ("proplet-1", "proplet-2")
#: Writes "hi\n" to stdout and ends with the given exit code.
GREETER = """
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\03\\00\\00\\00")
  (data (i32.const 16) "hi\\0a")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const CODE))))
"""
SLEEPER = '(module (memory (export "memory") 1) (func (export "_start") (loop br 0)))'

Roost = Callable[..., Answer]


@dataclass(frozen=True)
class Running:
    """A running Roost."""

    state: StateDir
    ready: dict[str, Any]

    @property
    def at(self) -> list[object]:
        """Options that lead commands to it."""
        return ["--state", self.state.root]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two proplets with digits, a model, one broker."""
    state = StateDir.at(tmp_path_factory.mktemp("up") / "state")
    deal_digits(state, list(PROPLETS), 0)
    broker = "mosquitto" if find_mosquitto() else "embedded"
    options = ["--proplets", 2, "--port", free_port(), "--broker", broker]
    with up(state, *options) as ready:
        init = ["model", "init", "--arch", "mlp", "--layers", "64,16,10", "--state", state.root]
        with start(*init) as process:
            assert process.wait(60) == 0
        yield Running(state, ready)


def wasm(folder: Path, text: str) -> Path:
    """A Wasm file."""
    file = folder / "app.wasm"
    file.write_bytes(wasmtime.wat2wasm(text))
    return file


def test_everything_is_there(running: Running, roost: Roost) -> None:
    """The ready event, the doctor and the list agree."""
    assert running.ready["missing"] == []
    assert sorted(running.ready["proplets"]) == list(PROPLETS)
    doctor = roost("doctor", "--json", *running.at)
    assert doctor.code == 0, doctor.out
    found = {finding["what"]: finding for finding in doctor.json}
    assert found["proplets"]["found"] == "proplet-1, proplet-2"
    assert str(running.ready["pid"]) in found["instance"]["found"]
    rows = roost("proplet", "list", "--json", *running.at).json
    assert [(row["proplet"], row["status"]) for row in rows] == [(p, "online") for p in PROPLETS]
    assert rows[0]["mounts"] == ["train"]
    assert {"manager", "model-server", "coordinator", "desk"} <= set(running.ready["pids"])


def test_a_second_up_on_the_same_state_is_refused(running: Running, roost: Roost) -> None:
    """It names the pid of the first."""
    answer = roost("up", *running.at)
    assert answer.code == 2
    assert f"pid {running.ready['pid']}" in answer.err


def test_a_second_up_on_the_same_port_is_refused(
    running: Running, roost: Roost, tmp_path: Path
) -> None:
    """It names who holds the port and what to do."""
    instance = running.state.read_instance()
    assert instance is not None
    answer = roost("up", "--port", instance.port, "--state", tmp_path / "other")
    assert answer.code == 3
    assert f"port {instance.port} is in use by pid" in answer.err
    assert "--broker mqtt://127.0.0.1" in answer.err


def test_a_round_from_start_to_show(running: Running, roost: Roost) -> None:
    """Defaults: newest model, own image, everyone online."""
    done = roost("round", "start", "--id", "r-cli", "--hyperparams", '{"lr":0.05}', *running.at)
    assert done.code == 0, done
    assert "round r-cli completed" in done.out
    listed = roost("round", "list", "--json", *running.at).json
    assert ("r-cli", "completed") in [(row["round"], row["state"]) for row in listed]
    shown = roost("round", "show", "r-cli", "--json", *running.at)
    assert shown.json[-1]["verdicts"] == dict.fromkeys(PROPLETS, "accepted")
    assert roost("round", "watch", "r-cli", *running.at).code == 0
    assert roost("round", "show", "r-nobody", *running.at).code == 1


def test_a_wrong_participant_names_the_known_ones(running: Running, roost: Roost) -> None:
    """A failed outcome: exit code 1."""
    answer = roost("round", "start", "--participants", "proplet-1,nobody", *running.at)
    assert answer.code == 1
    assert "nobody" in answer.out
    assert "proplet-1" in answer.out
    assert "proplet-2" in answer.out


def test_a_model_that_is_not_there_fails_the_round(running: Running, roost: Roost) -> None:
    """And the message says which there are."""
    missing = ["--model", "fl/models/global_model_v999"]
    answer = roost("round", "start", *missing, "--timeout", 40, *running.at)
    assert answer.code == 1
    assert "global_model_v999" in answer.out


def test_an_experiment_is_watched_and_stopped(running: Running, roost: Roost) -> None:
    """Detached, then stopped, then watched to its end."""
    args = ["--id", "e-cli", "--rounds", 500, "--detach", "--hyperparams", '{"lr":0.05}']
    assert roost("experiment", "start", *args, *running.at).code == 0
    stopped = roost("experiment", "stop", "e-cli", "--json", *running.at)
    assert stopped.code == 0
    assert stopped.json[0]["state"] in ("stopping", "stopped")
    watched = roost("experiment", "watch", "e-cli", "--json", *running.at)
    assert watched.code == 0
    assert watched.json[-1]["state"] == "stopped"


def test_models_are_listed_pulled_and_rolled_back(
    running: Running, roost: Roost, tmp_path: Path
) -> None:
    """A rollback makes a new version with the old content, once."""
    assert roost("round", "start", "--hyperparams", '{"lr":0.05}', *running.at).code == 0
    rows = roost("model", "list", "--json", *running.at).json
    assert rows[0]["topic"] == "fl/models/global_model_v0"
    first = roost("model", "pull", "0", "-o", tmp_path / "zero", *running.at)
    assert first.code == 0
    old = parse_model((tmp_path / "zero").read_bytes())
    assert old.tensors["layers.0.weight"].shape == (16, 64)
    back = roost("model", "rollback", 0, "--json", *running.at)
    assert back.code == 0, back
    assert back.json[0]["digest"] == rows[0]["digest"]
    assert back.json[0]["version"] == rows[-1]["version"] + 1
    again = roost("model", "rollback", 0, *running.at)
    assert again.code == 0
    assert "has that content already" in again.out
    latest = roost("model", "pull", "-o", tmp_path / "latest", *running.at)
    assert latest.code == 0
    new = parse_model((tmp_path / "latest").read_bytes())
    assert np.array_equal(new.tensors["layers.0.weight"], old.tensors["layers.0.weight"])
    missing = roost("model", "pull", "999", *running.at)
    assert missing.code == 1
    assert "global_model_v0" in missing.err or "newest are" in missing.err


def test_a_version_is_never_overwritten(running: Running, roost: Roost) -> None:
    """The same again is harmless, another one is refused, another name is fine."""
    init = ["model", "init", "--arch", "mlp", "--layers", "64,16,10"]
    assert roost(*init, *running.at).code == 0
    other = roost(*init, "--seed", 1, *running.at)
    assert other.code == 1
    assert "never overwritten" in other.err
    linear = ["model", "init", "--arch", "linear", "--layers", "3,1", "--name", "house_prices"]
    made = roost(*linear, "--json", *running.at)
    assert made.code == 0
    assert made.json[0]["topic"] == "fl/models/house_prices_v0"
    pulled = roost("model", "pull", "--name", "house_prices", "-o", "-", *running.at)
    assert json.loads(pulled.out)["w"] == [0, 0, 0]


def test_a_task_from_image_to_output(running: Running, roost: Roost, tmp_path: Path) -> None:
    """Any Wasm program, on a proplet of one's choice, its stdout on a topic."""
    image = roost("image", "push", wasm(tmp_path, GREETER.replace("CODE", "0")), *running.at)
    assert image.code == 0
    reference = image.out.strip()
    instance = running.state.read_instance()
    assert instance is not None
    with Wire.connect(instance.broker) as wire:
        wire.subscribe("greetings/#")
        on = ["--proplet", "proplet-2", "--out", "text=greetings/one", "--id", "t-hi"]
        done = roost("task", "launch", reference, *on, *running.at)
        assert done.code == 0, done
        received = wire.next(10)
    assert received is not None
    assert (received.topic, received.payload) == ("greetings/one", b"hi\n")
    shown = roost("task", "show", "t-hi", "--json", *running.at).json[0]
    assert (shown["state"], shown["proplet"]) == ("succeeded", "proplet-2")
    rows = roost("task", "list", "--json", *running.at).json
    assert "t-hi" in [row["task"] for row in rows]
    again = roost("task", "launch", reference, "--id", "t-hi", *running.at)
    assert again.code == 1
    assert "was launched before and is succeeded" in again.err
    kept = list(running.state.images.glob("app-*.wasm"))
    assert [f.read_bytes() for f in kept] == [(tmp_path / "app.wasm").read_bytes()]


def test_a_failed_task_ends_with_1_and_its_reason(
    running: Running, roost: Roost, tmp_path: Path
) -> None:
    """The guest's own exit code is named."""
    image = roost("image", "push", wasm(tmp_path, GREETER.replace("CODE", "3")), *running.at)
    answer = roost("task", "launch", image.out.strip(), "--proplet", "proplet-1", *running.at)
    assert answer.code == 1
    assert "exit_code" in answer.out
    assert "3" in answer.out


def test_a_task_is_cancelled(running: Running, roost: Roost, tmp_path: Path) -> None:
    """One that would run for ever."""
    image = roost("image", "push", wasm(tmp_path, SLEEPER), *running.at).out.strip()
    on = ["--proplet", "proplet-1", "--id", "t-loop", "--detach"]
    assert roost("task", "launch", image, *on, *running.at).code == 0
    cancelled = roost("task", "cancel", "t-loop", "--json", *running.at)
    assert cancelled.code == 0, cancelled
    assert cancelled.json[0]["state"] == "cancelled"
    assert roost("task", "cancel", "t-nobody", *running.at).code == 1


def test_workloads_are_listed_and_reloaded(running: Running, roost: Roost) -> None:
    """As the manager tells them."""
    listed = roost("workload", "list", "--json", *running.at)
    assert listed.code == 0
    assert "federated-learning.toml" in [row["file"] for row in listed.json]
    assert roost("workload", "reload", *running.at).code == 0


def test_a_broken_binding_is_found_without_a_manager(roost: Roost, tmp_path: Path) -> None:
    """By file and line; the checkout's own bindings are fine."""
    assert roost("workload", "check").code == 0
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.toml").write_text('[[forward]]\nfrom = "a/#"\n')
    answer = roost("workload", "check", tmp_path / "bad", "--json")
    assert answer.code == 1
    problem = answer.json[0]["problems"][0]
    assert (problem["file"], problem["line"]) == ("x.toml", 1)


def test_waiting_ends_with_4(running: Running, roost: Roost) -> None:
    """Nobody tells anything about a round that was never started."""
    answer = roost("round", "watch", "r-never", "--timeout", 0.5, *running.at)
    assert answer.code == 4
    assert "r-never" in answer.err


def test_waiting_is_interrupted_with_130(running: Running) -> None:
    """Ctrl-C while waiting."""
    process = start("round", "watch", "r-never", "--timeout", 60, *running.at)
    with process:
        # It waits once its connection is there; the interpreter is up long before.
        wait_for_connection(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def wait_for_connection(pid: int) -> None:
    """Wait until a process has a TCP connection."""
    while not any(_target(fd).startswith("socket:") for fd in Path(f"/proc/{pid}/fd").iterdir()):
        os.sched_yield()


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def test_a_killed_proplet_is_started_again(running: Running) -> None:
    """It comes back under its name with another boot."""
    instance = running.state.read_instance()
    assert instance is not None
    with Wire.connect(instance.broker) as wire:
        topic = PRESENCE.format(proplet_id="proplet-2")
        received = wire.retained(topic)
        assert received is not None
        before = json.loads(received.payload)["boot_id"]
        wire.subscribe(topic)
        os.kill(running.ready["pids"]["proplet-2"], signal.SIGKILL)
        wire.await_message(
            lambda r: (
                json.loads(r.payload)["boot_id"] != before
                and json.loads(r.payload)["status"] == PresenceStatus.ONLINE
            ),
            30,
            "proplet-2 did not come back",
        )


def test_up_prints_what_can_be_pasted(tmp_path: Path) -> None:
    """Without a model: how to get one first; the round message is whole JSON."""
    argv = [sys.executable, "-m", "roost.cli", "up", "--proplets", "1"]
    argv += ["--state", str(tmp_path / "s"), "--port", str(free_port())]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "round start" in line:
                break
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(30) == 0
    text = "".join(lines)
    assert "mosquitto_sub -h 127.0.0.1" in text
    assert "data digits --proplets 1" in text
    order = next(line for line in lines if "mosquitto_pub" in line)
    message = json.loads(order.partition(" -m '")[2].rstrip("'\n"))
    assert message["task_wasm_image"].startswith("blob:operator/")
    assert message["participants"] == ["proplet-1"]
    assert "manager" in text


@pytest.mark.parametrize("broker", BROKERS)
def test_a_killed_broker_comes_back_and_so_does_everything_on_it(
    broker: str, roost: Roost, state: StateDir, tmp_path: Path
) -> None:
    """Its owners publish models, states and images again; the next round finds them."""
    if broker == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed: only the embedded broker is killed")
    at = ["--state", state.root]
    deal_digits(state, list(PROPLETS), 0)
    with up(state, "--proplets", 2, "--port", free_port(), "--broker", broker) as ready:
        init = ["model", "init", "--arch", "mlp", "--layers", "64,16,10"]
        assert roost(*init, *at).code == 0
        image = roost("image", "push", wasm(tmp_path, GREETER.replace("CODE", "0")), *at)
        os.kill(ready["pids"]["broker"], signal.SIGKILL)
        instance = state.read_instance()
        assert instance is not None
        assert wait_open("127.0.0.1", instance.port, 20)
        with Wire.connect(instance.broker) as wire:
            # The manifest comes last; proplets fetch it by this topic.
            sha256 = image.out.strip().rpartition("/")[2]
            wire.subscribe(
                BLOB_MANIFEST.format(owner="operator", sha256=sha256), MODEL_INDEX.filter
            )
            told = {wire.await_message(lambda _: True, 30, "").topic.split("/")[0] for _ in "12"}
        assert told == {"blobs", "fl"}
        done = roost("round", "start", "--hyperparams", '{"lr":0.05}', "--timeout", 60, *at)
        assert done.code == 0, done
        task = ["task", "launch", image.out.strip(), "--proplet", "proplet-1", "--timeout", 60]
        assert roost(*task, *at).code == 0
