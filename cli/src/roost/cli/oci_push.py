"""Pushing a Wasm file to an OCI registry (OCI Distribution Specification 1.1, "Push").

The image is what wasm tools agree on: a small config of type
`application/vnd.wasm.config.v0+json` and one layer of type `application/wasm`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import urljoin

import httpx
from roost.cli.errors import CliError, UsageProblem
from roost.proplet.adapters.oci import LOOPBACK, MANIFEST_TYPE, Reference, parse
from roost.proplet.errors import ImageRefused

__all__ = ["base_url", "parse_target", "push_oci"]

_CONFIG_TYPE = "application/vnd.wasm.config.v0+json"
_LAYER_TYPE = "application/wasm"


def base_url(where: Reference, *, plain_http: bool = False) -> str:
    """URL of a repository; registries on this machine are spoken to in plain HTTP."""
    host = where.host.rpartition(":")[0] if not where.host.endswith("]") else where.host
    plain = plain_http or (host or where.host) in LOOPBACK
    return f"{'http' if plain else 'https'}://{where.host}/v2/{where.name}"


def parse_target(text: str) -> Reference:
    """`oci://HOST/NAME[:TAG]` in its parts.

    Raises:
        UsageProblem: it is not of that form.
    """
    try:
        where = parse(text)
    except ImageRefused as problem:
        raise UsageProblem(str(problem)) from problem
    if where.digest is not None:
        raise UsageProblem(f"{text!r}: push to a tag; the digest follows from the content")
    return where


def push_oci(app: Path, target: str, timeout_s: float, *, plain_http: bool = False) -> str:
    """Push a file and return its reference by digest.

    Raises:
        UsageProblem: the target makes no sense.
        CliError: the registry cannot be reached or refuses it.
    """
    where = parse_target(target)
    base = base_url(where, plain_http=plain_http)
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
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(_CONFIG_TYPE, config),
            "layers": [_descriptor(_LAYER_TYPE, layer)],
        }
    ).encode()
    try:
        with httpx.Client(timeout=timeout_s) as client:
            for blob in (config, layer):
                _push_blob(client, base, blob)
            headers = {"Content-Type": MANIFEST_TYPE}
            address = f"{base}/manifests/{where.wanted}"
            _expect(client.put(address, content=manifest, headers=headers), 201)
    except httpx.HTTPError as problem:
        raise CliError(f"registry {where.host}: {problem}") from problem
    return f"oci://{where.host}/{where.name}@{_digest(manifest)}"


def _push_blob(client: httpx.Client, base: str, blob: bytes) -> None:
    if client.head(f"{base}/blobs/{_digest(blob)}").status_code == httpx.codes.OK:
        return
    opened = _expect(client.post(f"{base}/blobs/uploads/"), 202)
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
