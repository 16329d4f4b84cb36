"""What phones reach over HTTP: pairing, files by digest, readings, outputs, MQTT."""

import base64
import binascii
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from roost.chassis.logs import get_logger
from roost.ios_bridge.adapters.files import Shelf, Tray, sha256_of
from roost.ios_bridge.adapters.pipe import Pipes
from roost.ios_bridge.adapters.questions import Questions
from roost.ios_bridge.core.events import EntryAsked, PairAsked, ReadingCame
from roost.protocol.phone.messages import PairReply, PairRequest, Reading
from roost.protocol.phone.refusals import (
    NOT_WANTED,
    PHONE_REFUSALS,
    UNKNOWN_PHONE,
    UNKNOWN_TOKEN,
)
from roost.wire.message import Message
from roost.wire.refusal import TOO_LARGE, Refused
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

SECRET_BYTES: Final = 16
_SMALL_BODY: Final = 65_536
_STATUS: Final = {
    UNKNOWN_TOKEN: HTTPStatus.FORBIDDEN,
    UNKNOWN_PHONE: HTTPStatus.UNAUTHORIZED,
    NOT_WANTED: HTTPStatus.CONFLICT,
    TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}
_BY_NAME: Final = {refusal.name: refusal for refusal in PHONE_REFUSALS}
_NO_STORE: Final = {"cache-control": "no-store"}
_FOR_EVER: Final = "private, max-age=31536000, immutable"

Handler = Callable[[Request], Awaitable[Response]]


class ReadingMessage(Message, Reading):
    """What is posted to ``/status``."""


@dataclass(frozen=True)
class Web:
    """The bridge's HTTP side.

    Attributes:
        questions: Ask the core.
        post: Hands an event to the core.
        clock: Seconds, as in the events.
        shelf: Files that phones fetch.
        tray: Files that phones hand in.
        pipes: Their MQTT connections.
        prefix: Goes before all topics.
        output_max_bytes: Largest file that is taken.
    """

    questions: Questions
    post: Callable[[Any], None]
    clock: Callable[[], float]
    shelf: Shelf
    tray: Tray
    pipes: Pipes
    prefix: str
    output_max_bytes: int

    def application(self) -> Starlette:
        """Return the ASGI application."""
        output = "/updates/{task_id}/{attempt:int}/{file}"
        return Starlette(
            routes=[
                Route("/pair", self.pair, methods=["POST"]),
                Route("/status", self.status, methods=["POST"]),
                Route("/models/{sha256}", self.fetch, methods=["GET"]),
                Route("/images/{sha256}", self.fetch, methods=["GET"]),
                Route(output, self.hand_in, methods=["PUT"]),
                WebSocketRoute("/mqtt", self.pipes.serve),
            ],
            exception_handlers={Refused: _refused, TimeoutError: _busy, ClientDisconnect: _gone},
        )

    async def pair(self, request: Request) -> Response:
        """Make a phone of whoever has a good token."""
        token = PairRequest.decode(await _small_body(request)).token
        secret = secrets.token_urlsafe(SECRET_BYTES)
        answer = await self.questions.ask(
            lambda name: PairAsked(self.clock(), name, digest(token), digest(secret))
        )
        if answer.refusal is not None:
            raise Refused(_BY_NAME[answer.refusal], "no phone is invited by this token")
        reply = PairReply(device=answer.device, secret=secret, topic_prefix=self.prefix)
        return Response(reply.encode(), media_type="application/json", headers=_NO_STORE)

    async def status(self, request: Request) -> Response:
        """Take a reading from something else than the phone's program."""
        device = await self._enter(request)
        reading = ReadingMessage.decode(await _small_body(request))
        self.post(ReadingCame(self.clock(), device, reading))
        return Response(status_code=204)

    async def fetch(self, request: Request) -> Response:
        """Send a file by its digest: whole, a range of it, or word that it is the same."""
        await self._enter(request)
        sha256 = request.path_params["sha256"]
        etag = f'"{sha256}"'
        path = self.shelf.find(sha256) if _is_digest(sha256) else None
        if path is None:
            error = Refused(NOT_WANTED, f"there is no file {sha256:.64} for phones")
            return _refusal(error, HTTPStatus.NOT_FOUND)
        headers = {"etag": etag, "cache-control": _FOR_EVER}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return FileResponse(path, headers=headers, media_type="application/octet-stream")

    async def hand_in(self, request: Request) -> Response:
        """Take an output of the attempt that the phone's order names."""
        where = request.path_params
        output = (where["task_id"], where["attempt"], where["file"])
        device = await self._enter(request, output)
        with self.tray.incoming() as path:
            size = 0
            with path.open("wb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self.output_max_bytes:
                        raise Refused(TOO_LARGE, f"over {self.output_max_bytes} bytes")
                    file.write(chunk)
            sha256 = sha256_of(path)
            self.tray.put(path, device, *output)
        get_logger().info("output.taken", device=device, task=output[0], bytes=size)
        return Response(status_code=204, headers={"etag": f'"{sha256}"'})

    async def _enter(self, request: Request, output: tuple[str, int, str] | None = None) -> str:
        """Return the phone that a request comes from.

        Raises:
            Refused: unknown_phone, or not_wanted for an output that no order names.
        """
        device, secret = _credentials(request)
        answer = await self.questions.ask(
            lambda name: EntryAsked(self.clock(), name, device, digest(secret), output)
        )
        if answer.refusal is not None:
            raise Refused(_BY_NAME[answer.refusal], f"{device:.64}")
        return device


def digest(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _is_digest(text: str) -> bool:
    return len(text) == hashlib.sha256().digest_size * 2 and text.isalnum() and text.isascii()


def _credentials(request: Request) -> tuple[str, str]:
    """Read HTTP Basic credentials (RFC 7617): device and password."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    try:
        device, colon, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        device = colon = secret = ""
    if scheme.lower() != "basic" or not colon:
        raise Refused(UNKNOWN_PHONE, "send device and password as HTTP Basic credentials")
    return device, secret


async def _small_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _SMALL_BODY:
            raise Refused(TOO_LARGE, f"over {_SMALL_BODY} bytes")
    return body


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _refusal(error, _STATUS.get(error.refusal, HTTPStatus.BAD_REQUEST))


def _refusal(error: Refused, status: HTTPStatus) -> Response:
    refusal = error.refusal
    body = {"code": refusal.code, "name": refusal.name, "reason": str(error)}
    headers = {"www-authenticate": "Basic"} if refusal is UNKNOWN_PHONE else {}
    return JSONResponse(body, status, {**_NO_STORE, **headers})


async def _busy(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"name": "busy", "reason": "try again"}, 503, {"retry-after": "5"})


async def _gone(_request: Request, _error: Exception) -> Response:
    """Nobody hears this: the phone went away in the middle of its request."""
    return Response(status_code=400)
