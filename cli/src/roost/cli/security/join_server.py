"""Where boards exchange invitations: `python -m roost.cli.security.join_server FOLDER`.

HTTPS with the broker's own certificate. `GET /v1/ca.pem` gives the authority's certificate, which a
board compares with the fingerprint in its invitation; `POST /v1/join` gives a user for a token.
Nothing else is answered. Strangers reach this port: a connection has 10 s in all, a request 4 KiB,
and no more than 16 are served at once.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from roost.chassis.logs import configure, get_logger
from roost.cli.errors import CliError
from roost.cli.security.folder import BrokerFolder
from roost.cli.security.invitations import JoinRefused
from roost.cli.security.joining import AUTHORITY_PATH, JOIN_PATH, JoinRequest, Refusal, redeem

__all__ = ["AT_ONCE", "CONNECTION_S", "JoinServer", "serve"]

CONNECTION_S = 10.0
_MAX_BODY = 4096
AT_ONCE = 16


class JoinServer(ThreadingHTTPServer):
    """Serves one broker's folder until `shutdown`."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        folder: BrokerFolder,
        now: Callable[[], datetime],
        *,
        connection_s: float = CONNECTION_S,
    ) -> None:
        """Listen where the folder's site says.

        Args:
            folder: The broker's folder.
            now: Tells the time, by which invitations end.
            connection_s: Seconds that a connection may last.
        """
        site = folder.site()
        self.address_family = socket.AF_INET6 if ":" in site.listen else socket.AF_INET
        self.folder, self.now, self._connection_s = folder, now, connection_s
        self.log = get_logger()
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        super().__init__((site.listen, site.join_port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, or close it if too many are open."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection: TLS first, and not longer than allowed."""
        encrypted = self._context().wrap_socket(
            request, server_side=True, do_handshake_on_connect=False
        )
        cut = threading.Timer(self._connection_s, _cut, [encrypted])
        cut.start()
        try:
            with encrypted:
                encrypted.do_handshake()
                self.finish_request(encrypted, client_address)
                _drain(encrypted)
        except OSError:  # no TLS, or gone
            return
        except Exception:
            self.log.exception("join.failed", peer=client_address[0])
        finally:
            cut.cancel()
            self._slots.release()

    def _context(self) -> ssl.SSLContext:
        """Read the certificate each time: it may have been renewed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        paths = self.folder.paths
        context.load_cert_chain(paths.certificate, paths.certificate_key)
        return context


class _Handler(BaseHTTPRequestHandler):
    server: JoinServer
    server_version = "roost"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path != AUTHORITY_PATH:
            self._refuse(404, f"only {AUTHORITY_PATH} and {JOIN_PATH} are here")
            return
        self._answer(200, "application/x-pem-file", self.server.folder.paths.authority.read_bytes())

    def do_POST(self) -> None:
        if self.path != JOIN_PATH:
            self._refuse(404, f"only {AUTHORITY_PATH} and {JOIN_PATH} are here")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _MAX_BODY:
            self._refuse(413, f"say in Content-Length how long it is, at most {_MAX_BODY} bytes")
            return
        try:
            request = JoinRequest.model_validate_json(self.rfile.read(int(length)))
            joined = redeem(self.server.folder, request, self.server.now())
        except ValidationError:
            self._refuse(400, "this is no request to join")
        except JoinRefused as problem:
            self._refuse(403, str(problem))
        except CliError as problem:  # the folder cannot be used: ours to mend
            ours = "the broker's machine cannot let anybody join now: see its log"
            self._refuse(500, ours, because=str(problem))
        else:
            self.server.log.info("proplet.joined", proplet=joined.name, peer=self._peer)
            self._answer(200, "application/json", joined.model_dump_json().encode())

    def _refuse(self, status: int, why: str, because: str | None = None) -> None:
        said = because or why
        self.server.log.warning("join.refused", status=status, why=said, peer=self._peer)
        self._answer(status, "application/json", Refusal(error=why).model_dump_json().encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @property
    def _peer(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: what matters is logged by name."""


def _cut(connection: ssl.SSLSocket) -> None:
    """End a connection whose time is up; its thread then reads the end of it."""
    with suppress(OSError):  # it has ended by itself
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _drain(connection: ssl.SSLSocket) -> None:
    """Read what a refused request still sends: closed before that, the answer would be lost."""
    socket.socket.shutdown(connection, socket.SHUT_WR)
    while socket.socket.recv(connection, _MAX_BODY):
        pass


def serve(folder: BrokerFolder) -> None:
    """Serve a broker's folder until a signal ends the process."""
    configure("join", "info", "console")
    server = JoinServer(folder, lambda: datetime.now(UTC))
    server.log.info("join.listening", at=folder.site().join_address)
    with server:
        server.serve_forever()


if __name__ == "__main__":
    serve(BrokerFolder(Path(sys.argv[1])))
