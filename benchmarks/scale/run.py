"""One round of ever more participants: seconds from the start to `complete`, all needed.

    uv run python -m benchmarks scale

Real broker and services, each a process of its own, as `roost up` starts them. The proplets are
simulated (see fleet.py): without their guests, what is left is what Roost costs. They share the
machine with everything else. Lost is an update that never counted.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Session, Token
from roost.chassis.settings import BrokerSettings
from roost.chassis.transfer import Fetcher, send_all
from roost.cli.broker.mosquitto import find_mosquitto, mosquitto_config
from roost.protocol.round import topics
from roost.protocol.round.messages import RoundComplete, RoundStart
from roost.protocol.round.model import encode_safetensors
from roost.protocol.task.topics import PRESENCE, WORKLOADS_STATE

from benchmarks.rounds.run import await_topics, free_port
from benchmarks.scale.fleet import name

COUNTS: Final = (10, 100, 1_000, 10_000)
PARAMETERS: Final = 10_000
DEADLINE_S: Final = 300.0
SERVICES: Final = ("model_server", "coordinator", "manager")
WATCHED: Final = ("coordinator", "manager")
LARGE: Final = 1_000
SETTLED: Final = 100
GROWTH: Final = 1.5
WORKLOADS: Final = Path(__file__).parents[2] / "workloads"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one round took.

    Attributes:
        count: How many were invited; all were needed.
        seconds: From publishing the start to reading the outcome.
        alone: Of a plain subscriber that gets as many updates of that size, in the same run.
        lost: How many updates never counted.
        resends: How many were asked for again.
        cpu_s: CPU seconds by process.
        peaks: Greatest resident bytes over idle, by service.
    """

    count: int
    seconds: float
    alone: float
    lost: int
    resends: int
    cpu_s: dict[str, float]
    peaks: dict[str, int]

    @property
    def ratio(self) -> float:
        """How many times the plain subscriber's time it takes."""
        return self.seconds / self.alone


def measure() -> list[dict[str, Any]]:
    """Return all rows; `SCALE=10,100` measures these counts only."""
    counts = [int(each) for each in os.environ.get("SCALE", "").split(",") if each] or COUNTS
    rows: list[dict[str, Any]] = []
    before: Measured | None = None
    for count in counts:
        found = measure_case(count)
        rows.append(seconds_row(found, before))
        if count >= LARGE:
            rows += [memory_row(found, each) for each in WATCHED]
        before = found
    return rows


def measure_case(count: int) -> Measured:
    """Run one round of ``count`` participants."""
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as there:
        alone = float(there.fleet(count, "--bare").communicate()[0])
        fleet = there.fleet(count)
        assert fleet.stdout is not None
        fleet.stdout.readline()
        there.prepare(count)
        idle = {each: there.settle(each) for each in WATCHED}
        before = {each: there.cpu_s(each) for each in there.pids}
        seconds, outcome = there.round(count)
        cpu_s = {each: there.cpu_s(each) - before[each] for each in before}
        peaks = {each: there.peak(each) - idle[each] for each in WATCHED}
        resends = int(ask(fleet, "resends"))
        fleet.communicate()
    return Measured(count, seconds, alone, count - outcome.updates, resends, cpu_s, peaks)


def seconds_row(found: Measured, before: Measured | None) -> dict[str, Any]:
    """Return the row of the time; it may grow little faster than the plain subscriber's."""
    spent = ", ".join(f"{each} {value:.1f}" for each, value in found.cpu_s.items())
    grown = before is not None and before.count >= SETTLED and found.ratio > GROWTH * before.ratio
    limit = f"; ratio ≤ {GROWTH} × the row's before" if before and before.count >= SETTLED else ""
    return {
        "row": f"{found.count:,} × 10k parameters, lost {found.lost}, asked again for "
        f"{found.resends}; CPU s: {spent}",
        "value": found.seconds,
        "unit": "s",
        "peer": "plain subscriber, as many updates",
        "peer_value": found.alone,
        "ratio": found.ratio,
        "budget": "lost 0" + limit,
        "met": found.lost == 0 and not grown,
    }


def memory_row(found: Measured, service: str) -> dict[str, Any]:
    """Return the row of one service's memory."""
    value, peer = found.peaks[service], found.count * PARAMETERS * 4
    return {
        "row": f"{service}'s peak memory over idle, {found.count:,} participants",
        "value": value / 1e6,
        "unit": "MB",
        "peer": "all updates together",
        "peer_value": peer / 1e6,
        "ratio": value / peer,
        "budget": "< 1",
        "met": value < peer,
    }


def ask(fleet: "subprocess.Popen[str]", question: str) -> str:
    """Ask a fleet on its standard input."""
    assert fleet.stdin is not None
    assert fleet.stdout is not None
    fleet.stdin.write(question + "\n")
    fleet.stdin.flush()
    return fleet.stdout.readline().strip()


class Stage:
    """Broker and services on a free port, and a client that orders a round."""

    def __init__(self, url: str, pids: dict[str, int]) -> None:
        """Connect."""
        self._url, self.pids = url, pids
        self._session = Session(
            BrokerSettings(broker=url), "bench", rng=random.Random(1), clean=True
        )
        self._session.start()
        if not self._session.wait_connected(30):
            raise TimeoutError(f"no broker at {url}")

    def stop(self) -> None:
        """Close the connection."""
        self._session.stop()

    def fleet(self, count: int, *more: str) -> "subprocess.Popen[str]":
        """Start a fleet."""
        command = [sys.executable, "-m", "benchmarks.scale.fleet", self._url, str(count)]
        fleet = subprocess.Popen(
            [*command, str(PARAMETERS), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pids["fleet"] = fleet.pid
        return fleet

    def prepare(self, count: int) -> None:
        """Wait for the services and the last presence, and publish version 0."""
        ready = (WORKLOADS_STATE, topics.MODEL_INDEX, topics.COORDINATOR_STATE)
        await_topics(self._session, [topic.format() for topic in ready])
        await_topics(self._session, [PRESENCE.format(proplet_id=name(count - 1))])
        model = encode_safetensors({"w": np.zeros(PARAMETERS, np.float32)}, {})
        send_all(self._session, [Publish(topics.MODEL_PUBLISH.template, model)], 30)
        Fetcher(self._session).fetch_topic(topics.MODEL.format(name="global_model", version=0), 30)

    def round(self, count: int) -> tuple[float, RoundComplete]:
        """Run a round that needs everyone; return its seconds and its outcome."""
        outcome: list[RoundComplete] = []
        ended = threading.Event()

        def take(received: Received, token: Token) -> None:
            self._session.ack(token)
            outcome.append(RoundComplete.decode(received.payload))
            ended.set()

        start = RoundStart(
            round_id="r",
            model_uri=topics.MODEL.format(name="global_model", version=0),
            task_wasm_image="file:none",
            participants=tuple(name(number) for number in range(count)),
            k_of_n=count,
            timeout_s=DEADLINE_S,
        )
        self._session.subscribe(topics.ROUND_COMPLETE.format(round_id="r"), take)
        begin = time.perf_counter()
        self._session.publish(Publish(topics.ROUND_START.template, start.encode()))
        if not ended.wait(DEADLINE_S + 30):
            raise TimeoutError(f"no outcome of {count} participants")
        return time.perf_counter() - begin, outcome[0]

    def settle(self, which: str) -> int:
        """Return a service's resident bytes now, and forget its peak so far."""
        Path(f"/proc/{self.pids[which]}/clear_refs").write_text("5")
        return self._status(which, "VmRSS")

    def peak(self, which: str) -> int:
        """Return a service's greatest resident bytes since."""
        return self._status(which, "VmHWM")

    def _status(self, which: str, field: str) -> int:
        lines = Path(f"/proc/{self.pids[which]}/status").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith(field)]
        return int(line.split()[1]) * 1024

    def cpu_s(self, which: str) -> float:
        """Return the CPU seconds that a process used so far."""
        fields = Path(f"/proc/{self.pids[which]}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Start broker and services as `roost up` does, and end them all in the end."""
    mosquitto = find_mosquitto()
    if mosquitto is None:
        raise FileNotFoundError("mosquitto is not installed (Debian: apt install mosquitto)")
    port = free_port()
    url = f"mqtt://127.0.0.1:{port}"
    config = folder / "mosquitto.conf"
    config.write_text(mosquitto_config(folder, port))
    started: dict[str, subprocess.Popen[bytes]] = {}
    with (folder / "log").open("wb") as log:
        started["broker"] = subprocess.Popen([mosquitto, "-c", config], stdout=log, stderr=log)
        for each in SERVICES:
            environment = {
                **os.environ,
                "ROOST_BROKER": url,
                "ROOST_STATE_DIR": str(folder / each),
                "ROOST_WORKLOADS": str(WORKLOADS),
                "ROOST_LOG_LEVEL": "warning",
            }
            command = [sys.executable, "-m", f"roost.{each}"]
            started[each] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            there = Stage(url, {each: process.pid for each, process in started.items()})
            yield there
            there.stop()
        finally:
            for process in reversed(started.values()):
                process.kill()
                process.wait(30)


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
