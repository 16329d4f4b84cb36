"""Averaging: speed against a NumPy loop over the same files, memory of the coordinator's process.

    uv run python benchmarks/averaging/run.py

Speed: CPU seconds of one thread, because both sides wait for the same files; runs alternate and
medians count. The peer sums in place in float64, as Roost does; what Roost does besides (the
model's digest, writing and syncing the result) is in its time.

Memory: a real round over a real broker, with the updates offered one after the other as blobs.
The peak of the coordinator's resident memory over its idle size, in models.
"""

import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgpack
import numpy as np
from roost.chassis.blobs import manifest_message, manifest_of, offer, withdraw
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Session, Token
from roost.chassis.settings import BrokerSettings
from roost.chassis.transfer import send_all
from roost.coordinator.adapters.averaging import average
from roost.protocol.round.model import encode_safetensors
from roost.protocol.round.tensorfile import read_layout
from roost.wire.blob import MANIFEST_CONTENT_TYPE

UPDATES: Final = 100
PARAMETERS: Final = 1_000_000
REPEATS: Final = 5
SPEED_BUDGET: Final = 1.5
LARGE: Final = 10_000_000
PARTICIPANTS: Final = (10, 100)
MEMORY_BUDGET: Final = 3.0
DEADLINE_S: Final = 120.0
BASE: Final = "fl/models/global_model_v0"
CONFIG: Final = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_packet_size 4194304
max_queued_messages 1000000
set_tcp_nodelay true
"""


def measure() -> list[dict[str, Any]]:
    """Return all rows."""
    return [speed(), *(memory(count) for count in PARTICIPANTS)]


def speed() -> dict[str, Any]:
    """Average a spool, and let NumPy do the same."""
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(1)
        paths, weights = [], [100 + number for number in range(UPDATES)]
        for number in range(UPDATES):
            paths.append(folder / f"update-{number}")
            values = rng.standard_normal(PARAMETERS, dtype=np.float32)
            paths[-1].write_bytes(encode_safetensors({"w": values}, {}))
        base = read_layout(paths[0].read_bytes())
        start = base.entries[0].start
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(REPEATS):
            ours.append(cpu_s(lambda: average(paths, weights, base, folder / "out")))
            theirs.append(cpu_s(lambda: numpy_loop(paths, weights, start)))
        made = np.fromfile(folder / "out", "<f4", offset=start)
        np.testing.assert_array_equal(made, numpy_loop(paths, weights, start))
    value, peer = statistics.median(ours), statistics.median(theirs)
    return {
        "row": f"averaging {UPDATES} × {PARAMETERS // 1_000_000}M float32 from the spool",
        "value": value,
        "unit": "CPU s",
        "peer": "NumPy loop in place, same files",
        "peer_value": peer,
        "ratio": value / peer,
        "budget": f"≤ {SPEED_BUDGET} ×",
        "met": value <= SPEED_BUDGET * peer,
    }


def cpu_s(work: Callable[[], object]) -> float:
    """Return the CPU seconds that something takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def numpy_loop(paths: list[Path], weights: list[int], start: int) -> Any:
    """Average as a person would write it: in place, one update in memory at a time."""
    total, scratch = np.zeros(PARAMETERS), np.empty(PARAMETERS)
    for path, weight in zip(paths, weights, strict=True):
        values = np.fromfile(path, "<f4", offset=start)
        np.multiply(values, weight, out=scratch, dtype=np.float64)
        total += scratch
    total /= sum(weights)
    return total.astype("<f4")


def memory(count: int) -> dict[str, Any]:
    """Run one round of ``count`` large updates and watch the coordinator's memory."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        desk = stack.enter_context(opened(Path(name)))
        model = np.zeros(LARGE, np.float32)
        size = model.nbytes
        desk.offer("fl/models/publish", encode_safetensors({"w": model}, {}))
        desk.wait("fl/models/index", lambda index: bool(index["models"]))
        idle = desk.settle()
        desk.run_round(count)
        peak = desk.peak() - idle
    return {
        "row": f"coordinator's peak memory over idle, {count} × {LARGE // 1_000_000}M parameters",
        "value": peak / 1e6,
        "unit": "MB",
        "peer": "one model",
        "peer_value": size / 1e6,
        "ratio": peak / size,
        "budget": f"< {MEMORY_BUDGET:g} models",
        "met": peak < MEMORY_BUDGET * size,
    }


class Desk:
    """The learning side on a broker of its own, and a client that plays everyone else."""

    def __init__(self, folder: Path, port: int, coordinator: int) -> None:
        self._folder, self._pid = folder, coordinator
        settings = BrokerSettings(broker=f"mqtt://127.0.0.1:{port}")
        self._session = Session(settings, "bench", rng=random.Random(1), clean=True)
        self._news = threading.Condition()
        self._last: dict[str, Any] = {}
        for topic in ("fl/models/index", "fl/coordinator/state", "fl/rounds/+/+"):
            self._session.subscribe(topic, self._take)
        self._session.start()
        self.wait("fl/coordinator/state", lambda _state: True)
        self.wait("fl/models/index", lambda _index: True)

    def _take(self, received: Received, token: Token) -> None:
        self._session.ack(token)
        with self._news:
            self._last[received.topic] = json.loads(received.payload)
            self._news.notify_all()

    def wait(self, topic: str, wanted: Callable[[Any], bool]) -> None:
        """Wait until the last message of a topic is wanted."""

        def there() -> bool:
            return topic in self._last and wanted(self._last[topic])

        with self._news:
            if not self._news.wait_for(there, DEADLINE_S):
                raise TimeoutError(f"{topic}: {self._last.get(topic)}")

    def stop(self) -> None:
        """Close the connection."""
        self._session.stop()

    def offer(self, topic: str, payload: bytes, *properties: tuple[str, str]) -> Path:
        """Publish a large payload as its manifest and chunks."""
        path = self._folder / "payload"
        path.write_bytes(payload)
        manifest = manifest_of("bench", path)
        message = manifest_message(topic, manifest)
        onward = Publish(
            topic, message.payload, content_type=MANIFEST_CONTENT_TYPE, properties=properties
        )
        send_all(self._session, (*offer(manifest, path), onward), DEADLINE_S)
        return path

    def run_round(self, count: int) -> None:
        """Run one round; each update is offered when the one before was accepted."""
        who = [f"p{number}" for number in range(count)]
        for each in who:
            card = {"proplet_id": each, "status": "online", "boot_id": "b"}
            self._send(f"proplets/{each}/presence", card)
        start = {
            "round_id": "r",
            "model_uri": BASE,
            "task_wasm_image": "file:none",
            "participants": who,
            "k_of_n": count,
            "timeout_s": 3600,
        }
        self._send("fl/rounds/start", start)
        values = np.arange(LARGE, dtype=np.float32)
        for number, each in enumerate(who, 1):
            values += np.float32(1)
            fields = {"round_id": "r", "base_model_uri": BASE, "num_samples": number}
            update = msgpack.packb({**fields, "update": encode_safetensors({"w": values}, {})})
            source = ("source-topic", f"fl/rounds/r/updates/{each}")
            path = self.offer("fml/updates", update, source)
            self.wait_updates(number)
            send_all(self._session, withdraw(manifest_of("bench", path)), DEADLINE_S)
        self.wait("fl/rounds/r/complete", lambda outcome: outcome["outcome"] == "completed")

    def wait_updates(self, count: int) -> None:
        """Wait until so many updates were accepted."""
        self.wait("fl/rounds/r/state", lambda state: bool(state["updates"] >= count))

    def _send(self, topic: str, content: Any) -> None:
        send_all(self._session, [Publish(topic, json.dumps(content).encode())], DEADLINE_S)

    def settle(self) -> int:
        """Return the coordinator's resident bytes now, and forget its peak so far."""
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")
        return self._status("VmRSS")

    def peak(self) -> int:
        """Return the coordinator's greatest resident bytes since."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith(name)]
        return int(line.split()[1]) * 1024


@contextmanager
def opened(folder: Path) -> Iterator[Desk]:
    """Start broker, model server and coordinator, and end them all in the end."""
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if mosquitto is None:
        raise FileNotFoundError("mosquitto is not installed (Debian: apt install mosquitto)")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(CONFIG.format(port=port))
    log = (folder / "log").open("wb")
    environment = {**os.environ, "ROOST_BROKER": f"mqtt://127.0.0.1:{port}"}
    started = [subprocess.Popen([mosquitto, "-c", config], stdout=log, stderr=log)]
    for module in ("model_server", "coordinator"):
        state = {**environment, "ROOST_STATE_DIR": str(folder / module)}
        command = [sys.executable, "-m", f"roost.{module}"]
        started.append(subprocess.Popen(command, env=state, stdout=log, stderr=log))
    try:
        desk = Desk(folder, port, started[-1].pid)
        yield desk
        desk.stop()
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(DEADLINE_S)
        log.close()


if __name__ == "__main__":
    for row in measure():
        print(json.dumps(row, ensure_ascii=False))
    sys.exit(0)
