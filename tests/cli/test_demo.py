"""`roost demo`, then `roost up` on what it left: with each broker, as a user would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from roost.cli.architectures import accuracy
from roost.cli.broker import BrokerPlan, find_mosquitto
from roost.cli.demo_run import choose_port
from roost.cli.output import Output
from roost.cli.ports import free_port, is_open
from roost.cli.state import Instance, StateDir
from roost.cli.welcome import first_steps
from roost.protocol.round.model import parse_model

from .conftest import BROKERS, Answer, start, up

pytestmark = pytest.mark.system

ROUNDS = 15


@dataclass(frozen=True)
class Demo:
    """A finished demo."""

    broker: str
    state: StateDir
    code: int
    events: list[dict[str, Any]]
    said: str

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Its events of one kind."""
        return [event for event in self.events if event.get("event") == kind]


@pytest.fixture(scope="module", params=BROKERS)
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The whole demo, run once with each broker."""
    if request.param == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed: the demo is tested with the embedded broker only")
    state = StateDir.at(tmp_path_factory.mktemp(f"demo-{request.param}") / "state")
    process = start("demo", "--json", "--state", state.root, "--broker", request.param)
    out, said = process.communicate(timeout=300)
    events = [json.loads(line) for line in out.splitlines()]
    return Demo(request.param, state, process.returncode, events, said)


def test_the_demo_reaches_95_percent(demo: Demo) -> None:
    """Fifteen rounds, all five updates in each, and exit code 0."""
    assert demo.code == 0, (demo.events, demo.said)
    rounds = demo.of("round")
    assert [event["round"] for event in rounds] == list(range(1, ROUNDS + 1))
    assert {event["updates"] for event in rounds} == {5}
    assert all(event["seconds"] > 0 for event in rounds)
    assert [e["model"] for e in rounds] == [f"fl/models/global_model_v{n}" for n in range(1, 16)]
    assert rounds[-1]["accuracy"] >= 0.95
    assert rounds[0]["accuracy"] < rounds[-1]["accuracy"]
    assert demo.of("finished")[0]["accuracy"] == rounds[-1]["accuracy"]


def test_the_test_split_is_in_no_proplets_folder(demo: Demo) -> None:
    """Neither its file nor any of its samples (the set itself holds no image twice)."""
    assert len(demo.state.proplet_names()) == 5
    held_back = {x.tobytes() for x in np.load(demo.state.held_back("digits-test") / "x.npy")}
    assert len(held_back) == 359
    parts = [np.load(demo.state.mount(p, "train") / "x.npy") for p in demo.state.proplet_names()]
    assert sum(map(len, parts)) == 1797 - 359
    assert not any(x.tobytes() in held_back for part in parts for x in part)


def test_nothing_is_left_running(demo: Demo) -> None:
    """Its broker is gone, its lock is free."""
    instance = demo.state.read_instance()
    assert instance is not None
    assert not is_open("127.0.0.1", instance.port)
    assert demo.state.running_pid() is None


def test_up_goes_on_where_the_demo_ended(
    demo: Demo, roost: Callable[..., Answer], tmp_path: Path
) -> None:
    """The last model is there, byte for byte good for what the demo said; a round continues it."""
    at = ["--state", demo.state.root]
    with up(demo.state) as ready:
        assert ready["missing"] == []
        assert ready["model"] == "fl/models/global_model_v15"
        pulled = roost("model", "pull", "15", "-o", tmp_path / "m.safetensors", *at)
        assert pulled.code == 0, pulled
        model = parse_model((tmp_path / "m.safetensors").read_bytes())
        test = demo.state.held_back("digits-test")
        measured = accuracy(model.tensors, np.load(test / "x.npy"), np.load(test / "y.npy"))
        assert measured == demo.of("finished")[0]["accuracy"]

        first = roost("round", "start", "--id", "r-0001", "--json", *at)
        assert first.code == 0, first
        assert first.json[-1]["model_topic"] == "fl/models/global_model_v16"
        again = roost("round", "start", "--id", "r-0001", *at)
        assert again.code == 0
        assert "was started before; this is what became of it" in again.err
        assert "fl/models/global_model_v16" in again.out


def test_a_second_demo_learns_on(demo: Demo) -> None:
    """A new experiment from the newest model; it says so."""
    process = start("demo", "--rounds", 1, "--state", demo.state.root, "--broker", demo.broker)
    out, said = process.communicate(timeout=120)
    assert process.returncode == 0, (out, said)
    assert "learning goes on from there" in out
    assert "round  1 of 1" in out


def pub_sub(broker: str, port: int) -> list[str]:
    """Options of mosquitto_pub and mosquitto_sub, as `roost up` prints them."""
    return ["-h", "127.0.0.1", "-p", str(port), *(["-V", "5"] if broker == "embedded" else [])]


def read_until(process: subprocess.Popen[bytes], wanted: bytes) -> bytes:
    """What a process prints up to `wanted`."""
    assert process.stdout is not None
    said = b""
    while wanted not in said:
        chunk = os.read(process.stdout.fileno(), 65_536)
        assert chunk, said
        said += chunk
    return said


@pytest.mark.parametrize("broker", BROKERS)
def test_a_first_round_by_hand(broker: str, roost: Callable[..., Answer], state: StateDir) -> None:
    """The message of the card with nothing but the image replaced, by plain mosquitto clients."""
    if shutil.which("mosquitto_pub") is None or (broker == "mosquitto" and not find_mosquitto()):
        pytest.skip("mosquitto or its clients are not installed")
    port, at = free_port(), ["--state", state.root]
    assert roost("data", "digits", "--proplets", 3, *at).code == 0
    with up(state, "--proplets", 3, "--broker", broker, "--port", port) as ready:
        model = ["model", "init", "--arch", "mlp", "--layers", "64,32,10"]
        assert roost(*model, *at).code == 0
        options = pub_sub(broker, port)
        watcher = subprocess.Popen(
            # Unbuffered, as on a terminal.
            ["stdbuf", "-o0", "mosquitto_sub", *options, "-v", "-t", "fl/#"],
            stdout=subprocess.PIPE,
        )
        story = read_until(watcher, b"fl/models/global_model_v0 ")
        message = {
            "round_id": "r-0001",
            "model_uri": "fl/models/global_model_v0",
            "task_wasm_image": ready["image"],
            "participants": ["proplet-1", "proplet-2", "proplet-3"],
            "hyperparams": {"epochs": 1, "lr": 0.01, "batch_size": 16},
            "k_of_n": 3,
            "timeout_s": 30,
        }
        order = ["-q", "1", "-t", "fl/rounds/start", "-m", json.dumps(message)]
        subprocess.run(["mosquitto_pub", *options, *order], check=True)
        assert roost("round", "watch", "r-0001", *at).code == 0
        story += read_until(watcher, b"fl/rounds/r-0001/complete {")
        watcher.terminate()
        story += watcher.communicate()[0]

        late = subprocess.run(
            ["mosquitto_sub", *options, "-v", "-t", "fl/#", "-W", "2"],
            stdout=subprocess.PIPE,
            check=False,  # that its time is over is an error to mosquitto_sub
        ).stdout
    for line in (
        b"fl/rounds/start {",
        b"fl/rounds/r-0001/state {",
        b"fl/rounds/r-0001/updates/proplet-3 ",
        b"fl/models/global_model_v1 ",
        b"fl/rounds/r-0001/complete {",
    ):
        assert b"\n" + line in b"\n" + story
    assert b"\nfl/models/global_model_v1 " in b"\n" + late
    complete = next(x for x in late.split(b"\n") if x.startswith(b"fl/rounds/r-0001/complete "))
    outcome = json.loads(complete.partition(b" ")[2])
    assert outcome["outcome"] == "completed"
    assert outcome["model_topic"] == "fl/models/global_model_v1"
    assert outcome["verdicts"] == dict.fromkeys(message["participants"], "accepted")


def test_the_demo_does_not_replace_other_data(
    roost: Callable[..., Answer], state: StateDir, tmp_path: Path
) -> None:
    """Whoever imported data of their own keeps it."""
    (tmp_path / "own.csv").write_text("a,y\n1,0\n")
    own = ["--label", "y", "--proplet", "proplet-2", "--state", state.root]
    assert roost("data", "import", "own.csv", *own).code == 0
    answer = roost("demo", "--state", state.root)
    assert answer.code == 2
    assert "proplet-2" in answer.err
    assert np.load(state.mount("proplet-2", "train") / "x.npy").shape == (1, 1)


def test_ctrl_c_ends_the_demo_and_all_it_started_and_the_next_one_goes_on(
    state: StateDir,
) -> None:
    """With 130, and without waiting for the rounds; nothing of what was learned is lost."""
    process = start("demo", "--json", "--state", state.root)
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("round") == 3:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    instance = state.read_instance()
    assert instance is not None
    assert not is_open("127.0.0.1", instance.port)
    with pytest.raises(ProcessLookupError):
        os.kill(instance.pid, 0)
    process = start("demo", "--state", state.root)
    out, said = process.communicate(timeout=180)
    assert process.returncode == 0, (out, said)
    assert "An earlier demo was interrupted; it goes on." in out
    assert "round  3 of 15" not in out
    assert "round 15 of 15" in out


def test_what_follows_names_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command that is printed works as it stands, whichever folder was chosen."""
    monkeypatch.chdir(tmp_path)
    plan = BrokerPlan("embedded", "mqtt://127.0.0.1:1", "127.0.0.1", 1, (), "")
    found = {"image": "blob:a/b", "proplets": ["proplet-1"], "model": None, "round_id": "r-1"}
    for folder, option in (("my own", " --state 'my own'"), (".roost", "")):
        text = "\n".join(first_steps(plan, found, StateDir.at(folder)))
        assert f"round start{option}\n" in text
        assert f"data digits --proplets 1{option}\n" in text
        assert "-v -t 'fl/rounds/+/state' -t 'fl/rounds/+/complete'\n" in text


def test_a_taken_port_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Who has it, and which one the demo takes instead."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        state = StateDir.at(tmp_path)
        state.write_instance(Instance(1, f"mqtt://127.0.0.1:{port}", "mosquitto", port, 5))
        chosen = choose_port(Output(), state)
    said = capfd.readouterr().err
    assert chosen != port
    assert f"Port {port} is in use by pid {os.getpid()}" in said
    assert f"this demo uses {chosen}, and `roost up` will too" in said
