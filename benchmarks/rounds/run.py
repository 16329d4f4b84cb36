"""Seconds a round, from publishing the start to reading `complete`, all services as processes.

The guest is the real one with a single sample, so its own work is next to nothing. Beside each row
stands its lower limit, measured in the same run: the same guest processes alone, all at once,
without broker, manager, coordinator or model server. Flower's published figures for the same
sizes, from its deployment mode, are in the budget column.
"""

import itertools
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from roost.chassis.blobs import manifest_message, manifest_of, offer
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Session, Token
from roost.chassis.settings import BrokerSettings
from roost.chassis.transfer import Fetcher, send_all
from roost.client_wasm import guest_path
from roost.proplet.guest import GuestRun, ModuleCache, run_guest
from roost.protocol.round import topics
from roost.protocol.round.messages import RoundComplete, RoundStart, RoundStatus
from roost.protocol.round.model import Model, ModelForm, encode_model
from roost.protocol.task import topics as task_topics
from roost.wire.blob import INLINE_LIMIT

BIN = Path(sys.executable).parent
DEADLINE_S = 120.0
ROUNDS = 7
CASES = (
    ("4 × 10k parameters", 4, (64, 128, 10), 0.5, "0.5 s; Flower 6.3 to 8.2 s (published)"),
    ("4 × 1M parameters", 4, (784, 1000, 200, 10), 0.7, "0.7 s; Flower 6.3 s (published)"),
    ("10 × 1M parameters", 10, (784, 1000, 200, 10), 1.5, "1.5 s; Flower 12.8 s (published)"),
)


def measure() -> list[dict[str, Any]]:
    """Return one row a case."""
    return [measure_case(*case) for case in CASES]


def measure_case(
    name: str, proplets: int, layers: tuple[int, ...], budget_s: float, budget: str
) -> dict[str, Any]:
    """Run some rounds and their lower limit."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        names = [f"proplet-{n}" for n in range(1, proplets + 1)]
        for proplet in names:
            write_sample(state / "proplets" / proplet / "data" / "train", layers[0])
        model = write_model(state / "model", layers)
        with roost_up(state, proplets) as url:
            seconds = run_rounds(url, state, names, model)
        # The first one compiles.
        alone = statistics.median([run_alone(state, names, model) for _ in range(6)][1:])
    value = statistics.median(seconds)
    return {
        "row": name,
        "value": value,
        "unit": "s",
        "peer": "the guest processes alone",
        "peer_value": alone,
        "ratio": value / alone,
        "budget": budget,
        "met": value <= budget_s,
    }


def write_sample(folder: Path, features: int) -> None:
    """Write one training sample."""
    folder.mkdir(parents=True)
    np.save(folder / "x.npy", np.ones((1, features), np.float32))
    np.save(folder / "y.npy", np.zeros(1, np.int64))


def write_model(path: Path, layers: tuple[int, ...]) -> Path:
    """Write version 0 of an MLP."""
    rng = np.random.default_rng(0)
    tensors = {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(layers)):
        tensors[f"layers.{i}.weight"] = rng.normal(0, 0.05, (outputs, inputs)).astype(np.float32)
        tensors[f"layers.{i}.bias"] = np.zeros(outputs, np.float32)
    metadata = {"architecture": "mlp", "version": "0", "name": "global_model"}
    path.write_bytes(encode_model(Model(ModelForm.SAFETENSORS, tensors, metadata)))
    return path


@contextmanager
def roost_up(state: Path, proplets: int) -> Iterator[str]:
    """Run a whole Roost on a free port and yield its broker's URL."""
    port = free_port()
    command = [str(BIN / "roost"), "up", "--state", str(state), "--proplets", str(proplets)]
    with (state / "up.log").open("wb") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)
    try:
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def run_rounds(url: str, state: Path, names: list[str], model: Path) -> list[float]:
    """Return the seconds of each round, the first one (cold caches) left out."""
    session = Session(BrokerSettings(broker=url), "bench", rng=random.Random(1), clean=True)
    session.start()
    assert session.wait_connected(DEADLINE_S)
    ready = (task_topics.WORKLOADS_STATE, topics.MODEL_INDEX, topics.COORDINATOR_STATE)
    await_topics(session, [topic.format() for topic in ready])
    await_topics(session, [task_topics.PRESENCE.format(proplet_id=name) for name in names])
    image = offer_file(session, guest_path(), state)
    publish_model(session, model)
    fetcher = Fetcher(session)
    fetcher.fetch_topic(topics.MODEL.format(name="global_model", version=0), DEADLINE_S)
    seconds = [one_round(session, n, names, image) for n in range(ROUNDS + 1)]
    session.stop()
    return seconds[1:]


def await_topics(session: Session, wanted: list[str]) -> None:
    """Wait until each of these topics holds something."""
    fetcher = Fetcher(session)
    for topic in wanted:
        fetcher.fetch_topic(topic, DEADLINE_S)


def offer_file(session: Session, path: Path, _state: Path) -> str:
    """Offer the guest as a blob and return its image reference."""
    manifest = manifest_of("bench", path)
    send_all(session, offer(manifest, path), DEADLINE_S)
    return f"blob:{manifest.owner}/{manifest.sha256}"


def publish_model(session: Session, model: Path) -> None:
    """Publish version 0, inline or as a blob."""
    topic = topics.MODEL_PUBLISH.format()
    if model.stat().st_size <= INLINE_LIMIT:
        send_all(session, [Publish(topic, model.read_bytes())], DEADLINE_S)
        return
    manifest = manifest_of("bench", model)
    send_all(session, offer(manifest, model), DEADLINE_S)
    send_all(session, [manifest_message(topic, manifest)], DEADLINE_S)


def one_round(session: Session, n: int, names: list[str], image: str) -> float:
    """Run a round on the newest version and return its seconds."""
    finished = threading.Event()
    outcome: list[RoundComplete] = []

    def take(received: Received, token: Token) -> None:
        session.ack(token)
        outcome.append(RoundComplete.decode(received.payload))
        finished.set()

    start = RoundStart(
        round_id=f"bench-{n}",
        model_uri=topics.MODEL.format(name="global_model", version=n),
        task_wasm_image=image,
        participants=tuple(names),
        hyperparams={"epochs": 1, "lr": 0.01, "batch_size": 1},
        k_of_n=len(names),
        timeout_s=DEADLINE_S,
    )
    topic = topics.ROUND_COMPLETE.format(round_id=start.round_id)
    session.subscribe(topic, take)
    begin = time.perf_counter()
    session.publish(Publish(topics.ROUND_START.format(), start.encode()))
    assert finished.wait(DEADLINE_S), f"round {n} did not end"
    seconds = time.perf_counter() - begin
    session.unsubscribe(topic)
    assert outcome[0].outcome is RoundStatus.COMPLETED, outcome[0]
    return seconds


def run_alone(state: Path, names: list[str], model: Path) -> float:
    """Return the seconds of the same guests, all at once, with nothing around them."""
    inputs = state / "alone-in"
    inputs.mkdir(exist_ok=True)
    shutil.copyfile(model, inputs / "model")
    cache = ModuleCache(state / "alone-cache")

    def run(name: str) -> None:
        work = state / "alone" / name
        work.mkdir(parents=True, exist_ok=True)
        data = state / "proplets" / name / "data" / "train"
        wanted = GuestRun(
            image=guest_path(),
            out=work / "out",
            stdout=work / "stdout",
            env=guest_env(name),
            inputs=inputs,
            mounts={"train": data},
        )
        outcome = run_guest(wanted, cache)
        assert outcome.exit_code == 0, outcome

    with ThreadPoolExecutor(len(names)) as pool:
        begin = time.perf_counter()
        list(pool.map(run, names))
        return time.perf_counter() - begin


def guest_env(name: str) -> dict[str, str]:
    """Return the environment that the binding gives the guest."""
    return {
        "ROUND_ID": "bench",
        "PROPLET_ID": name,
        "MODEL_URI": "fl/models/global_model_v0",
        "HYPERPARAMS": json.dumps({"epochs": 1, "lr": 0.01, "batch_size": 1}),
    }


if __name__ == "__main__":
    os.environ.setdefault("ROOST_LOG_LEVEL", "warning")
    print(json.dumps(measure(), indent=1))
