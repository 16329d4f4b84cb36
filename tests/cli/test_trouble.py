"""Every row of specs/trouble.md: the fault is made, and the words of its first column come."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from roost.cli.broker import find_mosquitto
from roost.cli.ports import free_port
from roost.cli.wire_client import Wire

from .conftest import SLEEPER, Roost, kill_outright, start, wasm
from .trouble import DEADLINE_S, Place, await_true, limit_files, open_place, run_round

PAGE = Path(__file__).parents[2] / "specs" / "trouble.md"
ROW = re.compile(r"^\| `([^`]+)`(?: \(log\))? \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
TRAPS = '(module (memory (export "memory") 1) (func (export "_start") unreachable))'
#: About two seconds of training.
LONG = '{"epochs":1500,"lr":0.01,"batch_size":16}'
LIFTED = 1 << 40


@dataclass(frozen=True)
class Case:
    """What a scenario has to work with."""

    place: Place
    roost: Roost
    tmp: Path


Scenario = Callable[[Case], str]
SCENARIOS: dict[str, Scenario] = {}


def says(words: str) -> Callable[[Scenario], Scenario]:
    """Register what makes the page's words come."""

    def register(scenario: Scenario) -> Scenario:
        SCENARIOS[words] = scenario
        return scenario

    return register


def rows() -> list[str]:
    """The first column of the page's tables."""
    return [words for words, _ in ROW.findall(PAGE.read_text())]


def has(text: str, words: str) -> bool:
    """Whether the parts between … come in this order."""
    parts = (re.escape(part.strip()) for part in words.split("…"))
    return re.search(".*".join(parts), text, re.DOTALL) is not None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A running Roost, which every scenario leaves running."""
    with open_place(tmp_path_factory.mktemp("trouble")) as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("words", rows())
def test_the_words_come(words: str, place: Place, roost: Roost, tmp_path: Path) -> None:
    """What the page says is printed, is; afterwards a round goes well."""
    said = SCENARIOS[words](Case(place, roost, tmp_path))
    assert has(said, words), said
    assert "completed" in run_round(place, roost)


def test_every_scenario_is_on_the_page() -> None:
    """And every row has its scenario."""
    assert sorted(rows()) == sorted(SCENARIOS)


def test_every_cure_is_a_command(roost: Roost) -> None:
    """What the page says to type exists, with its options."""
    text = PAGE.read_text()
    for command in set(re.findall(r"`roost ([a-z ]+)`", text)):
        assert roost(*command.split(), "--help").code == 0, command
    offered = "".join(roost(*each, "--help").out for each in (("round", "start"), ("up",)))
    for option in set(re.findall(r"`(--?[a-z-]+)`", text)):
        assert option in offered, option


@says("nothing answers at mqtt://")
def _(case: Case) -> str:
    return run_round(case.place, case.roost, "--broker", f"mqtt://127.0.0.1:{free_port()}")


@says("nobody answered about round")
def _(case: Case) -> str:
    with case.place.away("roost.coordinator"):
        said = run_round(case.place, case.roost, "--id", "r-nobody", "--timeout", 2)
    watched = case.roost("round", "watch", "r-nobody", "--timeout", DEADLINE_S, *case.place.at)
    assert "completed" in watched.out, watched
    return said


@says("no index lists fl/models/…; the latest are:")
def _(case: Case) -> str:
    return run_round(case.place, case.roost, "--model", "fl/models/none_v0", "--time", 1)


@says("never seen: …; known are:")
def _(case: Case) -> str:
    return run_round(case.place, case.roost, "--participants", "proplet-1,proplet-9")


@says("k_of_n is …, but only … are invited")
def _(case: Case) -> str:
    return run_round(case.place, case.roost, "-k", 3)


@says("RoundStart: invalid JSON")
def _(case: Case) -> str:
    published(case, b'{"round_id": "r-json", k_of_n: 1}')
    return shown(case, "r-json", "failed")


@says("the last refusal: malformed")
def _(case: Case) -> str:
    published(case, b'{"rund_id": "r-typo"}')
    answers = [""]

    def look() -> bool:
        answers[0] = case.roost("round", "list", *case.place.at).err
        return "refusal" in answers[0]

    await_true(look, "nothing is told of it")
    return answers[0]


@says("made by rounds that this coordinator does not know")
def _(case: Case) -> str:
    run_round(case.place, case.roost)
    pid = case.place.pid("roost.coordinator")
    os.kill(pid, signal.SIGSTOP)
    shutil.rmtree(case.place.state.root / "coordinator")
    kill_outright(pid)
    said = run_round(case.place, case.roost)
    adopted = case.roost("model", "adopt", *case.place.at)
    assert "rounds may go on from it" in adopted.out, adopted
    return said


@says("round_reused")
def _(case: Case) -> str:
    said = run_round(case.place, case.roost, "--id", "r-once")
    assert "completed" in said
    published(case, b'{"round_id":"r-once"}')
    return shown(case, "r-once", "round_reused")


@says("image_unavailable: … is not at the broker")
def _(case: Case) -> str:
    return run_round(case.place, case.roost, "--image", f"blob:operator/{'0' * 64}", "--time", 8)


@says("no data at /data/")
def _(case: Case) -> str:
    return run_round(case.place, case.roost, "--hyperparams", '{"dataset":"none"}')


@says("trap: it trapped:")
def _(case: Case) -> str:
    return run_round(case.place, case.roost, "--image", pushed(case, TRAPS))


@says("time_limit: it still ran after")
def _(case: Case) -> str:
    image = pushed(case, SLEEPER)
    return run_round(case.place, case.roost, "--image", image, "--guest-time", 1)


@says("missing: its task is running")
def _(case: Case) -> str:
    return run_round(case.place, case.roost, "--image", pushed(case, SLEEPER), "--time", 6)


@says("missing: it is offline")
def _(case: Case) -> str:
    with board(case, "board-gone"):
        pass
    await_true(lambda: status(case, "board-gone") == "offline", "board-gone is not offline")
    who = ["--participants", "proplet-1,board-gone"]
    said = run_round(case.place, case.roost, *who, "--time", 3)
    assert "offline: board-gone; too few others are left" in said
    assert "completed" in run_round(case.place, case.roost, *who, "-k", 1)
    return said


@says("does not run; the last lines of … say why")
def _(case: Case) -> str:
    supervisor = case.place.process
    supervisor.send_signal(signal.SIGSTOP)  # else the coordinator would be back too soon
    try:
        case.place.kill("roost.coordinator")
        answer = case.roost("doctor", *case.place.at)
    finally:
        supervisor.send_signal(signal.SIGCONT)
    assert answer.code == 1
    return answer.out


@says("starting it again in")
def _(case: Case) -> str:
    since = len(case.place.said())
    case.place.kill("roost.coordinator")
    return case.place.await_said(lambda text: "starting it again" in text, since)


@says("broker.disconnected … connection lost")
def _(case: Case) -> str:
    if find_mosquitto() is None:
        pytest.skip("SKIPPED LOUDLY: mosquitto is not installed; the embedded broker forgets all")
    since = len(case.place.said())
    args = ["--id", "r-broker", "--hyperparams", LONG, *case.place.at]
    with start("round", "start", *args) as watching:
        case.place.await_said(lambda text: "task.accepted" in text, since)
        case.place.kill("mosquitto")
        assert watching.stdout is not None
        told = watching.stdout.read()
    assert "completed" in told, told
    return case.place.said()[since:]


@says("no task of it is known, does the manager run?")
def _(case: Case) -> str:
    with case.place.away("roost.manager"):
        return run_round(case.place, case.roost, "--time", 2)


@says("waits for the model server to list the model")
def _(case: Case) -> str:
    with case.place.away("roost.model_server"):
        args = ["--id", "r-publish", "--detach", *case.place.at]
        assert case.roost("round", "start", *args).code == 0
        said = shown(case, "r-publish", "waits for")
    watched = case.roost("round", "watch", "r-publish", *case.place.at)
    assert "completed" in watched.out, watched
    return said


@says("cannot write to …: make room there")
def _(case: Case) -> str:
    who = ["--participants", "proplet-1,board-full", "--id", "r-full", "--detach"]
    with board(case, "board-full") as full:
        # As full as it can be: not another byte for its journal.
        journal = case.tmp / "board-full" / "state.sqlite-wal"
        limit_files(full.pid, journal.stat().st_size)
        assert case.roost("round", "start", *who, *case.place.at).code == 0
        log = case.tmp / "board-full.log"
        said = case.place.await_said(lambda text: "make room there" in text, 0, log)
        limit_files(full.pid, LIFTED)
        watched = case.roost("round", "watch", "r-full", *case.place.at)
    assert "completed" in watched.out, watched
    return said


@says("is used by process")
def _(case: Case) -> str:
    log = case.tmp / "second.log"
    folder = case.place.state.service("coordinator")
    with case.place.beside("coordinator", log, state_dir=folder) as second:
        assert second.wait(DEADLINE_S) == 2
    return log.read_text()


@says("another process connected with this client id")
def _(case: Case) -> str:
    since, log = len(case.place.said()), case.tmp / "second.log"
    with case.place.beside("coordinator", log, state_dir=case.tmp / "other"):
        return case.place.await_said(lambda text: "another process connected" in text, since, log)


def published(case: Case, order: bytes) -> None:
    """Start a round by hand."""
    with Wire.connect(f"mqtt://127.0.0.1:{case.place.port}") as wire:
        wire.publish("fl/rounds/start", order)


def pushed(case: Case, text: str) -> str:
    """The reference of a guest that is offered."""
    push = ["image", "push", wasm(case.tmp, text), *case.place.at]
    return case.roost(*push).out.strip()


def shown(case: Case, round_id: str, words: str) -> str:
    """What `roost round show` prints as soon as it has these words."""
    answers = [""]

    def look() -> bool:
        answers[0] = case.roost("round", "show", round_id, *case.place.at).out
        return words in answers[0]

    await_true(look, f"{words} is not shown")
    return answers[0]


def status(case: Case, proplet: str) -> str | None:
    """What `roost proplet list` says of a proplet."""
    listed = case.roost("proplet", "list", "--json", *case.place.at).json
    return next((row["status"] for row in listed if row["proplet"] == proplet), None)


@contextmanager
def board(case: Case, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a proplet by hand, with the digits of proplet-1, and wait until it is online."""
    data = case.place.state.proplet("proplet-1") / "data"
    settings = {"proplet_id": name, "state_dir": case.tmp / name, "data_dir": data}
    with case.place.beside("proplet", case.tmp / f"{name}.log", **settings) as process:
        await_true(lambda: status(case, name) == "online", f"{name} is not online")
        yield process
