"""What phones reach over HTTP, in front of a real core."""

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from roost.ios_bridge.adapters import questions as asking
from roost.ios_bridge.adapters.background import WebServer, bind
from roost.ios_bridge.adapters.files import Shelf, Tray
from roost.ios_bridge.adapters.pipe import Pipes
from roost.ios_bridge.adapters.questions import Questions
from roost.ios_bridge.adapters.web import Web, digest
from roost.ios_bridge.core.draft import LINK
from roost.ios_bridge.core.effects import Answer
from roost.ios_bridge.core.events import InviteArrived
from roost.ios_bridge.settings import BridgeSettings
from roost.protocol.phone.messages import InvitePhone

from .websocket import WebSocketClient
from .world import World, told, world

TOKEN = "A" * 22
CONTENT = random.Random(1).randbytes(10_000)
SHA = hashlib.sha256(CONTENT).hexdigest()
LIMIT = 50_000


class House:
    """A bridge without a broker: core, HTTP side, folders."""

    def __init__(self, folder: Path) -> None:
        self.world: World = world()
        self.silent = False
        self.questions = Questions(self.post, "n")
        self.shelf, self.tray = Shelf(folder / "files", 10**6), Tray(folder / "outputs")
        settings = BridgeSettings(
            broker="mqtt://127.0.0.1:1", topic_prefix="p/", phone_port=0, state_dir=folder
        )
        pipes = Pipes(settings, self.questions, lambda: 5.0, (None, None))
        self.web = Web(
            self.questions, self.post, lambda: 5.0, self.shelf, self.tray, pipes, "p/", LIMIT
        )
        listening = bind(settings)
        self.port: int = listening.getsockname()[1]
        self.server = WebServer(self.web.application(), settings, listening)
        self.http = httpx.Client(base_url=settings.url(self.port))
        with self.shelf.temporary() as path:
            path.write_bytes(CONTENT)
            self.shelf.keep(path)

    def post(self, event: Any) -> None:
        """Let an event happen, and its answer come back."""
        if self.silent:
            return
        for effect in self.world.do(event).effects:
            if isinstance(effect, Answer):
                self.questions.answer(effect)

    def pair(self) -> tuple[str, str]:
        """Pair a phone and return its credentials."""
        invite = InvitePhone(invite_id="i", token_sha256=digest(TOKEN), device="phone")
        self.world.do(InviteArrived(5.0, invite))
        reply = self.http.post("/pair", json={"token": TOKEN})
        assert reply.status_code == 200, reply.text
        assert reply.headers["cache-control"] == "no-store"
        found = reply.json()
        assert (found["device"], found["topic_prefix"]) == ("phone", "p/")
        return found["device"], found["secret"]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Return a bridge without a broker."""
    made = House(tmp_path)
    made.server.start()
    with made.http:
        yield made
    made.server.stop()


@pytest.fixture
def phone(house: House) -> tuple[str, str]:
    """Return the credentials of a paired phone."""
    return house.pair()


def test_pairing(house: House, phone: tuple[str, str]) -> None:
    """A token is good once; the password is nowhere but at the phone (PHONE-050, PHONE-051)."""
    again = house.http.post("/pair", json={"token": TOKEN})
    assert again.status_code == 403
    assert (again.json()["code"], again.json()["name"]) == (401, "unknown_token")
    secret = phone[1]
    assert len(secret) == 22
    assert secret not in repr(house.world.kinds)
    assert TOKEN not in repr(house.world.kinds)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"hello", 400), (b'{"token": "short"}', 400), (b"x" * 70_000, 413)],
)
def test_a_request_that_is_none(house: House, body: bytes, status: int) -> None:
    """It is refused by name (PHONE-040, PHONE-051)."""
    reply = house.http.post("/pair", content=body)
    assert reply.status_code == status
    assert reply.json()["name"] in {"malformed", "too_large"}


@pytest.mark.parametrize("path", ["/images/", "/models/"])
def test_files_by_digest(house: House, phone: tuple[str, str], path: str) -> None:
    """Whole, in ranges, and not at all where the phone has it (PHONE-041)."""
    whole = house.http.get(path + SHA, auth=phone)
    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert whole.headers["etag"] == f'"{SHA}"'
    assert "immutable" in whole.headers["cache-control"]
    part = house.http.get(path + SHA, auth=phone, headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, CONTENT[100:200])
    assert part.headers["content-range"] == "bytes 100-199/10000"
    rest = {"range": "bytes=9990-", "if-range": f'"{SHA}"'}
    assert house.http.get(path + SHA, auth=phone, headers=rest).content == CONTENT[9990:]
    other = {"range": "bytes=9990-", "if-range": '"other"'}
    assert house.http.get(path + SHA, auth=phone, headers=other).content == CONTENT
    same = house.http.get(path + SHA, auth=phone, headers={"if-none-match": f'"{SHA}"'})
    assert (same.status_code, same.content) == (304, b"")


@pytest.mark.parametrize("name", ["0" * 64, "..%2fstate.sqlite", "x"])
def test_files_that_are_not_there(house: House, phone: tuple[str, str], name: str) -> None:
    """Nothing but the shelf can be fetched (PHONE-041)."""
    reply = house.http.get(f"/images/{name}", auth=phone)
    assert reply.status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", f"/images/{SHA}"), ("POST", "/status"), ("PUT", "/updates/t/1/f")],
)
@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Basic ?"}, {"authorization": "Basic YWJj"},
     {"authorization": "Bearer cGhvbmU6eA=="}, {"authorization": "Basic cGhvbmU6eA=="}],
)  # fmt: skip
def test_nobody_comes_in_without_the_password(
    house: House, phone: tuple[str, str], method: str, path: str, headers: dict[str, str]
) -> None:
    """Neither without credentials nor with wrong ones (PHONE-050)."""
    assert phone[0] == "phone"
    reply = house.http.request(method, path, headers=headers, content=b"{}")
    assert reply.status_code == 401
    assert reply.json()["name"] == "unknown_phone"


def test_a_reading_from_a_shortcut(house: House, phone: tuple[str, str]) -> None:
    """It counts as one of the phone's own (PHONE-024, PHONE-026)."""
    reply = house.http.post("/status", auth=phone, json={"battery": 77, "on_power": True})
    assert reply.status_code == 204
    senses = house.world.get(LINK, "phone").senses
    assert senses.get("battery", 5.0) == 77.0
    assert house.http.post("/status", auth=phone, json={"battery": 101}).status_code == 400


def test_handing_in(house: House, phone: tuple[str, str]) -> None:
    """What the order names is taken, again too; anything else is not (PHONE-042)."""
    house.world.do(told(1.0))
    house.world.run_until_ready("phone", "r:t", 1.0)
    for content in (b"one", b"two"):
        reply = house.http.put("/updates/r:t/1/f", auth=phone, content=content)
        assert reply.status_code == 204
        assert reply.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert (house.tray.attempt("phone", "r:t", 1) / "f").read_bytes() == b"two"
    for wrong in ("r:t/2/f", "r:t/1/g", "other/1/f"):
        reply = house.http.put(f"/updates/{wrong}", auth=phone, content=b"x")
        assert (reply.status_code, reply.json()["name"]) == (409, "not_wanted")
    large = house.http.put("/updates/r:t/1/f", auth=phone, content=b"x" * (LIMIT + 1))
    assert large.status_code == 413
    assert (house.tray.attempt("phone", "r:t", 1) / "f").read_bytes() == b"two"
    assert [path.name for path in house.tray.folder.iterdir()] == ["phone"]


def test_a_core_that_does_not_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The phone is told to try again (PHONE-040)."""
    monkeypatch.setattr(asking, "PATIENCE_S", 0.01)
    house.silent = True
    reply = house.http.post("/pair", json={"token": TOKEN})
    assert (reply.status_code, reply.json()["name"]) == (503, "busy")
    house.questions.answer(Answer("n-1", "phone"))


def connect(device: bytes, password: bytes) -> bytes:
    """Return an MQTT 5 CONNECT."""

    def field(text: bytes) -> bytes:
        return len(text).to_bytes(2, "big") + text

    body = field(b"MQTT") + b"\x05\xc2\x00\x0f\x00" + field(b"i") + field(device) + field(password)
    return bytes([0x10, len(body)]) + body


@pytest.mark.parametrize(
    ("frame", "code"),
    [(connect(b"phone", b"wrong"), 1008), (b"\xc0\x00", 1008), ("text", 1008)],
)
def test_mqtt_refuses(house: House, phone: tuple[str, str], frame: bytes | str, code: int) -> None:
    """A wrong password, no CONNECT, a frame of text (PHONE-055)."""
    assert phone[0] == "phone"
    with WebSocketClient(house.port) as socket:
        socket.send(frame)
        assert socket.receive() is None
        assert socket.code == code


def test_mqtt_needs_its_subprotocol(house: House) -> None:
    """Another one is turned away before anything is said (PHONE-055)."""
    with WebSocketClient(house.port, protocol="chat") as socket:
        assert (socket.accepted, socket.status) == (False, 403)


def test_mqtt_without_a_broker(house: House, phone: tuple[str, str]) -> None:
    """The phone is told that the other side is away, and comes again (PHONE-055)."""
    with WebSocketClient(house.port) as socket:
        socket.send(connect(b"phone", phone[1].encode()))
        assert socket.receive() is None
        assert socket.code == 1001


def test_refusals_say_what_to_do(house: House) -> None:
    """Number, name, and a sentence (PHONE-040, WIRE-021)."""
    reply = house.http.post("/pair", json={"token": "B" * 22})
    assert json.loads(reply.content) == {
        "code": 401,
        "name": "unknown_token",
        "reason": "unknown_token (401): no phone is invited by this token. Ask for a new "
        "invitation: a token is good once, and not for long.",
    }
