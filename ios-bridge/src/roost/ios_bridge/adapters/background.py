"""Beside the core: a tick every few seconds, the HTTP server, and a goodbye."""

import socket
import threading
from collections.abc import Callable
from typing import Any, Final

import uvicorn
from roost.chassis.effects import Publish
from roost.chassis.errors import ChassisError
from roost.chassis.logs import get_logger
from roost.chassis.ports import SessionPort
from roost.chassis.service import Background
from roost.chassis.transfer import send_all
from roost.ios_bridge.core.events import Tick
from roost.ios_bridge.settings import BridgeSettings
from starlette.applications import Starlette

TICK_S: Final = 5.0
GOODBYE_S: Final = 2.0
_CLOSE_S: Final = 2
_BACKLOG: Final = 128


class Ticker(Background):
    """Tells the core that time goes on, and everybody at the end that the bridge is gone."""

    def __init__(
        self,
        session: SessionPort,
        goodbye: Publish,
        clock: Callable[[], float],
        post: Callable[[Any], None],
    ) -> None:
        self._session, self._goodbye, self._clock, self._post = session, goodbye, clock, post
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="ticker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and say offline: a clean goodbye sends no last will."""
        self._ended.set()
        if self._session.connected:
            try:
                send_all(self._session, [self._goodbye], GOODBYE_S)
            except ChassisError as error:
                get_logger().info("goodbye.unsaid", why=str(error))

    def _loop(self) -> None:
        while not self._ended.wait(TICK_S):
            self._post(Tick(self._clock()))


def bind(settings: BridgeSettings) -> socket.socket:
    """Return the socket on which phones reach the bridge.

    Raises:
        ChassisError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in settings.phone_host else socket.AF_INET
    try:
        return socket.create_server(
            (settings.phone_host, settings.phone_port), family=family, backlog=_BACKLOG
        )
    except OSError as error:
        where = f"{settings.phone_host}:{settings.phone_port}"
        raise ChassisError(
            f"phones cannot reach {where}: {error.strerror}; choose another ROOST_PHONE_PORT"
        ) from error


class WebServer(Background):
    """Serves the application on a socket, in a thread of its own."""

    def __init__(
        self, application: Starlette, settings: BridgeSettings, listening: socket.socket
    ) -> None:
        self._socket = listening
        config = uvicorn.Config(
            application,
            ws="wsproto",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ssl_certfile=settings.phone_cert_file,
            ssl_keyfile=settings.phone_key_file,
            timeout_graceful_shutdown=_CLOSE_S,
            ws_per_message_deflate=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listening],), name="web", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests, give those that run a moment, end."""
        self._server.should_exit = True
        self._thread.join(_CLOSE_S + GOODBYE_S)
        self._socket.close()
