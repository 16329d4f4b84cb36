"""Images: what is accepted, and how one gets into a registry."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from roost.cli.errors import UsageProblem
from roost.cli.oci_push import base_url, parse_target
from roost.cli.ports import free_port, wait_open
from roost.proplet.adapters.oci import parse

from .conftest import Answer

WASM = b"\0asm\x01\0\0\0" + b"program" * 1000


def digest(body: bytes) -> str:
    """As registries write it."""
    return "sha256:" + hashlib.sha256(body).hexdigest()


@dataclass
class Store:
    """A registry's memory."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


def handler(store: Store) -> type[BaseHTTPRequestHandler]:
    """A registry that takes pushes, strict about digests and order."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, **headers: str) -> None:
            store.asked.append(f"{self.command} {status}")
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.answer(200 if self.path.rpartition("/")[2] in store.blobs else 404)

        def do_POST(self) -> None:
            self.answer(202, Location="/v2/some/where/blobs/uploads/1?state=a%2Fb")

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path, _, query = self.path.partition("?")
            if "/manifests/" in path:
                layers = json.loads(body)["layers"]
                known = all(layer["digest"] in store.blobs for layer in layers)
                store.manifests[path.rpartition("/")[2]] = body
                self.answer(201 if known else 400)
            elif query == f"state=a%2Fb&digest={digest(body).replace(':', '%3A')}":
                store.blobs[digest(body)] = body
                self.answer(201)
            else:
                self.answer(400)

        def log_message(self, *_: object) -> None:
            """Tests are silent."""

    return Handler


@pytest.fixture
def registry() -> Iterator[tuple[str, Store]]:
    """A registry in this process: its host, and what it got."""
    store = Store()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(store))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}", store
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A Wasm file."""
    file = tmp_path / "app.wasm"
    file.write_bytes(WASM)
    return file


def test_an_image_is_pushed_blobs_first(
    registry: tuple[str, Store], roost: Callable[..., Answer], app: Path
) -> None:
    """The reference that is printed names the manifest by its digest."""
    host, store = registry
    answer = roost("image", "push", app, f"oci://{host}/tools/counter:v1")
    assert answer.code == 0, answer
    manifest = store.manifests["v1"]
    assert answer.out.strip() == f"oci://{host}/tools/counter@{digest(manifest)}"
    assert parse(answer.out.strip()).digest == digest(manifest).removeprefix("sha256:")
    content = json.loads(manifest)
    assert content["config"]["mediaType"] == "application/vnd.wasm.config.v0+json"
    assert store.blobs[content["layers"][0]["digest"]] == WASM
    config = json.loads(store.blobs[content["config"]["digest"]])
    assert config["layerDigests"] == [digest(WASM)]


def test_pushing_again_uploads_nothing_and_names_the_same(
    registry: tuple[str, Store], roost: Callable[..., Answer], app: Path
) -> None:
    """The same file is the same image."""
    host, store = registry
    first = roost("image", "push", app, f"oci://{host}/counter")
    store.asked.clear()
    assert roost("image", "push", app, f"oci://{host}/counter").out == first.out
    assert store.asked == ["HEAD 200", "HEAD 200", "PUT 201"]
    assert list(store.manifests) == ["latest"]


def test_a_registry_that_refuses_is_a_failure_with_its_words(
    registry: tuple[str, Store], roost: Callable[..., Answer], app: Path
) -> None:
    """Exit code 1; one that is not there as well."""
    host, store = registry
    store.blobs = Forgetful()
    refused = roost("image", "push", app, f"oci://{host}/counter:v1")
    assert refused.code == 1
    assert "answered 400 to PUT /v2/counter/manifests/v1" in refused.err
    gone = roost("image", "push", app, f"oci://127.0.0.1:{free_port()}/counter")
    assert gone.code == 1


class Forgetful(dict[str, bytes]):
    """Keeps nothing."""

    def __setitem__(self, key: str, value: bytes) -> None:
        """Drop it."""


@pytest.mark.parametrize("target", ["h/n", "oci://h", "oci://H/UPPER", "oci://h/n:", "oci://h/n@x"])
def test_a_target_that_is_none_is_refused(target: str) -> None:
    """With the form that is wanted."""
    with pytest.raises(UsageProblem, match="oci://host/name"):
        parse_target(target)


def test_a_target_has_no_digest() -> None:
    """It follows from the content."""
    with pytest.raises(UsageProblem, match="push to a tag"):
        parse_target("oci://h/n@sha256:" + "0" * 64)


def test_only_registries_on_this_machine_are_spoken_to_without_tls() -> None:
    """Unless that was asked for."""
    assert base_url(parse_target("oci://127.0.0.1:5000/a/b")) == "http://127.0.0.1:5000/v2/a/b"
    assert base_url(parse_target("oci://localhost/a")) == "http://localhost/v2/a"
    far = parse_target("oci://registry.example:5000/a")
    assert base_url(far) == "https://registry.example:5000/v2/a"
    assert base_url(far, plain_http=True) == "http://registry.example:5000/v2/a"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\0asm\x0d\0\x01\0rest", "is a Wasm component"),
        (b"(module)", "is no Wasm module"),
        (b"", "is no Wasm module"),
    ],
)
def test_what_cannot_be_a_guest_is_not_offered(
    roost: Callable[..., Answer], tmp_path: Path, content: bytes, said: str
) -> None:
    """Before any broker or registry is asked."""
    (tmp_path / "x.wasm").write_bytes(content)
    answer = roost("image", "push", "x.wasm")
    assert answer.code == 2
    assert said in answer.err


@pytest.mark.system
def test_a_real_registry_takes_it(roost: Callable[..., Answer], app: Path, tmp_path: Path) -> None:
    """Debian's docker-registry; what comes back has the digest of the file."""
    import httpx  # noqa: PLC0415 - for this test alone

    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed: pushing is tested against a stand-in only")
    port = free_port()
    config = tmp_path / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: "
        f"{tmp_path}/blobs}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with subprocess.Popen([program, "serve", config], stderr=subprocess.DEVNULL) as server:
        assert wait_open("127.0.0.1", port, 20)
        answer = roost("image", "push", app, f"oci://127.0.0.1:{port}/a/b:v1")
        assert answer.code == 0, answer
        layer = httpx.get(f"http://127.0.0.1:{port}/v2/a/b/blobs/{digest(WASM)}")
        server.kill()
    assert layer.content == WASM
