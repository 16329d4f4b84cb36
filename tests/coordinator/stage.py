"""A stage for system tests: real broker, real services, the task side played over MQTT."""

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from roost.protocol.round.messages import ModelIndex, RoundComplete, RoundStart, RoundState
from roost.protocol.round.model import Model, encode_safetensors, parse_model
from roost.protocol.round.update import UpdateHeader, encode_binary_update, encode_update
from roost.protocol.task.messages import (
    Launch,
    Presence,
    PresenceStatus,
    TaskState,
    TaskStatus,
)
from roost.wire.blob import INLINE_LIMIT, MANIFEST_CONTENT_TYPE
from roost.wire.topic import matches

DEADLINE_S = 20.0
READY = {"model_server": "fl/models/index", "coordinator": "fl/coordinator/state"}
IMAGE = "oci://example/fl-client-wasm:latest"


class Stage:
    """Services of the learning side on a real broker, and a client that plays everyone else."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.session = Session(
            BrokerSettings(broker=url), "stage", rng=random.Random(1), clean=True
        )
        self.fetcher = Fetcher(self.session)
        self.received: list[Received] = []
        self._news = threading.Condition()
        self.session.subscribe("fl/#", self._take)
        self.session.subscribe("tasks/#", self._take)
        self.session.start()
        assert self.session.wait_connected(DEADLINE_S)

    def _take(self, received: Received, token: Token) -> None:
        self.session.ack(token)
        with self._news:
            self.received.append(received)
            self._news.notify_all()

    def launch(self, *names: str, **environment: str) -> None:
        """Start services as processes of their own."""
        for name in names:
            state = self.folder / name
            state.mkdir(parents=True, exist_ok=True)
            env = {
                **os.environ,
                "ROOST_BROKER": self.url,
                "ROOST_STATE_DIR": str(state),
                "ROOST_LOG_FORMAT": "json",
                **environment,
            }
            with (self.folder / f"{name}.log").open("ab") as log:
                command = [sys.executable, "-m", f"roost.{name}"]
                self.processes[name] = subprocess.Popen(command, env=env, stderr=log)

    def kill(self, name: str) -> None:
        """End a service as ``kill -9`` does."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(DEADLINE_S)

    def close(self) -> None:
        """End everything in good order."""
        for process in self.processes.values():
            process.terminate()
        codes = [process.wait(DEADLINE_S) for process in self.processes.values()]
        self.session.stop()
        assert codes == [0] * len(codes), self.logs()

    def logs(self) -> str:
        """Return what the services logged."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def send(self, topic: str, payload: bytes | str = b"", **more: Any) -> None:
        """Publish and wait for the acknowledgement."""
        content = payload.encode() if isinstance(payload, str) else payload
        send_all(self.session, [Publish(topic, content, **more)], DEADLINE_S)

    def wait(
        self,
        topic_filter: str,
        wanted: Callable[[Received], bool] = lambda _received: True,
        since: int = 0,
    ) -> Received:
        """Return the first message that came or comes on a topic and is wanted."""
        end = time.monotonic() + DEADLINE_S
        with self._news:
            while True:
                for received in self.received[since:]:
                    if matches(topic_filter, received.topic) and wanted(received):
                        return received
                since = len(self.received)
                if not self._news.wait(end - time.monotonic()):
                    raise AssertionError(f"nothing wanted on {topic_filter}\n{self.logs()}")

    def seen(self, topic_filter: str) -> list[Received]:
        """Return what came on a topic so far."""
        with self._news:
            return [each for each in self.received if matches(topic_filter, each.topic)]

    def index(self, wanted: Callable[[ModelIndex], bool]) -> ModelIndex:
        """Wait for an index."""
        found = self.wait("fl/models/index", lambda each: wanted(ModelIndex.decode(each.payload)))
        return ModelIndex.decode(found.payload)

    def outcome(self, round_id: str) -> RoundComplete:
        """Wait for a round's outcome."""
        return RoundComplete.decode(self.wait(f"fl/rounds/{round_id}/complete").payload)

    def state(self, round_id: str, wanted: Callable[[RoundState], bool]) -> RoundState:
        """Wait for a round's state."""
        found = self.wait(
            f"fl/rounds/{round_id}/state", lambda each: wanted(RoundState.decode(each.payload))
        )
        return RoundState.decode(found.payload)

    def retained(self, topic: str) -> Received:
        """Return what the broker retains on a topic."""
        return self.fetcher.fetch_topic(topic, DEADLINE_S)

    def model(self, topic: str) -> Model:
        """Return a model as a reader would get it, from the topic or its blob."""
        into = self.folder / "model.bin"
        self.fetcher.fetch_payload(topic, DEADLINE_S, into)
        return parse_model(into.read_bytes())

    def present(self, *proplets: str) -> None:
        """Say that proplets are online."""
        for each in proplets:
            card = Presence(proplet_id=each, status=PresenceStatus.ONLINE, boot_id="boot-1")
            self.send(f"proplets/{each}/presence", card.encode(), retain=True)

    def task(self, start: bytes, who: str, status: TaskStatus, reason: str | None = None) -> None:
        """Say as the manager does how a participant's task stands."""
        round_id = json.loads(start)["round_id"]
        sha256 = hashlib.sha256(start).hexdigest()
        launch = Launch(topic="fl/rounds/start", sha256=sha256, key=round_id)
        state = TaskState(
            task_id=f"{round_id}:{who}",
            state=status,
            proplet=who,
            attempt=1,
            reason=reason,
            launch=launch,
        )
        self.send(f"tasks/{round_id}:{who}/state", state.encode(), retain=True)

    def forward(self, round_id: str, who: str, payload: bytes, **more: Any) -> None:
        """Forward an update as the manager does."""
        source = ("source-topic", f"fl/rounds/{round_id}/updates/{who}")
        self.send("fml/updates", payload, properties=(source,), **more)

    def answer(self, round_id: str, who: str, payload: bytes) -> None:
        """Forward an update inline or, if it is large, as a blob."""
        (self.forward_large if is_large(payload) else self.forward)(round_id, who, payload)

    def offer_model(self, payload: bytes) -> None:
        """Publish a large model as its manifest."""
        path = self.folder / "offered.bin"
        path.write_bytes(payload)
        manifest = manifest_of("stage", path)
        message = manifest_message("fl/models/publish", manifest)
        send_all(self.session, (*offer(manifest, path), message), DEADLINE_S)

    def forward_large(self, round_id: str, who: str, payload: bytes) -> None:
        """Offer an update as a blob and forward its manifest."""
        path = self.folder / f"{who}.bin"
        path.write_bytes(payload)
        manifest = manifest_of(who, path)
        send_all(self.session, offer(manifest, path), DEADLINE_S)
        self.forward(round_id, who, manifest.encode(), content_type=MANIFEST_CONTENT_TYPE)


def start(round_id: str, participants: Iterable[str], k: int, **more: Any) -> bytes:
    """Return a start's bytes."""
    fields: dict[str, Any] = {
        "model_uri": "fl/models/global_model_v0",
        "task_wasm_image": IMAGE,
        "timeout_s": 30.0,
        **more,
    }
    return RoundStart(
        round_id=round_id, participants=tuple(participants), k_of_n=k, **fields
    ).encode()


def update(
    round_id: str,
    tensors: Mapping[str, Any],
    samples: int,
    *,
    base: str = "fl/models/global_model_v0",
    metrics: Mapping[str, float] | None = None,
    binary: bool = False,
) -> bytes:
    """Return an update's bytes."""
    header = UpdateHeader(round_id=round_id, base_model_uri=base, num_samples=samples)
    encode = encode_binary_update if binary else encode_update
    arrays = {name: np.asarray(value) for name, value in tensors.items()}
    return encode(header, metrics or {}, arrays)


def is_large(payload: bytes) -> bool:
    """Tell whether a payload travels as a blob."""
    return len(payload) > INLINE_LIMIT


@contextmanager
def opened(url: str, folder: Path, *names: str, **environment: str) -> Iterator[Stage]:
    """Open a stage with services, and end them all in the end."""
    stage = Stage(url, folder)
    stage.launch(*names, **environment)
    for name in names:
        stage.wait(READY[name])
    try:
        yield stage
    finally:
        stage.close()


def safetensors_model(tensors: Mapping[str, Any], **metadata: str) -> bytes:
    """Return a safetensors model's bytes."""
    return encode_safetensors(
        {name: np.asarray(value) for name, value in tensors.items()}, metadata
    )
