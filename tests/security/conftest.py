"""A real mosquitto with the configuration that `roost broker setup` writes, and clients for it."""

from __future__ import annotations

import queue
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from roost.cli.broker import find_mosquitto
from roost.cli.ports import free_port, wait_open
from roost.cli.security import inviting
from roost.cli.security.folder import BrokerFolder
from roost.cli.security.invitations import JoinLine
from roost.cli.security.join_server import JoinServer
from roost.cli.security.login import log_in
from roost.cli.security.site import Site
from roost.cli.security.users import Role, new_password

DEADLINE_S = 10.0
STARTED_WITHIN_S = 60.0
NOT_AUTHORIZED = 135
WORKLOADS = Path(__file__).parents[2] / "workloads"
NOW = datetime.now(UTC)
Serve = Callable[..., JoinServer]


@dataclass
class Secured:
    """A running broker with users, and their passwords."""

    folder: BrokerFolder
    process: subprocess.Popen[bytes]
    passwords: dict[str, str] = field(default_factory=dict)

    @property
    def site(self) -> Site:
        """What it was generated from."""
        return self.folder.site()

    @property
    def authority(self) -> Path:
        """What clients trust."""
        return self.folder.paths.authority

    def add(self, name: str, role: Role = Role.DEVICE) -> str:
        """Let somebody connect; returns when the broker does."""
        password = self.passwords[name] = new_password()
        self.folder.add(name, role, password)
        url = self.site.people_url if role is Role.OPERATOR else self.site.url
        log_in(self.folder.environment(name, password, url))
        return name

    def settings_of(self, kind: str, name: str) -> dict[str, str]:
        """What `roost broker setup` wrote for a service or a person."""
        lines = self.folder.paths.settings(kind, name).read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)


def make_site(folder: Path, **more: Any) -> Site:
    """A site of which only the addresses are a test's: everything stays on the loopback."""
    ports = {name: free_port() for name in ("port", "people_port", "join_port", "loopback_port")}
    return Site(
        **{
            "listen": "127.0.0.1", "hosts": ("127.0.0.1", "localhost"), "prefix": "",
            "workloads": str(WORKLOADS), "run_as": "root" if folder.owner() == "root" else None,
            **ports, **more,
        }
    )  # fmt: skip


@contextmanager
def running(root: Path, site: Site) -> Iterator[Secured]:
    """Set a folder up and run mosquitto on it."""
    program = find_mosquitto()
    if program is None:
        pytest.skip("SKIPPED LOUDLY: mosquitto is not installed (Debian: apt install mosquitto)")
    folder = BrokerFolder(root / "broker")
    folder.setup(site, NOW)
    log = root / "mosquitto.log"
    with log.open("ab") as out:
        process = subprocess.Popen([program, "-c", folder.paths.config], stdout=out, stderr=out)
    secured = Secured(folder, process)
    for name in ("manager", "manager-fwd", "coordinator", "model-server"):
        secured.passwords[name] = secured.settings_of("services", name)["ROOST_PASSWORD"]
    operator = secured.settings_of("people", "operator")
    secured.passwords["operator"] = operator["ROOST_PASSWORD"]
    try:
        for port in (site.port, site.people_port):
            assert wait_open("127.0.0.1", port, DEADLINE_S), log.read_text()
        yield secured
    finally:
        process.kill()
        process.wait(DEADLINE_S)


def await_connected(log: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a service is connected: what is ordered before that is lost."""
    for _ in range(int(STARTED_WITHIN_S * 20)):
        if "broker.connected" in log.read_text():
            return
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        break
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One broker for tests that leave it as it was, with the devices p1 and p2."""
    root = tmp_path_factory.mktemp("secured")
    with running(root, make_site(root)) as secured:
        secured.add("p1")
        secured.add("p2")
        secured.add("eye", Role.VIEWER)
        yield secured


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    """A broker of the test's own."""
    with running(tmp_path, make_site(tmp_path)) as secured:
        yield secured


class Client:
    """A connection of one user, and what came by it."""

    def __init__(  # noqa: PLR0913 - what a connection can be told
        self,
        broker: Secured,
        user: str | None,
        *,
        port: int | None = None,
        password: str | None = None,
        client_id: str | None = None,
        will: str | None = None,
        version: int = paho.MQTTv5,
        properties: Properties | None = None,
        authority: Path | None = None,
        clean: bool = True,
    ) -> None:
        self.inbox: queue.SimpleQueue[paho.MQTTMessage] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._acks: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        extra = {"clean_session": clean} if version == paho.MQTTv311 else {}
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or f"test-{user}",
            protocol=version,
            reconnect_on_failure=False,
            **extra,
        )
        site = broker.site
        if user is not None:
            self.paho.username_pw_set(user, password or broker.passwords.get(user))
        if port is None:
            people = user == "operator"
            port = site.people_port if people else site.port
        if port != site.loopback_port:
            self.paho.tls_set(
                ca_certs=str(authority or broker.authority), tls_version=ssl.PROTOCOL_TLS_CLIENT
            )
        if will is not None:
            self.paho.will_set(will, b"forged", qos=1, retain=True)
        self.paho.on_message = lambda _c, _u, message: self.inbox.put(message)
        self.paho.on_connect = lambda _c, _u, _f, *said: self._answers.put(said)
        self.paho.on_disconnect = lambda _c, _u, _f, reason, _p: self.ended.put(str(reason))
        self.paho.on_subscribe = lambda _c, _u, _m, reasons, _p: self._answers.put(reasons)
        self.paho.on_publish = lambda _c, _u, mid, reason, _p: self._acks.put((mid, reason.value))
        more = {"clean_start": clean} if version == paho.MQTTv5 else {}
        self.paho.connect("127.0.0.1", port, keepalive=30, properties=properties, **more)
        self.paho.loop_start()
        self.reason, self.properties = self._answers.get(timeout=DEADLINE_S)

    @property
    def accepted(self) -> bool:
        """Whether the broker let it in."""
        return not self.reason.is_failure

    def subscribe(self, *filters: str) -> list[int]:
        """Subscribe; the broker's reason codes."""
        self.paho.subscribe([(each, 1) for each in filters])
        return [reason.value for reason in self._answers.get(timeout=DEADLINE_S)]

    def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> int:
        """Publish and return the broker's reason code."""
        wanted = self.paho.publish(topic, payload, qos=1, retain=retain).mid
        mid, reason = self._acks.get(timeout=DEADLINE_S)
        assert mid == wanted
        return reason

    def await_acks(self, number: int) -> None:
        """Wait until so many publishes were acknowledged."""
        for _ in range(number):
            self._acks.get(timeout=DEADLINE_S)

    def until(self, topic: str) -> list[str]:
        """Topics that came before this one."""
        found: list[str] = []
        while (message := self.inbox.get(timeout=DEADLINE_S)).topic != topic:
            found.append(message.topic)
        return found

    def vanish(self) -> None:
        """End the connection without a goodbye, so that the last will is sent."""
        sock = self.paho.socket()
        assert sock is not None
        sock.shutdown(2)
        self.ended.get(timeout=DEADLINE_S)

    def close(self) -> None:
        """Disconnect."""
        self.paho.disconnect()
        self.paho.loop_stop()
        self.paho._reset_sockets()


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """Connect clients for the length of a test."""
    clients: list[Client] = []

    def connecting(*args: Any, **more: Any) -> Client:
        clients.append(Client(*args, **more))
        return clients[-1]

    yield connecting
    for client in clients:
        client.close()


@pytest.fixture
def folder(tmp_path: Path) -> BrokerFolder:
    """A broker's folder; no broker runs on it."""
    made = BrokerFolder(tmp_path / "broker")
    made.setup(make_site(tmp_path), NOW)
    return made


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start join servers, and end them after the test."""
    running: list[tuple[JoinServer, threading.Thread]] = []

    def start(folder: BrokerFolder, now: datetime = NOW, **more: float) -> JoinServer:
        server = JoinServer(folder, lambda: now, **more)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join(DEADLINE_S)
        server.server_close()


def invited(folder: BrokerFolder, name: str | None = None, **labels: str) -> JoinLine:
    """The line for one board."""
    return inviting.invite(folder, name, labels, NOW, timedelta(hours=1))[0]
