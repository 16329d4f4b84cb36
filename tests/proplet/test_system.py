"""A real proplet process on a real broker."""

import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from roost.chassis.blobs import manifest_of, offer
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Session, Token
from roost.chassis.settings import BrokerSettings
from roost.chassis.transfer import Fetcher, send_all
from roost.protocol.task import topics
from roost.protocol.task.messages import (
    Presence,
    PresenceStatus,
    Report,
    StartTask,
    StopReason,
    StopTask,
    TaskSpec,
    Telemetry,
)

from . import guests

pytestmark = pytest.mark.system
WAIT_S = 20.0
MAX_IDLE_KB = 60 * 1024


class Broker(Protocol):
    """A real broker that can be killed and brought back."""

    url: str

    def kill(self) -> None:
        """End it as ``kill -9`` does."""

    def start(self) -> None:
        """Start it and wait until it listens."""


class Operator:
    """Plays the manager: sends orders, hears everything."""

    def __init__(self, url: str, name: str = "operator") -> None:
        settings = BrokerSettings(broker=url)
        self.session = Session(settings, name, rng=random.Random(1), clean=True)
        self.fetcher = Fetcher(self.session)
        self.heard: queue.SimpleQueue[Received] = queue.SimpleQueue()
        for topic_filter in ("proplets/#", "out/#"):
            self.session.subscribe(topic_filter, self._hear)
        self.session.start()
        assert self.session.wait_connected(WAIT_S)

    def _hear(self, received: Received, token: Token) -> None:
        self.session.ack(token)
        self.heard.put(received)

    def until(self, wanted: Callable[[Received], Any]) -> Any:
        """Return the first thing that the function finds in what is heard."""
        while True:
            found = wanted(self.heard.get(timeout=WAIT_S))
            if found is not None:
                return found

    def presence(self, wanted: Callable[[Presence], bool]) -> Presence:
        """Wait for a presence."""

        def look(received: Received) -> Presence | None:
            if topics.PRESENCE.match(received.topic) is None or not received.payload:
                return None
            card = Presence.decode(received.payload)
            return card if wanted(card) else None

        found: Presence = self.until(look)
        return found

    def report(self, task_id: str, *statuses: str) -> Report:
        """Wait for a report of a task."""

        def look(received: Received) -> Report | None:
            ids = topics.REPORT.match(received.topic)
            if ids is None or ids["task_id"] != task_id:
                return None
            report = Report.decode(received.payload)
            return report if report.status.value in statuses else None

        found: Report = self.until(look)
        return found

    def output(self, topic: str) -> Received:
        """Wait for a message on a topic."""
        found: Received = self.until(lambda received: received if received.topic == topic else None)
        return found

    def start(self, task_id: str, attempt: int = 1, left_s: float = 60.0, **spec: Any) -> None:
        """Order an attempt."""
        task = TaskSpec.model_validate(spec, strict=False)
        order = StartTask(attempt=attempt, remaining_s=left_s, task=task)
        topic = topics.START.format(proplet_id="p1", task_id=task_id)
        self.session.publish(Publish(topic, order.encode()))

    def stop(self, task_id: str, reason: StopReason, attempt: int = 1) -> None:
        """End an attempt."""
        topic = topics.STOP.format(proplet_id="p1", task_id=task_id)
        self.session.publish(Publish(topic, StopTask(attempt=attempt, reason=reason).encode()))


class Process:
    """One proplet process, and its restarts."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        (folder / "images").mkdir()
        (folder / "data/attic").mkdir(parents=True)
        (folder / "data/attic/x").write_text("private")
        self._env = {
            **os.environ,
            "ROOST_BROKER": url,
            "ROOST_PROPLET_ID": "p1",
            "ROOST_STATE_DIR": str(folder / "state"),
            "ROOST_DATA_DIR": str(folder / "data"),
            "ROOST_FILE_IMAGES": str(folder / "images"),
            "ROOST_LABELS": "room=attic",
            "ROOST_TELEMETRY_S": "0.2",
        }
        self.log = (folder / "log").open("ab")
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "roost.proplet"], env=self._env, stderr=self.log
        )
        return self.process

    def end(self, how: signal.Signals) -> int:
        """End it and return its exit code."""
        self.process.send_signal(how)
        return self.process.wait(WAIT_S)

    def image(self, name: str, wasm: bytes) -> str:
        """Put a file image there and return its reference."""
        path = self.folder / "images" / name
        path.write_bytes(wasm)
        return f"file:{path}"


@pytest.fixture
def operator(broker: Broker) -> Iterator[Operator]:
    """Return a connected operator."""
    made = Operator(broker.url)
    yield made
    made.session.stop()


@pytest.fixture
def running(broker: Broker, operator: Operator, tmp_path: Path) -> Iterator[Process]:
    """Return a proplet that is online."""
    made = Process(tmp_path, broker.url)
    try:
        operator.presence(lambda card: card.status is PresenceStatus.ONLINE)
        yield made
    finally:
        made.process.kill()
        made.process.wait(WAIT_S)
        made.log.close()


def test_a_task_from_order_to_output(running: Process, operator: Operator) -> None:
    """Accepted, running, progress, output, succeeded, recorded; small again afterwards."""
    image = running.image("a.wasm", guests.say('{"n": 1}\n'))
    operator.start("t:1", image=image, outputs=[{"file": "f", "topic": "out/1"}])
    operator.report("t:1", "accepted")
    operator.presence(lambda card: [task.task_id for task in card.running] == ["t:1"])
    operator.report("t:1", "running")
    assert operator.report("t:1", "progress").progress == {"n": 1}
    assert operator.output("out/1").payload == b'{"n": 1}\n'
    report = operator.report("t:1", "succeeded")
    assert report.exit_code == 0
    assert report.usage is not None
    operator.stop("t:1", StopReason.RECORDED)
    card = operator.presence(lambda card: card.running == ())
    assert card.labels == {"room": "attic"}
    assert card.mounts == ("attic",)
    assert card.protocols == {"task": 1}
    assert card.resources is not None
    sample = operator.output("proplets/p1/telemetry")
    assert Telemetry.decode(sample.payload).running == 0
    assert _resident_kb(running) < MAX_IDLE_KB


def _resident_kb(running: Process) -> int:
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1])


def test_every_failure_has_its_name_and_the_next_task_runs(
    running: Process, operator: Operator
) -> None:
    """One after the other on the same proplet (TASK-040)."""
    bad = {
        "trap": guests.TRAPS,
        "time_limit": guests.SLEEPS,
        "exit_code": guests.build(guests.leave(3)),
        "stdout_limit": guests.floods(1),
        "output_limit": guests.fills_out(),
        "memory_limit": guests.grows(1000, "unreachable"),
        "image_refused": b"garbage",
        "output_missing": guests.NOTHING,
    }
    limits = {"memory_mb": 4, "wall_s": 2.0, "out_mb": 1, "stdout_mb": 1}
    for reason, wasm in bad.items():
        image = running.image(f"{reason}.wasm", wasm)
        operator.start(
            reason, image=image, limits=limits, outputs=[{"file": "f", "topic": "out/x"}]
        )
        report = operator.report(reason, "failed", "succeeded")
        assert report.reason is not None
        assert report.reason.value == reason
    operator.start("unknown", image="file:/etc/passwd", mounts=["cellar"])
    report = operator.report("unknown", "failed")
    assert report.reason is not None
    assert report.reason.value == "mount_unknown"
    operator.start("good", image=running.image("good.wasm", guests.say("x")))
    operator.report("good", "succeeded")


def test_image_and_input_come_over_the_broker(
    running: Process, operator: Operator, tmp_path: Path
) -> None:
    """A device that reaches only the broker needs nothing else; large inputs come in chunks."""
    body = random.Random(1).randbytes(3_000_000)
    files = {"image": guests.copies(4, "x"), "input": body}
    manifests = {}
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        manifests[name] = manifest_of("operator", path)
        send_all(operator.session, offer(manifests[name], path), WAIT_S)
    retained = Publish("given/topic", b"from a topic", retain=True)
    send_all(operator.session, [retained], WAIT_S)
    operator.start(
        "t:1",
        image=f"blob:operator/{manifests['image'].sha256}",
        inputs=[
            {"name": "x", "topic": "given/topic"},
            {"name": "big", "blob": f"operator/{manifests['input'].sha256}"},
        ],
        outputs=[{"file": "f", "topic": "out/1"}],
    )
    assert operator.output("out/1").payload == b"from a topic"
    fetched = running.folder / "state/tasks/t:1/1/in/big"
    assert fetched.read_bytes() == body


def test_a_large_output_goes_as_a_blob_and_is_withdrawn(
    running: Process, operator: Operator, tmp_path: Path
) -> None:
    """Fetched whole by its manifest, sent again on demand, gone after a stop.

    Proves TASK-037, BLOB-001.
    """
    writes = guests.build(
        f"""(local $fd i32) (local $n i32)
        (local.set $fd (call $open (i32.const 3) (i32.const 1024) (i32.const 3)
          {guests.CREATE} {guests.WRITE}))
        (loop
          (drop (call $write (local.get $fd) (i32.const 0) (i32.const 131072)))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if 0 (i32.lt_s (local.get $n) (i32.const 20))))""",
        "big",
    )
    image = running.image("a.wasm", writes)
    operator.start("t:1", image=image, outputs=[{"file": "big", "topic": "out/1"}])
    first = operator.output("out/1")
    operator.report("t:1", "succeeded")
    kept = Publish("out/1", first.payload, retain=True, content_type=first.content_type)
    send_all(operator.session, [kept], WAIT_S)
    operator.fetcher.fetch_payload("out/1", WAIT_S, tmp_path / "fetched")
    out = running.folder / "state/tasks/t:1/1/out/big"
    assert (tmp_path / "fetched").read_bytes() == out.read_bytes()
    operator.session.publish(Publish("proplets/p1/tasks/t:1/resend"))
    again = operator.output("out/1")
    while again.retain:
        again = operator.output("out/1")
    assert again.payload == first.payload
    sha256 = json.loads(first.payload)["sha256"]
    gone = threading.Event()

    def hear(received: Received, token: Token) -> None:
        operator.session.ack(token)
        if not received.payload:
            gone.set()

    operator.session.subscribe(f"blobs/p1/{sha256}/manifest", hear)
    operator.stop("t:1", StopReason.CANCELLED)
    assert gone.wait(WAIT_S)


def test_a_stop_kills_the_guest(running: Process, operator: Operator) -> None:
    """And frees its slot."""
    image = running.image("a.wasm", guests.say('{"n": 1}\n', then=guests.SLEEP))
    operator.start("t:1", image=image)
    operator.report("t:1", "progress")
    assert _guests(running) == 1
    operator.stop("t:1", StopReason.CANCELLED)
    operator.presence(lambda card: card.running == ())
    operator.start("t:2", image=running.image("b.wasm", guests.say("x")))
    operator.report("t:2", "succeeded")
    assert _guests(running) == 0


def _guests(running: Process) -> int:
    tasks = Path(f"/proc/{running.process.pid}/task")
    return sum(len((task / "children").read_text().split()) for task in tasks.iterdir())


def test_a_killed_proplet_goes_on(running: Process, operator: Operator) -> None:
    """Its last will says offline, its guest dies with it, the same attempt runs again.

    Proves TASK-023, TASK-027.
    """
    image = running.image("a.wasm", guests.say('{"n": 1}\n', then=guests.SLEEP))
    operator.start("t:1", image=image, left_s=120.0, limits={"wall_s": 1.5})
    first = operator.report("t:1", "progress")
    running.end(signal.SIGKILL)
    operator.presence(lambda card: card.status is PresenceStatus.OFFLINE)
    running.start()
    card = operator.presence(lambda card: card.status is PresenceStatus.ONLINE)
    assert [task.task_id for task in card.running] == ["t:1"]
    assert card.boot_id != first.boot_id
    report = operator.report("t:1", "failed")
    assert report.reason is not None
    assert (report.reason.value, report.attempt) == ("time_limit", 1)
    assert report.boot_id == card.boot_id


def test_a_proplet_contradicts_whoever_says_that_it_is_away(
    running: Process, broker: Broker
) -> None:
    """As a last will does that comes after the presence of the next connection (TASK-028)."""
    later = Operator(broker.url, "later")
    card = later.presence(lambda card: card.status is PresenceStatus.ONLINE)
    will = card.model_copy(update={"status": PresenceStatus.OFFLINE})
    topic = topics.PRESENCE.format(proplet_id="p1")
    later.session.publish(Publish(topic, will.encode(), retain=True))
    later.presence(lambda card: card.status is PresenceStatus.OFFLINE)
    assert later.presence(lambda card: card.status is PresenceStatus.ONLINE) == card
    assert running.process.poll() is None
    later.session.stop()


def test_a_clean_end_says_offline(running: Process, operator: Operator) -> None:
    """With exit code 0, and without waiting for guests (TASK-023)."""
    image = running.image("a.wasm", guests.say('{"n": 1}\n', then=guests.SLEEP))
    operator.start("t:1", image=image)
    operator.report("t:1", "progress")
    assert running.end(signal.SIGTERM) == 0
    operator.presence(lambda card: card.status is PresenceStatus.OFFLINE)


def test_an_unrecorded_report_outlives_the_broker(
    running: Process, operator: Operator, broker: Broker
) -> None:
    """A broker that forgot everything hears presence and final report again (TASK-036)."""
    operator.start("t:1", image=running.image("a.wasm", guests.say("x")))
    operator.report("t:1", "succeeded")
    broker.kill()
    broker.start()
    later = Operator(broker.url, "later")
    later.presence(lambda card: [task.task_id for task in card.running] == ["t:1"])
    assert later.report("t:1", "succeeded").exit_code == 0
    later.session.stop()
