"""A WebSocket client for tests, over a plain socket."""

import socket
from typing import Self

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    RejectConnection,
    Request,
    TextMessage,
)

DEADLINE_S = 10.0


class WebSocketClient:
    """One connection; ``code`` is why it ended."""

    def __init__(self, port: int, path: str = "/mqtt", protocol: str = "mqtt") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._send(Request(host="bridge", target=path, subprotocols=[protocol]))
        self._events = self._ws.events()
        self.code: int | None = None
        first = self._next()
        self.accepted = isinstance(first, AcceptConnection)
        self.status = first.status_code if isinstance(first, RejectConnection) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _send(self, event: Event) -> None:
        self._socket.sendall(self._ws.send(event))

    def send(self, data: bytes | str) -> None:
        """Send a frame, of bytes or of text."""
        message = TextMessage(data) if isinstance(data, str) else BytesMessage(data)
        self._send(message)

    def _next(self) -> Event:
        while True:
            for event in self._ws.events():
                return event
            data = self._socket.recv(65_536)
            self._ws.receive_data(data or None)

    def receive(self) -> bytes | None:
        """Return the next frame's bytes, or None at the connection's end."""
        event = self._next()
        while not isinstance(event, (BytesMessage, CloseConnection)):
            event = self._next()
        if isinstance(event, CloseConnection):
            self.code = event.code
            return None
        return bytes(event.data)
