"""Registries that send bombs, drip, or are named so that they lead elsewhere."""

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from roost.proplet.adapters import oci
from roost.proplet.adapters.oci import Layer, Registry, parse
from roost.proplet.errors import ImageRefused, ImageUnavailable

MB = 1024 * 1024


class _Bomb(BaseHTTPRequestHandler):
    """Answers everything with a few bytes that unpack to many, twice over."""

    body = gzip.compress(gzip.compress(bytes(64 * MB)))

    def do_GET(self) -> None:
        """Send the bomb."""
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip, gzip")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def bomb() -> Iterator[str]:
    """Return the host of a registry that sends bombs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Bomb)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_compressed_answer_is_refused_packed(bomb: str, tmp_path: Path) -> None:
    """Some hundred bytes would have become 64 MB, or as many as the sender likes (TASK-061)."""
    assert len(_Bomb.body) < 1000
    registry = Registry(5.0, MB)
    reference = parse(f"oci://{bomb}/name:tag")
    with pytest.raises(ImageRefused, match="gzip"):
        registry.resolve(reference)
    with pytest.raises(ImageRefused, match="gzip"):
        registry.pull(reference, Layer("0" * 64, 100), tmp_path / "layer")


class _Answer:
    """An answer whose every byte takes a minute."""

    now = 0.0

    def iter_raw(self) -> Iterator[bytes]:
        """Yield bytes for ever."""
        while True:
            self.now += 60
            yield b"x"


def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """No read is late, and yet it would never end (TASK-061)."""
    answer = _Answer()
    monkeypatch.setattr(oci.time, "monotonic", lambda: answer.now)
    with pytest.raises(ImageUnavailable, match="slower than"):
        list(Registry(30.0, MB)._pieces(answer, "url", MB))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a/../b", "a//b", "a/.b", "../a", "a/", "a..b", "a___b"])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    """A repository is named as OCI defines it (TASK-061)."""
    with pytest.raises(ImageRefused, match="no image reference"):
        parse(f"oci://host/{name}:tag")


@pytest.mark.parametrize("name", ["a", "a/b-c/d.e_f__g", "library/a--b"])
def test_proper_names_are_read(name: str) -> None:
    """None that registries take is refused (TASK-061)."""
    assert parse(f"oci://host/{name}").name == name


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"layers":[{"mediaType":"application/wasm","digest":"sha256:' + b"0" * 64,
        json.dumps({"layers": [{"mediaType": [], "digest": 1, "size": True}]}).encode(),
        json.dumps({"layers": {"mediaType": "application/wasm"}}).encode(),
        json.dumps({"layers": "application/wasm"}).encode(),
        b"\xff\xfe{\0",
        b'{"layers":[{"mediaType":"application/wasm","digest":"sha256:' + b"0" * 64
        + b'","size":1e999}]}',
    ],
)  # fmt: skip
def test_a_hostile_manifest_is_refused(body: bytes) -> None:
    """Nested, cut short, of other types, with numbers that are none (TASK-061)."""
    with pytest.raises(ImageRefused):
        Registry(1.0, MB)._layer(body, "url")
