"""Pushing a Wasm file to an OCI registry (OCI Distribution Specification 1.1, "Push").

The image is what wasm tools agree on: a small config of type
`application/vnd.wasm.config.v0+json` and one layer of type `application/wasm`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
from roost.cli.errors import CliError, UsageProblem

__all__ = ["OciTarget", "parse_target", "push_oci"]

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.wasm.config.v0+json"
_LAYER_TYPE = "application/wasm"
_TARGET = re.compile(
    r"oci://(?P<host>[A-Za-z0-9.-]+(?::\d+)?)/(?P<name>[a-z0-9]+(?:[._/-][a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
)
#: Registries on this machine are spoken to in plain HTTP, as container tools do.
_PLAIN_HOSTS = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class OciTarget:
    """Where an image goes.

    Attributes:
        host: with its port, if any.
        name: the repository.
        tag: the tag, `latest` where none was named.
    """

    host: str
    name: str
    tag: str

    @property
    def base(self) -> str:
        """URL of the repository."""
        plain = self.host.rpartition(":")[0] or self.host
        scheme = "http" if plain in _PLAIN_HOSTS else "https"
        return f"{scheme}://{self.host}/v2/{self.name}"


def parse_target(text: str) -> OciTarget:
    """`oci://HOST/NAME[:TAG]` in its parts.

    Raises:
        UsageProblem: it is not of that form.
    """
    found = _TARGET.fullmatch(text)
    if found is None:
        raise UsageProblem(f"{text!r} is not oci://HOST[:PORT]/NAME[:TAG]")
    return OciTarget(found["host"], found["name"], found["tag"] or "latest")


def push_oci(app: Path, target: str, timeout_s: float) -> str:
    """Push a file and return its reference by digest.

    Raises:
        UsageProblem: the target makes no sense.
        CliError: the registry cannot be reached or refuses it.
    """
    where = parse_target(target)
    layer = app.read_bytes()
    config = json.dumps(
        {
            "created": "1970-01-01T00:00:00Z",  # the same file makes the same image
            "architecture": "wasm",
            "os": "wasip1",
            "layerDigests": [_digest(layer)],
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": _descriptor(_CONFIG_TYPE, config),
            "layers": [_descriptor(_LAYER_TYPE, layer)],
        }
    ).encode()
    try:
        with httpx.Client(timeout=timeout_s) as client:
            for blob in (config, layer):
                _push_blob(client, where, blob)
            headers = {"Content-Type": _MANIFEST_TYPE}
            address = f"{where.base}/manifests/{where.tag}"
            _expect(client.put(address, content=manifest, headers=headers), 201)
    except httpx.HTTPError as problem:
        raise CliError(f"registry {where.host}: {problem}") from problem
    return f"oci://{where.host}/{where.name}@{_digest(manifest)}"


def _push_blob(client: httpx.Client, where: OciTarget, blob: bytes) -> None:
    if client.head(f"{where.base}/blobs/{_digest(blob)}").status_code == httpx.codes.OK:
        return
    opened = _expect(client.post(f"{where.base}/blobs/uploads/"), 202)
    location = httpx.URL(urljoin(str(opened.url), opened.headers["Location"]))
    address = location.copy_merge_params({"digest": _digest(blob)})
    headers = {"Content-Type": "application/octet-stream"}
    _expect(client.put(address, content=blob, headers=headers), 201)


def _expect(answer: httpx.Response, status: int) -> httpx.Response:
    if answer.status_code != status:
        raise CliError(
            f"registry {answer.url.host} answered {answer.status_code} to "
            f"{answer.request.method} {answer.url.path}: {answer.text[:200]}"
        )
    return answer


def _descriptor(kind: str, content: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
