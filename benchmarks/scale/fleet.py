"""Many simulated proplets in one process, on one connection: `python -m benchmarks.scale.fleet`.

Each behaves as a real one does on the wire: a retained presence, renewed when what it holds
changes; telemetry every 10 s; a start is accepted and reported as running; the model is fetched
from its retained topic; the update is published, and only after its PUBACK the success reported,
again and again with backoff until the manager answers that it is recorded. Only the guest is
missing: the update is made of numbers that are there already.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import msgpack
import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from roost.protocol.round.model import encode_safetensors

BOOT: Final = "simulated"
TELEMETRY_S: Final = 10.0
TICK_S: Final = 0.25
FETCH_S: Final = 1.0
FETCHES: Final = 500
_ORDERS: Final = tuple(f"proplets/+/tasks/+/{order}" for order in ("start", "stop", "resend"))


@dataclass(slots=True)
class Run:
    """One task of one proplet."""

    proplet: str
    task_id: str
    attempt: int
    model: str
    output: str
    round_id: str
    tries: int = 0
    due: float = field(default=float("inf"))


class Fleet:
    """The proplets and their connection."""

    def __init__(self, url: str, count: int, parameters: int) -> None:
        """Prepare; ``run`` connects."""
        self._names = [name(number) for number in range(count)]
        self._blob = encode_safetensors({"w": np.full(parameters, 0.5, np.float32)}, {})
        self._runs: dict[str, Run] = {}
        self._fetching: dict[str, deque[Run]] = {}
        self._sent: dict[int, Run] = {}
        self._resends = 0
        self._lock = threading.RLock()
        self._client = connect(url, "fleet", self._on_message)
        self._client.on_publish = self._on_publish
        self._client.subscribe([(each, SubscribeOptions(qos=1)) for each in _ORDERS])
        self._fetched_at = 0.0

    def run(self) -> None:
        """Show all proplets, then serve until standard input ends."""
        for each in self._names:
            last = self._presence(each)
        last.wait_for_publish(120)
        print("ready", flush=True)
        threading.Thread(target=self._tick, daemon=True).start()
        for line in sys.stdin:
            if line.strip() == "resends":
                print(self._resends, flush=True)
        self._client.disconnect()

    def _tick(self) -> None:
        position, share = 0, len(self._names) * TICK_S / TELEMETRY_S
        left = 0.0
        while True:
            time.sleep(TICK_S)
            left += share
            for _ in range(int(left)):
                self._telemetry(self._names[position])
                position = (position + 1) % len(self._names)
            left -= int(left)
            now = time.monotonic()
            with self._lock:
                late = [each for each in self._runs.values() if each.due <= now]
            for run in late:
                self._succeeded(run)
            self._fetch_again(now)

    def _fetch_again(self, now: float) -> None:
        """Ask once more for models that did not come, as a real proplet does."""
        with self._lock:
            waiting = {topic: len(runs) for topic, runs in self._fetching.items() if runs}
        if now < self._fetched_at + FETCH_S:
            return
        for topic, count in waiting.items():
            for _ in range(min(count, FETCHES)):
                self._client.subscribe(topic, options=SubscribeOptions(qos=1))

    def _telemetry(self, proplet: str) -> None:
        expiry = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        expiry.MessageExpiryInterval = 120
        content = b'{"v":1,"load":0.5,"memory_free_mb":1000,"running":0}'
        self._client.publish(
            f"proplets/{proplet}/telemetry", content, qos=1, retain=True, properties=expiry
        )

    def _presence(self, proplet: str, run: Run | None = None) -> paho.MQTTMessageInfo:
        held = [{"task_id": run.task_id, "attempt": run.attempt}] if run else []
        card = {"proplet_id": proplet, "status": "online", "boot_id": BOOT, "running": held}
        return self._send(f"proplets/{proplet}/presence", card, retain=True)

    def _report(self, run: Run, status: str) -> None:
        content = {"attempt": run.attempt, "boot_id": BOOT, "status": status}
        self._send(f"proplets/{run.proplet}/tasks/{run.task_id}/report", content)

    def _send(self, topic: str, content: Any, *, retain: bool = False) -> paho.MQTTMessageInfo:
        return self._client.publish(topic, json.dumps(content), qos=1, retain=retain)

    def _on_message(self, client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        client.ack(message.mid, message.qos)
        levels = message.topic.split("/")
        if levels[0] != "proplets":
            self._on_model(message.topic)
        elif levels[4] == "start":
            self._on_start(levels[1], levels[3], json.loads(message.payload))
        elif levels[4] == "resend":
            self._resends += 1
            run = self._runs.get(levels[3])
            if run is not None:
                self._send_update(run)
        elif json.loads(message.payload)["reason"] == "recorded":
            with self._lock:
                self._runs[levels[3]].due = float("inf")

    def _on_start(self, proplet: str, task_id: str, order: dict[str, Any]) -> None:
        known, attempt, task = self._runs.get(task_id), order["attempt"], order["task"]
        if known is not None and known.attempt == attempt:
            self._report(known, "accepted")
            return
        model, output = task["inputs"][0]["topic"], task["outputs"][0]["topic"]
        run = Run(proplet, task_id, attempt, model, output, task["env"]["ROUND_ID"])
        with self._lock:
            self._runs[task_id] = run
            self._fetching.setdefault(model, deque()).append(run)
        self._report(run, "accepted")
        self._presence(proplet, run)
        self._report(run, "running")
        # A subscription to the same topic again: the broker sends what it retains once more.
        self._client.subscribe(model, options=SubscribeOptions(qos=1))

    def _on_model(self, topic: str) -> None:
        self._fetched_at = time.monotonic()
        with self._lock:
            waiting = self._fetching.get(topic)
            run = waiting.popleft() if waiting else None
        if run is not None:
            self._send_update(run)

    def _send_update(self, run: Run) -> None:
        number = int(run.proplet.removeprefix("p-"))
        update = {
            "round_id": run.round_id,
            "base_model_uri": run.model,
            "num_samples": number + 1,
            "metrics": {"loss": 1.0 / (number + 1)},
            "update": self._blob,
        }
        with self._lock:
            info = self._client.publish(run.output, msgpack.packb(update), qos=1)
            self._sent[info.mid] = run

    def _on_publish(
        self, _client: paho.Client, _userdata: Any, mid: int, _reason: Any, _properties: Any
    ) -> None:
        with self._lock:
            run = self._sent.pop(mid, None)
        if run is not None:
            self._succeeded(run)
            self._presence(run.proplet)

    def _succeeded(self, run: Run) -> None:
        with self._lock:
            run.tries += 1
            run.due = time.monotonic() + min(60.0, 2.0**run.tries)
        self._report(run, "succeeded")


def name(number: int) -> str:
    """Return the id of a simulated proplet."""
    return f"p-{number:05d}"


def connect(url: str, client_id: str, on_message: Any) -> paho.Client:
    """Return a connected client that acknowledges by hand."""
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, manual_ack=True
    )
    client.on_message = on_message
    there = threading.Event()
    client.on_connect = lambda *_: there.set()
    parts = urlsplit(url)
    client.connect(parts.hostname or "", parts.port or 1883)
    client.loop_start()
    if not there.wait(10):
        raise TimeoutError(f"no broker at {url}")
    return client


def bare(url: str, count: int, parameters: int) -> float:
    """Return the seconds that a plain subscriber takes to get as many updates of that size."""
    blob = encode_safetensors({"w": np.full(parameters, 0.5, np.float32)}, {})
    done, got = threading.Event(), 0

    def take(client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        nonlocal got
        client.ack(message.mid, message.qos)
        got += 1
        if got == count:
            done.set()

    reader = connect(url, "bare-reader", take)
    ready = threading.Event()
    reader.on_subscribe = lambda *_: ready.set()
    reader.subscribe("bare", options=SubscribeOptions(qos=1))
    ready.wait(10)
    sender = connect(url, "bare-sender", None)
    begin = time.perf_counter()
    for _ in range(count):
        sender.publish("bare", blob, qos=1)
    if not done.wait(300):
        raise TimeoutError(f"{got} of {count} came")
    seconds = time.perf_counter() - begin
    for client in (reader, sender):
        client.disconnect()
        client.loop_stop()
    return seconds


def main() -> None:
    """Run a fleet, or measure the bare cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    parser.add_argument("parameters", type=int)
    parser.add_argument("--bare", action="store_true")
    given = parser.parse_args()
    if given.bare:
        print(bare(given.url, given.count, given.parameters), flush=True)
    else:
        Fleet(given.url, given.count, given.parameters).run()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
