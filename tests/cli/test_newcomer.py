"""What a new user runs into: typos, Ctrl-C, guests that fail, models of their own."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from .conftest import GREETER, Roost, Running, start, wasm

pytestmark = pytest.mark.system


def test_a_model_of_ones_own_is_pushed(running: Running, roost: Roost, tmp_path: Path) -> None:
    """JSON and safetensors, once under a name; what was pulled can be pushed under another."""
    own = tmp_path / "own.json"
    own.write_text('{"w":[1.5,2.5],"b":0.5}')
    push = ["model", "push", own, "--name", "own"]
    made = roost(*push, "--json", *running.at)
    assert made.code == 0, made
    assert (made.json[0]["topic"], made.json[0]["form"]) == ("fl/models/own_v0", "json")
    again = roost(*push, *running.at)
    assert again.code == 1
    assert "a model 'own' is there already, the newest is fl/models/own_v0" in again.err
    assert roost("model", "pull", "-o", tmp_path / "m", *running.at).code == 0
    copy = roost("model", "push", tmp_path / "m", "--name", "copy", "--json", *running.at)
    assert copy.code == 0, copy
    listed = roost("model", "list", "--json", *running.at).json
    digests = {row["digest"] for row in listed if row["model"] == "global_model"}
    assert copy.json[0]["digest"] in digests
    own.write_text("nothing")
    assert roost("model", "push", own, *running.at).code == 2


def test_a_failing_participant_tells_its_reason(
    running: Running, roost: Roost, tmp_path: Path
) -> None:
    """At the end, when shown later, and once only."""
    app = wasm(tmp_path, GREETER.replace("CODE", "3"))
    image = roost("image", "push", app, *running.at).out.strip()
    done = roost("round", "start", "--id", "r-bad", "--image", image, *running.at)
    assert done.code == 1
    assert "  proplet-1, proplet-2: " in done.out
    assert "roost task show r-bad:proplet-1" in done.out
    shown = roost("round", "show", "r-bad", *running.at)
    assert "roost task show r-bad:proplet-1" in shown.out
    message = roost("round", "show", "r-bad", "--json", *running.at).json[-1]["message"]
    assert shown.out.count(message) == 1
    assert roost("task", "show", "r-bad:proplet-1", *running.at).code == 0


def test_what_was_never_started_is_told_at_once(running: Running, roost: Roost) -> None:
    """Unless --timeout asks for patience."""
    for kind in ("round", "task", "experiment"):
        answer = roost(kind, "watch", "nope", *running.at)
        assert answer.code == 1, answer
        assert f"nothing is known of {kind} 'nope'" in answer.err


def test_a_path_is_no_image(roost: Roost) -> None:
    """The cure is at hand."""
    answer = roost("task", "launch", "mine/temp.wasm")
    assert answer.code == 2
    assert "a local file? `roost image push mine/temp.wasm` first" in answer.err


def test_an_interrupted_experiment_says_how_to_go_on(running: Running, roost: Roost) -> None:
    """Both commands can be pasted; it is in the list."""
    args = ["--id", "e-int", "--rounds", 500, "--hyperparams", '{"lr":0.05}', *running.at]
    process = start("experiment", "start", *args)
    with process:
        assert process.stdout is not None
        process.stdout.readline()  # a round is over
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait(20) == 130
    at = f"--state {running.state.root}"
    assert f"still running; watch: roost experiment watch e-int {at}" in said
    assert f"stop: roost experiment stop e-int {at}" in said
    rows = roost("experiment", "list", "--json", *running.at).json
    assert ("e-int", "running") in [(row["experiment"], row["state"]) for row in rows]
    assert roost("experiment", "stop", "e-int", *running.at).code == 0
    assert roost("experiment", "watch", "e-int", *running.at).code == 0
