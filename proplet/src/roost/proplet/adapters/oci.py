"""Pulling an image from an OCI registry: plain HTTP, every byte checked by digest and size.

A registry stores a Wasm program as a manifest with one layer; see the OCI distribution
specification 1.1, "pull". Nothing here keeps a file that does not have its digest.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from roost.chassis.transfer import SLOWEST_BYTES_S
from roost.proplet.errors import ImageRefused, ImageUnavailable

if TYPE_CHECKING:
    import httpx

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
WASM_TYPES: Final = ("application/wasm", "application/vnd.wasm.content.layer.v1+wasm")
MAX_MANIFEST_BYTES: Final = 1_048_576
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_REFERENCE: Final = re.compile(
    r"oci://(?P<host>(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?)"
    r"/(?P<name>[a-z0-9]+(?:(?:\.|/|_{1,2}|-+)[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@sha256:(?P<digest>[0-9a-f]{64}))?"
)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_NO_TIME: Final = "the task's time is over before the image is here: allow it more time"


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image lies in which registry.

    Attributes:
        host: Host, and port if it names one.
        name: Repository.
        tag: Tag; ``latest`` where the reference names neither tag nor digest.
        digest: SHA-256 of the manifest if the reference is pinned.
    """

    host: str
    name: str
    tag: str | None
    digest: str | None

    @property
    def wanted(self) -> str:
        """What is asked for below ``manifests/``: the digest if there is one."""
        return f"sha256:{self.digest}" if self.digest else (self.tag or "latest")


@dataclass(frozen=True, slots=True)
class Layer:
    """The program's own bytes."""

    sha256: str
    size: int


def parse(reference: str) -> Reference:
    """Read ``oci://host/name[:tag][@sha256:…]``.

    Raises:
        ImageRefused: it is not of that form.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise ImageRefused(
            f"'{reference}' is no image reference: write oci://host/name:tag or "
            "oci://host/name@sha256:<64 hexadecimal digits>"
        )
    return Reference(found["host"], found["name"], found["tag"], found["digest"])


@dataclass(frozen=True, slots=True)
class Registry:
    """Pulls from registries.

    Attributes:
        timeout_s: For connecting, and between any two pieces of an answer.
        max_bytes: Larger images are refused.
        plain_hosts: Hosts that are spoken to without TLS, besides the loopback ones.
        until: When nobody waits for the image any more, on the monotonic clock.
    """

    timeout_s: float
    max_bytes: int
    plain_hosts: frozenset[str] = frozenset()
    until: float = inf

    def within(self, left_s: float) -> "Registry":
        """Return the same for a pull that may take no longer than this from now on."""
        return replace(self, until=time.monotonic() + left_s)

    def resolve(self, reference: Reference) -> Layer:
        """Ask the registry which layer a reference stands for.

        Raises:
            ImageUnavailable: the registry does not answer, or has no such image.
            ImageRefused: what it has is no Wasm image, or lacks its digest.
        """
        url = f"{self._base(reference)}/manifests/{reference.wanted}"
        body = bytearray()
        with self._get(url, reference, {"Accept": MANIFEST_TYPE}) as answer:
            for chunk in self._pieces(answer, url, MAX_MANIFEST_BYTES):
                body += chunk
                if len(body) > MAX_MANIFEST_BYTES:
                    raise ImageRefused(f"{url}: the manifest is larger than a manifest")
        actual = hashlib.sha256(body).hexdigest()
        if reference.digest not in (None, actual):
            raise ImageRefused(
                f"{url}: the registry sent a manifest with the digest sha256:{actual}"
            )
        return self._layer(bytes(body), url)

    def pull(self, reference: Reference, layer: Layer, into: Path) -> None:
        """Write a layer to a file, once its digest is checked.

        Raises:
            ImageUnavailable: the registry does not answer, or has no such layer.
            ImageRefused: its bytes do not have the digest and size of the manifest.
        """
        url = f"{self._base(reference)}/blobs/sha256:{layer.sha256}"
        sha, size = hashlib.sha256(), 0
        with into.open("wb") as file, self._get(url, reference, {}) as answer:
            for chunk in self._pieces(answer, url, layer.size):
                size += len(chunk)
                if size > layer.size:
                    break
                sha.update(chunk)
                file.write(chunk)
        if size != layer.size or sha.hexdigest() != layer.sha256:
            raise ImageRefused(
                f"{url}: the bytes do not have their digest and size; push the image again"
            )

    def _pieces(self, answer: "httpx.Response", url: str, size: int) -> Iterator[bytes]:
        """Yield an answer's bytes as they were sent, unless that takes for ever."""
        end = time.monotonic() + self.timeout_s + size / SLOWEST_BYTES_S
        for piece in answer.iter_raw():
            if time.monotonic() > self.until:
                raise ImageUnavailable(f"{url}: {_NO_TIME}")
            if time.monotonic() > end:
                raise ImageUnavailable(f"{url}: slower than {SLOWEST_BYTES_S} bytes a second")
            yield piece

    def _base(self, reference: Reference) -> str:
        host = reference.host
        bare = re.sub(r":[0-9]+$", "", host)
        plain = bare in LOOPBACK or host in self.plain_hosts or bare in self.plain_hosts
        return f"{'http' if plain else 'https'}://{host}/v2/{reference.name}"

    @contextmanager
    def _get(
        self, url: str, reference: Reference, headers: dict[str, str]
    ) -> Iterator["httpx.Response"]:
        import httpx  # noqa: PLC0415 - 15 MB that an idle proplet does not need

        patience_s = min(self.timeout_s, self.until - time.monotonic())
        if patience_s <= 0:
            raise ImageUnavailable(f"{url}: {_NO_TIME}")
        headers = {"Accept-Encoding": "identity", **headers}
        try:
            with (
                httpx.Client(timeout=patience_s, follow_redirects=True) as client,
                client.stream("GET", url, headers=headers) as answer,
            ):
                _check_status(answer.status_code, url, reference)
                _check_plain(answer.headers.get("Content-Encoding"), url)
                yield answer
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = str(error) or type(error).__name__
            raise ImageUnavailable(
                f"{url}: {problem}; is the registry {reference.host} up and reachable from here?"
            ) from error

    def _layer(self, body: bytes, url: str) -> Layer:
        try:
            manifest = json.loads(body)
            layers = [layer for layer in manifest["layers"] if layer["mediaType"] in WASM_TYPES]
            if len(layers) != 1:
                raise ImageRefused(
                    f"{url}: a Wasm image has one layer of type {WASM_TYPES[0]}, "
                    f"this one has {_types(manifest)}"
                )
            digest, size = layers[0]["digest"], layers[0]["size"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ImageRefused(f"{url}: this is no image manifest ({error!r})") from None
        if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
            raise ImageRefused(f"{url}: the layer's digest is no SHA-256: {digest!r:.100}")
        if type(size) is not int or not 0 <= size <= self.max_bytes:
            raise ImageRefused(
                f"{url}: the layer has {size!r:.30} bytes, this proplet takes {self.max_bytes}"
            )
        return Layer(digest.removeprefix("sha256:"), size)


def _types(manifest: dict[str, Any]) -> str:
    return ", ".join(str(layer["mediaType"]) for layer in manifest["layers"]) or "none"


def _check_plain(encoding: str | None, url: str) -> None:
    """Refuse compressed bytes, which nobody asked for: a few could become gigabytes."""
    if encoding not in (None, "", "identity"):
        raise ImageRefused(f"{url}: the registry sent it as {encoding!r:.40}, unasked")


def _check_status(status: int, url: str, reference: Reference) -> None:
    match status:
        case 200:
            return
        case 401 | 403:
            raise ImageUnavailable(
                f"{url}: the registry wants a login ({status}); this proplet pulls without one"
            )
        case 404:
            raise ImageUnavailable(
                f"{url}: no such image on {reference.host}; push it, or check name and tag"
            )
        case _:
            raise ImageUnavailable(f"{url}: the registry answered {status}")
