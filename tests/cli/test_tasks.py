"""Images and tasks on a running Roost, and what a killed broker does to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from roost.cli.broker import find_mosquitto
from roost.cli.digits_data import deal_digits
from roost.cli.ports import free_port, wait_open
from roost.cli.state import StateDir
from roost.cli.wire_client import Wire
from roost.protocol.round.topics import MODEL_INDEX
from roost.wire.blob import BLOB_MANIFEST

from .conftest import BROKERS, GREETER, PROPLETS, SLEEPER, Roost, Running, kill_outright, up, wasm

pytestmark = pytest.mark.system


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
    kept = [file.read_bytes() for file in running.state.images.glob("app-*.wasm")]
    assert kept.count((tmp_path / "app.wasm").read_bytes()) == 1


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
        kill_outright(ready["pids"]["broker"])
        instance = state.read_instance()
        assert instance is not None
        assert wait_open("127.0.0.1", instance.port, 20)
        with Wire.connect(instance.broker) as wire:
            # The manifest comes last; proplets fetch it by this topic.
            sha256 = image.out.strip().rpartition("/")[2]
            wire.subscribe(
                BLOB_MANIFEST.format(owner="operator", sha256=sha256), MODEL_INDEX.filter
            )
            missing = {"blobs", "fl"}
            while missing:
                told = wire.await_message(lambda _: True, 30, f"not published again: {missing}")
                missing -= {told.topic.split("/")[0]}
        done = roost("round", "start", "--hyperparams", '{"lr":0.05}', "--timeout", 60, *at)
        assert done.code == 0, done
        task = ["task", "launch", image.out.strip(), "--proplet", "proplet-1", "--timeout", 60]
        assert roost(*task, *at).code == 0
