"""``/healthz`` and ``/metrics`` over HTTP, on a port that the settings name."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


class HealthServer:
    """Answers ``/healthz`` (200 or 503 with the reason) and ``/metrics``."""

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        problem: Callable[[], str | None],
    ) -> None:
        """Bind the port.

        Args:
            host: Address to listen on.
            port: Port; 0 lets the system choose one.
            registry: What ``/metrics`` shows.
            problem: Says what is wrong, or None.
        """
        self._server = ThreadingHTTPServer((host, port), _handler(registry, problem))
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="health", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End and free the port."""
        self._server.shutdown()
        self._server.server_close()


def _handler(
    registry: CollectorRegistry, problem: Callable[[], str | None]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif self.path == "/healthz":
                reason = problem()
                body = (reason or "ok").encode() + b"\n"
                self._answer(503 if reason else 200, "text/plain", body)
            else:
                self._answer(404, "text/plain", b"/healthz or /metrics\n")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: health checks would fill the log."""

    return Handler
