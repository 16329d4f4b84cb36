"""An OCI registry in this process, as far as pulling goes; honest unless told otherwise."""

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from roost.proplet.adapters.oci import MANIFEST_TYPE


def digest(body: bytes) -> str:
    """Return the digest as registries write it."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


@dataclass
class FakeRegistry:
    """Serves what it was given.

    Attributes:
        answers: Status and body by path.
        asked: Paths asked for, in order.
        hang_up: Paths whose connection is cut instead of answered.
        stall: Paths whose answer goes on for ever after its first half, byte by byte.
    """

    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    hang_up: set[str] = field(default_factory=set)
    stall: set[str] = field(default_factory=set)
    _closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def push(
        self,
        name: str,
        tag: str,
        wasm: bytes,
        change: Callable[[dict[str, Any]], None] = lambda _manifest: None,
    ) -> str:
        """Store an image, its manifest changed as wished; return the manifest's digest."""
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": "application/vnd.wasm.config.v0+json",
                "digest": digest(b"{}"),
                "size": 2,
            },
            "layers": [
                {"mediaType": "application/wasm", "digest": digest(wasm), "size": len(wasm)}
            ],
        }
        change(manifest)
        body = json.dumps(manifest).encode()
        self.answers[f"/v2/{name}/manifests/{tag}"] = (200, body)
        self.answers[f"/v2/{name}/manifests/{digest(body)}"] = (200, body)
        self.answers[f"/v2/{name}/blobs/{digest(wasm)}"] = (200, wasm)
        return digest(body).removeprefix("sha256:")

    def drip(self, write: Callable[[bytes], Any]) -> None:
        """Send a byte now and then, for ever."""
        while not self._closing.wait(0.02):
            try:
                write(b"x")
            except OSError:
                return


def _handler(registry: FakeRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.asked.append(self.path)
            status, body = registry.answers.get(self.path, (404, b""))
            if "/manifests/" in self.path and self.headers["Accept"] != MANIFEST_TYPE:
                status, body = 404, b""  # as Debian's docker-registry does
            cut = self.path in registry.hang_up | registry.stall
            self.send_response(status)
            more = 10**9 if self.path in registry.stall else 0
            self.send_header("Content-Length", str(len(body) + more))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
            if self.path in registry.stall:
                registry.drip(self.wfile.write)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    return Handler
