"""Simulated phones on a real clock, with a real bridge and broker; guests are played here."""

import hashlib
import json
import queue
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from roost.ios_bridge.invitation import invite, link, make_token
from roost.ios_bridge.simulator.client import BridgeAway, NotWanted, fetch, hand_in, pair
from roost.ios_bridge.simulator.core.states import Model
from roost.ios_bridge.simulator.life import Habits, Life
from roost.ios_bridge.simulator.ports import OnProgress, Run, RunEnd, Stop
from roost.protocol.phone import topics
from roost.protocol.phone.messages import PairRequest, PhoneFile
from roost.protocol.task import topics as tasks
from roost.protocol.task.messages import (
    FailureReason,
    StartTask,
    TaskInput,
    TaskOutput,
    TaskSpec,
)

from .conftest import DEADLINE_S, Bridge, Operator

pytestmark = pytest.mark.system
WASM = b"\0asm\1\0\0\0"
SHA = hashlib.sha256(WASM).hexdigest()
SPEC = TaskSpec(
    image=f"blob:op/{SHA}",
    env={"NAME": "you"},
    inputs=(TaskInput(name="text", text="hello"),),
    outputs=(TaskOutput(file="result", topic="results/1"),),
    mounts=("data?", "other?"),
)


class Guests:
    """Runs guests as a test likes; tells it of each run."""

    def __init__(self) -> None:
        self.runs: queue.SimpleQueue[tuple[Run, Stop]] = queue.SimpleQueue()
        self.play: Callable[[Run, Stop, OnProgress], RunEnd] = self.copy

    def run(self, run: Run, stop: Stop, on_progress: OnProgress) -> RunEnd:
        """Run a guest to its end."""
        self.runs.put((run, stop))
        return self.play(run, stop, on_progress)

    @staticmethod
    def copy(run: Run, _stop: Stop, on_progress: OnProgress) -> RunEnd:
        """Write what is in the input, and what is mounted."""
        on_progress({"step": 1})
        on_progress({"step": 2})
        place = run.folder / "result"
        found = {"text": (run.inputs / "text").read_text(), "mounts": sorted(run.mounts)}
        place.write_text(json.dumps({**found, **run.task.env}))
        return RunEnd(None, exit_code=0, outputs={"result": place})

    @staticmethod
    def hang(_run: Run, stop: Stop, _on_progress: OnProgress) -> RunEnd:
        """Run until somebody stops it."""
        assert stop.wait(DEADLINE_S)
        return RunEnd(None, stopped=True)


@pytest.fixture
def guests() -> Guests:
    """Return a runner of guests."""
    return Guests()


def paired(operator: Operator, bridge: Bridge, device: str) -> Any:
    """Invite a phone and let it pair itself."""
    token = make_token()
    operator.publish(topics.INVITE.template, invite(token, device, 60.0))
    operator.wait("phones/state", lambda said: said.get("invites"))
    return pair(bridge.url, token)


@pytest.fixture
def life(operator: Operator, bridge: Bridge, guests: Guests, tmp_path: Path) -> Iterator[Life]:
    """Return a simulated phone that is awake."""
    who = paired(operator, bridge, "phone-1")
    (tmp_path / "data").mkdir()
    made = Life(
        who, Model("test 1", "b1"), Habits(sleeps_for_s=0.2), tmp_path / "phone",
        lambda: {"data": tmp_path / "data"}, guests, random.Random(1),
    )  # fmt: skip
    made.start()
    operator.wait("proplets/phone-1/presence", lambda said: said["status"] == "online")
    yield made
    made.stop()
    operator.wait("proplets/phone-1/presence", lambda said: said["status"] == "asleep")


def start(operator: Operator, task_id: str = "t1", spec: TaskSpec = SPEC) -> str:
    """Order a task as the manager does; return the topic of its reports."""
    manifest = {"owner": "op", "sha256": SHA, "size": len(WASM)}
    operator.publish(f"blobs/op/{SHA}/0", WASM, retain=True)
    operator.publish(f"blobs/op/{SHA}/manifest", json.dumps(manifest).encode(), retain=True)
    order = StartTask(attempt=1, remaining_s=60.0, task=spec)
    operator.publish(tasks.START.format(proplet_id="phone-1", task_id=task_id), order)
    return tasks.REPORT.format(proplet_id="phone-1", task_id=task_id)


def status(wanted: str) -> Callable[[Any], bool]:
    """Return a test for reports of this status."""
    return lambda said: said["status"] == wanted


def test_a_task(operator: Operator, life: Life) -> None:
    """Fetched, run, handed in, published (PHONE-015, PHONE-017, PHONE-032)."""
    report = start(operator)
    assert operator.wait(report, status("progress"))["progress"] == {"step": 1}
    assert operator.wait("results/1") == {"text": "hello", "mounts": ["data"], "NAME": "you"}
    assert operator.wait(report, status("succeeded"))["exit_code"] == 0


def test_a_low_battery_in_the_middle(operator: Operator, life: Life, guests: Guests) -> None:
    """The guest is stopped at once, and begins again when there is power (PHONE-016)."""
    guests.play = guests.hang
    report = start(operator)
    _, stop = guests.runs.get(timeout=DEADLINE_S)
    operator.wait(report, status("running"))
    life.set_plugged(plugged=False, battery=15.0)
    assert stop.wait(DEADLINE_S)
    low = operator.wait("phones/state", lambda said: said["phones"][0]["readiness"] == "paused")
    assert low["phones"][0]["why"] == "low_battery"
    paused = operator.wait(report, lambda said: "paused" in said.get("progress", {}))
    assert paused["progress"] == {"paused": "low_battery"}
    guests.play = guests.copy
    life.set_plugged(plugged=True, battery=60.0)
    operator.wait(report, status("succeeded"))


def test_asleep_in_the_middle(operator: Operator, life: Life, guests: Guests) -> None:
    """It wakes, gets its order again, and finishes (PHONE-019, PHONE-030)."""
    guests.play = guests.hang
    report = start(operator)
    _, stop = guests.runs.get(timeout=DEADLINE_S)
    guests.play = guests.copy
    life.sleep()
    assert stop.wait(DEADLINE_S)
    operator.wait("proplets/phone-1/presence", lambda said: said["status"] == "asleep")
    operator.wait(report, status("succeeded"))


def test_the_bridge_is_killed_in_the_middle(
    operator: Operator, start_bridge: Callable[..., Bridge], guests: Guests, tmp_path: Path
) -> None:
    """The phone works on, hands in when the bridge is back, and the task succeeds (PHONE-036)."""
    bridge = start_bridge(ROOST_PHONE_PORT=str(_port()))
    who = paired(operator, bridge, "phone-1")
    life = Life(
        who, Model("test 1", "b1"), Habits(), tmp_path / "phone", dict, guests, random.Random(1)
    )
    life.start()
    go: queue.SimpleQueue[None] = queue.SimpleQueue()

    def play(run: Run, stop: Stop, on_progress: OnProgress) -> RunEnd:
        go.get(timeout=DEADLINE_S)
        return guests.copy(run, stop, on_progress)

    guests.play = play
    report = start(operator)
    operator.wait(report, status("running"))
    bridge.end(9)
    go.put(None)
    start_bridge(ROOST_PHONE_PORT=bridge.url.rpartition(":")[2])
    operator.wait(report, status("succeeded"))
    assert guests.runs.qsize() == 1
    life.stop()


def _port() -> int:
    """Return a port that is free now."""
    import socket  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("play", "reason"),
    [
        (lambda *_: RunEnd(FailureReason.TRAP, "it trapped"), "trap"),
        (lambda *_: RunEnd(FailureReason.OUTPUT_MISSING, "wrote nothing"), "output_missing"),
    ],
)
def test_failures(operator: Operator, life: Life, guests: Guests, play: Any, reason: str) -> None:
    """A guest's failure is the task's (PHONE-017, PHONE-032)."""
    guests.play = play
    assert operator.wait(start(operator), status("failed"))["reason"] == reason


def test_data_that_the_phone_has_not(operator: Operator, life: Life) -> None:
    """A mount that is not optional fails the task (PHONE-015)."""
    report = start(operator, spec=SPEC.model_copy(update={"mounts": ("photos",)}))
    assert operator.wait(report, status("failed"))["reason"] == "mount_unknown"


def test_a_token_that_is_none(bridge: Bridge) -> None:
    """The phone is told so; without a bridge it is told that (PHONE-051)."""
    with pytest.raises(NotWanted, match="unknown_token"):
        pair(bridge.url, make_token())
    with pytest.raises(BridgeAway):
        pair("http://127.0.0.1:1", make_token())


def test_files_and_outputs_that_nobody_wants(
    operator: Operator, bridge: Bridge, tmp_path: Path
) -> None:
    """A file that is not there, and an output of no order (PHONE-041, PHONE-042)."""
    who = paired(operator, bridge, "phone-2")
    missing = PhoneFile(name="x", sha256="0" * 64, size=1)
    with pytest.raises(NotWanted, match="404"):
        fetch(who, missing, tmp_path)
    (tmp_path / "f").write_bytes(b"x")
    with pytest.raises(NotWanted, match="not_wanted"):
        hand_in(who, ("a:b", 1), "f", tmp_path / "f")


def test_a_token_is_128_bits_in_a_link() -> None:
    """What follows # is not sent to a server; the order has only the digest (PHONE-050)."""
    token = make_token()
    assert PairRequest(token=token).token == token
    assert link("https://roost.example", token) == f"https://roost.example/#t={token}"
    order = invite(token, "phone-1", 60.0)
    assert token not in order.encode().decode()
    assert order.token_sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert make_token() != token
