"""Pulling from a real registry: Debian's docker-registry, where it is installed."""

import hashlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from roost.proplet.adapters.images import ImageStore
from roost.proplet.adapters.oci import MANIFEST_TYPE, Registry
from roost.proplet.errors import ImageUnavailable

from .fakes import FakeTransport
from .registry import digest

pytestmark = pytest.mark.system
WASM = b"\0asm\x01\0\0\0" + b"real" * 100_000
CONFIG = """\
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {folder}/blobs}}
http: {{addr: "{host}"}}
"""
WAIT_S = 20.0


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    """Start a registry on a free port and return where it listens."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip(
            "SKIPPED LOUDLY: docker-registry is not installed (apt install docker-registry)"
        )
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    config = tmp_path / "registry.yml"
    config.write_text(CONFIG.format(folder=tmp_path, host=address))
    process = subprocess.Popen([program, "serve", config], stderr=subprocess.DEVNULL)
    try:
        _await(address, process)
        yield address
    finally:
        process.kill()
        process.wait(WAIT_S)


def _await(address: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            httpx.get(f"http://{address}/v2/").raise_for_status()
        except httpx.HTTPError:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.05)
        else:
            return
    raise AssertionError("docker-registry does not listen")


def push(host: str, name: str, tag: str, wasm: bytes) -> str:
    """Push an image and return its manifest's digest."""
    config = b'{"architecture":"wasm","os":"wasip1"}'
    with httpx.Client(base_url=f"http://{host}/v2/{name}") as client:
        for body in (config, wasm):
            begun = client.post("/blobs/uploads/")
            place = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest(body)})
            assert client.put(place, content=body).status_code == httpx.codes.CREATED
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": {
                    "mediaType": "application/vnd.wasm.config.v0+json",
                    "digest": digest(config),
                    "size": len(config),
                },
                "layers": [
                    {"mediaType": "application/wasm", "digest": digest(wasm), "size": len(wasm)}
                ],
            }
        ).encode()
        answer = client.put(
            f"/manifests/{tag}", content=manifest, headers={"Content-Type": MANIFEST_TYPE}
        )
        assert answer.status_code == httpx.codes.CREATED
    return hashlib.sha256(manifest).hexdigest()


def test_an_image_of_a_real_registry(host: str, tmp_path: Path) -> None:
    """By tag, by digest, and what is not there (GUEST-002)."""
    pin = push(host, "demo/app", "v1", WASM)
    limit = 10**7
    store = ImageStore(tmp_path / "images", FakeTransport(), Registry(WAIT_S, limit), WAIT_S, limit)
    for reference in (f"oci://{host}/demo/app:v1", f"oci://{host}/demo/app@sha256:{pin}"):
        image = store.fetch(reference)
        assert image.path.read_bytes() == WASM
        assert image.sha256 == hashlib.sha256(WASM).hexdigest()
    for missing in (f"oci://{host}/demo/app:v2", f"oci://{host}/demo/other:v1"):
        with pytest.raises(ImageUnavailable, match="no such image"):
            store.fetch(missing)
