"""An idle proplet's memory, and what a task costs above its guest's own time.

The guest returns at once. A task is timed from publishing its start order to its final report.
Beside it: `wasmtime` run once by a Python process that does nothing else.
"""

import json
import os
import queue
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wasmtime
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Session, Token
from roost.chassis.settings import BrokerSettings
from roost.protocol.task import topics
from roost.protocol.task.messages import (
    Report,
    ReportStatus,
    StartTask,
    StopReason,
    StopTask,
    TaskSpec,
)

from benchmarks.rounds.run import DEADLINE_S, await_topics, free_port

TASKS = 20
IDLE_MB = 60.0
TASK_S = 0.150
EMPTY_GUEST = '(module (memory (export "memory") 1) (func (export "_start")))'
ALONE = """
import sys, wasmtime as w
e = w.Engine(); s = w.Store(e); s.set_wasi(w.WasiConfig()); l = w.Linker(e); l.define_wasi()
l.instantiate(s, w.Module.from_file(e, sys.argv[1])).exports(s)["_start"](s)
"""


def measure() -> list[dict[str, Any]]:
    """Return the rows on memory and on time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        guest = folder / "empty.wasm"
        guest.write_bytes(wasmtime.wat2wasm(EMPTY_GUEST))
        with mosquitto(folder) as url, proplet(folder, url) as pid:
            session = Session(BrokerSettings(broker=url), "bench", rng=random.Random(1), clean=True)
            session.start()
            assert session.wait_connected(DEADLINE_S)
            await_topics(session, [topics.PRESENCE.format(proplet_id="proplet-1")])
            seconds = [one_task(session, n, guest) for n in range(TASKS + 1)][1:]
            idle = resident_mb(pid)
            session.stop()
        alone = [run_alone(guest) for _ in range(TASKS)]
    task, limit = statistics.median(seconds), statistics.median(alone)
    return [
        row("idle proplet, resident", idle, "MB", None, "–", IDLE_MB, "60 MB"),
        row("task, above its guest", task, "s", limit, "wasmtime alone", TASK_S, "0.15 s"),
    ]


def row(
    name: str,
    value: float,
    unit: str,
    peer_value: float | None,
    peer: str,
    limit: float,
    budget: str,
) -> dict[str, Any]:
    """Return one row of the results page."""
    return {
        "row": name,
        "value": value,
        "unit": unit,
        "peer": peer,
        "peer_value": peer_value,
        "ratio": None if peer_value is None else value / peer_value,
        "budget": budget,
        "met": value < limit,
    }


@contextmanager
def mosquitto(folder: Path) -> Iterator[str]:
    """Run a broker and yield its URL."""
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n")
    env = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"}
    broker = subprocess.Popen(
        ["mosquitto", "-c", config], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        broker.terminate()
        broker.wait(30)


@contextmanager
def proplet(folder: Path, url: str) -> Iterator[int]:
    """Run a proplet and yield its pid."""
    env = {
        **os.environ,
        "ROOST_BROKER": url,
        "ROOST_PROPLET_ID": "proplet-1",
        "ROOST_STATE_DIR": str(folder / "state"),
        "ROOST_DATA_DIR": str(folder / "data"),
        "ROOST_FILE_IMAGES": str(folder),
        "ROOST_LOG_LEVEL": "warning",
    }
    (folder / "data").mkdir()
    process = subprocess.Popen([sys.executable, "-m", "roost.proplet"], env=env)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def resident_mb(pid: int) -> float:
    """Return a process's resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def one_task(session: Session, n: int, guest: Path) -> float:
    """Return the seconds from start order to final report."""
    ids = {"proplet_id": "proplet-1", "task_id": f"bench-{n}"}
    reports: queue.SimpleQueue[Report] = queue.SimpleQueue()

    def take(received: Received, token: Token) -> None:
        session.ack(token)
        reports.put(Report.decode(received.payload))

    topic = topics.REPORT.format(**ids)
    session.subscribe(topic, take)
    spec = TaskSpec(image=f"file:{guest}")
    order = StartTask(attempt=1, remaining_s=DEADLINE_S, task=spec)
    begin = time.perf_counter()
    session.publish(Publish(topics.START.format(**ids), order.encode()))
    report = reports.get(timeout=DEADLINE_S)
    while not report.status.final:
        report = reports.get(timeout=DEADLINE_S)
    seconds = time.perf_counter() - begin
    assert report.status is ReportStatus.SUCCEEDED, report
    stop = StopTask(attempt=1, reason=StopReason.RECORDED)
    session.publish(Publish(topics.STOP.format(**ids), stop.encode()))
    session.unsubscribe(topic)
    return seconds


def run_alone(guest: Path) -> float:
    """Return the seconds of a Python process that does nothing but run the guest."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", ALONE, guest], check=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
