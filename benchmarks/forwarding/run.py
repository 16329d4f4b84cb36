"""Forwarding: the manager's forwarder against a bare paho loop that does the same, in one run.

    uv run python benchmarks/forwarding/run.py

The messages wait in the broker, in the contender's session, before it connects: what is measured
is the contender, not a publisher beside it. Time runs from the order to connect until the last
message has been forwarded, which a subscriber sees on a topic of its own. Both acknowledge a
message only after the broker has acknowledged its onward copy. Runs alternate; medians count.
"""

import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from roost.chassis.settings import BrokerSettings
from roost.manager.adapters.connection import Login
from roost.manager.adapters.forwarder import Forwarder

BUDGET: Final = 0.9
REPEATS: Final = 5
LOADS: Final = (("1 KB", 1_000, 10_000), ("100 KB", 100_000, 1_000))
RULES: Final = (("bench/in/+", "bench/out"), ("bench/last", "bench/done"))
CONTENDERS: Final = ("roost", "bare")
DEADLINE_S: Final = 120.0
CONFIG: Final = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_packet_size 4194304
max_queued_messages 1000000
max_queued_bytes 2147483648
set_tcp_nodelay true
"""


def send_at_once(_client: paho.Client, _userdata: Any, opened: Any) -> None:
    """Turn Nagle's algorithm off."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def client(name: str, port: int, *, clean: bool, manual: bool = False) -> paho.Client:
    """Return a connected MQTT 5 client whose loop does not run yet."""
    made = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5, manual_ack=manual
    )
    # With Nagle's algorithm every full window waits 40 ms for a delayed TCP acknowledgement.
    made.on_socket_open = send_at_once
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 0 if clean else 3600
    made.connect("127.0.0.1", port, clean_start=clean, properties=properties)
    return made


def subscribe(to: paho.Client, sources: list[str]) -> None:
    """Subscribe and wait until the broker has agreed."""
    agreed = threading.Semaphore(0)
    to.on_subscribe = lambda *_: agreed.release()
    to.loop_start()
    for source in sources:
        to.subscribe(source, options=SubscribeOptions(qos=1, retainHandling=2))
    for _ in sources:
        if not agreed.acquire(timeout=DEADLINE_S):
            raise TimeoutError("no SUBACK")


def run_bare(port: int, name: str) -> None:
    """Forward with nothing but paho: the peer."""
    targets = {"bench/in/0": "bench/out", "bench/last": "bench/done"}
    pending: dict[int, tuple[int, int]] = {}
    bare = client(name, port, clean=False, manual=True)

    def on_message(self: paho.Client, _: Any, message: paho.MQTTMessage) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.UserProperty = ("source-topic", message.topic)
        to = targets[message.topic]
        info = self.publish(to, message.payload, qos=1, properties=properties)
        pending[info.mid] = (message.mid, message.qos)

    def on_publish(self: paho.Client, _: Any, mid: int, *_rest: Any) -> None:
        self.ack(*pending.pop(mid))

    bare.on_message, bare.on_publish = on_message, on_publish
    bare.loop_start()


def run_roost(port: int, name: str) -> None:
    """Forward as the manager does."""
    forwarder = Forwarder(
        BrokerSettings(broker=f"mqtt://127.0.0.1:{port}"),
        Login(),
        rng=random.Random(0),
        dropped=lambda name, why: sys.exit(f"{name}: {why}"),
        fatal=sys.exit,
        client_id=name,
    )
    forwarder.apply(RULES)
    forwarder.start()


def contend(contender: str, port: int, name: str) -> None:
    """Be a contender: say that it is ready, begin when told, end when told."""
    print("ready", flush=True)
    sys.stdin.readline()
    {"roost": run_roost, "bare": run_bare}[contender](port, name)
    sys.stdin.readline()


def preload(port: int, name: str, size: int, count: int) -> None:
    """Let messages wait in the contender's session."""
    session = client(name, port, clean=False)
    subscribe(session, [source for source, _ in RULES])
    session.disconnect()
    session.loop_stop()
    publisher = client("publisher", port, clean=True)
    left = threading.Semaphore(0)
    publisher.on_publish = lambda *_: left.release()
    publisher.loop_start()
    payload = random.Random(size).randbytes(size)
    for _ in range(count):
        publisher.publish("bench/in/0", payload, qos=1)
    publisher.publish("bench/last", b"", qos=1)
    for _ in range(count + 1):
        if not left.acquire(timeout=DEADLINE_S):
            raise TimeoutError("the broker does not take the messages")
    publisher.disconnect()
    publisher.loop_stop()


def once(contender: str, port: int, size: int, count: int) -> float:
    """Return the messages per second of one run."""
    name = f"{contender}-{size}-{time.monotonic_ns()}"
    preload(port, name, size, count)
    done = threading.Event()
    waiter = client(f"waiter-{name}", port, clean=True)
    waiter.on_message = lambda *_: done.set()
    subscribe(waiter, ["bench/done"])
    command = [sys.executable, __file__, "--contend", contender, str(port), name]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdout.readline()
        began = time.perf_counter()
        child.stdin.write("go\n")
        child.stdin.flush()
        if not done.wait(DEADLINE_S):
            raise TimeoutError(f"{contender} did not forward {count} messages")
        return count / (time.perf_counter() - began)
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
        waiter.disconnect()
        waiter.loop_stop()


@contextmanager
def broker() -> Iterator[int]:
    """Run a mosquitto of our own and yield its port."""
    path = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise SystemExit("mosquitto is needed for this benchmark (Debian: apt install mosquitto)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text(CONFIG.format(port=port))
        process = subprocess.Popen([path, "-c", config], stderr=subprocess.DEVNULL)
        try:
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            yield port
        finally:
            process.kill()
            process.wait()


def measure() -> list[dict[str, object]]:
    """One row per message size: row, value, unit, peer, peer_value, ratio, budget, met."""
    rows: list[dict[str, object]] = []
    for label, size, count in LOADS:
        rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for _ in range(REPEATS):
            for contender in CONTENDERS:
                # A broker of its own for each run: none inherits another one's memory.
                with broker() as port:
                    rates[contender].append(once(contender, port, size, count))
        value, peer = (statistics.median(rates[name]) for name in CONTENDERS)
        rows.append(
            {
                "row": f"forwarding {label}, QoS 1, acknowledged after the onward PUBACK",
                "value": round(value),
                "unit": "messages/s",
                "peer": "bare paho loop, same run",
                "peer_value": round(peer),
                "ratio": round(value / peer, 3),
                "budget": BUDGET,
                "met": value / peer >= BUDGET,
            }
        )
    return rows


def main() -> int:
    """Print the rows as JSON; exit 1 where a budget is not met."""
    if sys.argv[1:2] == ["--contend"]:
        contend(sys.argv[2], int(sys.argv[3]), sys.argv[4])
        return 0
    rows = measure()
    print(json.dumps(rows, indent=2))
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
