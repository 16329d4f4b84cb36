"""A real bridge as a process, and what a test needs beside it."""

import json
import os
import queue
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Session, Token
from roost.chassis.settings import BrokerSettings
from roost.ios_bridge.adapters.web import digest
from roost.protocol.phone import topics
from roost.protocol.phone.messages import InvitePhone

DEADLINE_S = 20.0
TOKEN = "T" * 22


class Operator:
    """A client with all rights, which hears everything."""

    def __init__(self, url: str) -> None:
        self._inbox: queue.SimpleQueue[Received] = queue.SimpleQueue()
        settings = BrokerSettings(broker=url)
        self.session = Session(settings, "operator", rng=random.Random(1), clean=True)
        self.session.subscribe("#", self._take)
        self.session.start()
        assert self.session.wait_connected(DEADLINE_S)

    def _take(self, received: Received, token: Token) -> None:
        self.session.ack(token)
        self._inbox.put(received)

    def publish(self, topic: str, message: Any, *, retain: bool = False) -> None:
        """Publish a message or bytes, and wait until the broker has it."""
        done: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        payload = message if isinstance(message, bytes) else message.encode()
        self.session.publish(Publish(topic, payload, retain=retain), done.put)
        assert done.get(timeout=DEADLINE_S) is None

    def wait(self, topic: str, wanted: Callable[[Any], bool] = lambda _said: True) -> Any:
        """Return the JSON of the first message on a topic that is wanted."""
        while True:
            said = json.loads(self.wait_bytes(topic))
            if wanted(said):
                return said

    def wait_topics(self, names: Iterable[str]) -> None:
        """Wait until something came on each of these topics, in whatever order."""
        missing, ends = set(names), time.monotonic() + DEADLINE_S
        while missing:
            missing.discard(self._inbox.get(timeout=max(0.01, ends - time.monotonic())).topic)

    def wait_bytes(self, topic: str) -> bytes:
        """Return the next payload on a topic; what else came is forgotten."""
        ends = time.monotonic() + DEADLINE_S
        while True:
            received = self._inbox.get(timeout=max(0.01, ends - time.monotonic()))
            if received.topic == topic and received.payload:
                return received.payload


@dataclass
class Bridge:
    """A bridge's process."""

    process: subprocess.Popen[bytes]
    log: Path
    url: str = ""

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def operator(broker: Any) -> Iterator[Operator]:
    """Return an operator on a broker of the test's own."""
    made = Operator(broker.url)
    yield made
    made.session.stop()


@pytest.fixture
def start_bridge(
    broker: Any, operator: Operator, tmp_path: Path
) -> Iterator[Callable[..., Bridge]]:
    """Return a function that starts a bridge and waits until it is online."""
    running: list[Bridge] = []

    def start(**settings: str) -> Bridge:
        log = tmp_path / f"bridge-{len(running)}.log"
        environment = {
            **os.environ, "ROOST_BROKER": broker.url, "ROOST_PHONE_PORT": "0",
            "ROOST_STATE_DIR": str(tmp_path / "bridge"), **settings,
        }  # fmt: skip
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "roost.ios_bridge"],
                env=environment, stdout=file, stderr=file,
            )  # fmt: skip
        made = Bridge(process, log)
        running.append(made)
        try:
            made.url = operator.wait("phones/bridge", lambda said: said["status"] == "online")[
                "url"
            ]
        except queue.Empty:
            raise AssertionError(log.read_text()) from None
        return made

    yield start
    for each in running:
        each.process.kill()
        each.process.wait(DEADLINE_S)


@pytest.fixture
def bridge(start_bridge: Callable[..., Bridge]) -> Bridge:
    """Return a running bridge."""
    return start_bridge()


def pair(operator: Operator, bridge: Bridge, device: str, token: str = TOKEN) -> tuple[str, str]:
    """Pair a phone and return its credentials."""
    invite = InvitePhone(invite_id=f"i-{device}", token_sha256=digest(token), device=device)
    operator.publish(topics.INVITE.template, invite)
    operator.wait("phones/state", lambda said: said.get("invites"))
    reply = httpx.post(f"{bridge.url}/pair", json={"token": token})
    assert reply.status_code == 200, reply.text
    return device, reply.json()["secret"]
