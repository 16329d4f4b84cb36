"""``/mqtt``: a phone's WebSocket, guarded, piped to the broker's TCP port.

Not the broker's own WebSocket listener: mosquitto 2.0's sends at about 42 KB/s, and would let
phones in with all that a broker's user may do.
"""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from roost.chassis.logs import get_logger
from roost.chassis.settings import BrokerSettings
from roost.ios_bridge.adapters.questions import Questions
from roost.ios_bridge.core.events import EntryAsked
from roost.ios_bridge.core.guard import Framer, Guard, read_connect
from roost.ios_bridge.errors import GuardRefused
from starlette.websockets import WebSocket, WebSocketDisconnect

SUBPROTOCOL: Final = "mqtt"
POLICY_VIOLATION, GOING_AWAY = 1008, 1001
_READ_BYTES: Final = 65_536
_FIRST_S: Final = 10.0


class Pipes:
    """The connections of all phones; each phone has one."""

    def __init__(
        self,
        settings: BrokerSettings,
        questions: Questions,
        clock: Callable[[], float],
        names: tuple[str | None, str | None],
    ) -> None:
        """Pipe to a broker.

        Args:
            settings: Where the broker is.
            questions: Ask whether a password is right.
            clock: Seconds, as in the events.
            names: User name and password that phones have at the broker.
        """
        self._settings, self._questions, self._clock = settings, questions, clock
        self._names = names
        self._open: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = {}

    async def serve(self, socket: WebSocket) -> None:
        """Carry one connection from its begin to its end."""
        if SUBPROTOCOL not in socket.scope.get("subprotocols", []):
            await socket.close(POLICY_VIOLATION, "speak the subprotocol mqtt")
            return
        await socket.accept(SUBPROTOCOL)
        framer = Framer()
        try:
            guard, first = await asyncio.wait_for(self._enter(socket, framer), _FIRST_S)
            await self._carry(socket, framer, guard, first)
        except GuardRefused as refused:
            get_logger().warning("phone.refused", why=str(refused))
            await _close(socket, POLICY_VIOLATION, str(refused)[:100])
        except (OSError, TimeoutError) as error:
            get_logger().info("pipe.broke", why=repr(error))
            await _close(socket, GOING_AWAY, "the broker is away")
        except WebSocketDisconnect:
            pass

    def cut(self, device: str) -> None:
        """End a phone's connection, from any thread."""
        found = self._open.get(device)
        if found is not None:
            loop, task = found
            loop.call_soon_threadsafe(task.cancel)

    async def _enter(self, socket: WebSocket, framer: Framer) -> tuple[Guard, list[bytes]]:
        """Read a phone's CONNECT and return its guard, and what it may send at once."""
        packets = list(framer.feed(await _bytes(socket)))
        while not packets:
            packets = list(framer.feed(await _bytes(socket)))
        login = read_connect(packets[0])
        secret = hashlib.sha256(login.password).hexdigest()
        answer = await self._questions.ask(
            lambda request: EntryAsked(self._clock(), request, login.device, secret)
        )
        if answer.refusal is not None:
            raise GuardRefused(f"{answer.refusal}: {login.device:.64}")
        guard = Guard(login, self._settings.topic_prefix)
        first = [guard.connect(*self._names)]
        return guard, [*first, *(guard.check(packet) for packet in packets[1:])]

    async def _carry(
        self, socket: WebSocket, framer: Framer, guard: Guard, first: list[bytes]
    ) -> None:
        settings = self._settings
        reader, writer = await asyncio.open_connection(
            settings.host, settings.port, ssl=_tls(settings)
        )
        try:
            writer.write(b"".join(first))
            async with self._only(guard.login.device):
                up = asyncio.create_task(_upwards(socket, framer, guard, writer))
                down = asyncio.create_task(_downwards(reader, socket))
                await _first_of(up, down)
        finally:
            writer.close()
            await _close(socket, GOING_AWAY, "the connection ended")

    @contextlib.asynccontextmanager
    async def _only(self, device: str) -> AsyncIterator[None]:
        """Let the newest connection of a phone be its only one."""
        task = asyncio.current_task()
        assert task is not None
        old = self._open.get(device)
        self._open[device] = mine = (asyncio.get_running_loop(), task)
        if old is not None:
            old[1].cancel()
        try:
            yield
        except asyncio.CancelledError:
            get_logger().info("pipe.cut", device=device)
        finally:
            if self._open.get(device) is mine:
                del self._open[device]


async def _upwards(
    socket: WebSocket, framer: Framer, guard: Guard, writer: asyncio.StreamWriter
) -> None:
    while True:
        for packet in framer.feed(await _bytes(socket)):
            writer.write(guard.check(packet))
        await writer.drain()


async def _downwards(reader: asyncio.StreamReader, socket: WebSocket) -> None:
    while data := await reader.read(_READ_BYTES):
        await socket.send_bytes(data)


async def _bytes(socket: WebSocket) -> bytes:
    try:
        return await socket.receive_bytes()
    except KeyError:
        raise GuardRefused("MQTT comes in binary frames") from None


async def _first_of(*tasks: "asyncio.Task[None]") -> None:
    """Wait until one ends, end the others, and raise what ended it."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _close(socket: WebSocket, code: int, why: str) -> None:
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(code, why)


def _tls(settings: BrokerSettings) -> ssl.SSLContext | None:
    if not settings.tls:
        return None
    context = ssl.create_default_context(cafile=settings.ca_file)
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context
