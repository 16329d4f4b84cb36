"""The commands against a running Roost of two proplets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from roost.cli.ports import free_port
from roost.cli.wire_client import Wire
from roost.protocol.round.model import parse_model
from roost.protocol.task.messages import PresenceStatus
from roost.protocol.task.topics import PRESENCE

from .conftest import PROPLETS, Roost, Running, kill_outright, start

pytestmark = pytest.mark.system


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
    listed = roost("model", "list", "--json", *running.at).json
    rows = [row for row in listed if row["topic"].startswith("fl/models/global_model_v")]
    assert rows[0]["topic"] == "fl/models/global_model_v0"
    assert rows[0]["latest"] is False
    assert 0 <= rows[-1]["metrics"]["accuracy"] <= 1
    assert "participants report" in roost("model", "list", *running.at).out
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
    assert "there is no version 999 of global_model; the newest are" in missing.err
    nobody = roost("model", "pull", "latest", "--name", "nope", *running.at)
    assert nobody.code == 1
    assert "no model 'nope'; there are: global_model" in nobody.err


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
        kill_outright(running.ready["pids"]["proplet-2"])
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
