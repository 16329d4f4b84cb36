"""Images on disk, addressed by digest, whatever reference they came by."""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Final

from roost.chassis.errors import ChassisError, FetchTimeout
from roost.proplet.adapters.oci import Reference, Registry, parse
from roost.proplet.errors import ImageRefused, ImageUnavailable
from roost.proplet.guest.folders import sweep
from roost.proplet.ports import Transport
from roost.wire.refusal import Refused

SUFFIX: Final = ".wasm"
_PINNED: Final = ".layer"
_FETCHING: Final = "fetch-"
_MAX_PINS: Final = 1000
_LOCKS: Final = 16
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Image:
    """A program on this device's disk.

    Attributes:
        path: The file.
        sha256: Its digest, verified.
    """

    path: Path
    sha256: str


@dataclass(frozen=True)
class ImageStore:
    """Fetches images once and keeps them, the most recently used ones first.

    Attributes:
        folder: Where they lie; other proplets of the same user may share it.
        transport: Brings blobs.
        registry: Brings what lies in OCI registries.
        timeout_s: How long to wait for any one piece of a blob.
        max_bytes: Above it the images that were used longest ago go.
        file_folders: Folders whose files the operator allows as ``file:`` images.
    """

    folder: Path
    transport: Transport
    registry: Registry
    timeout_s: float
    max_bytes: int
    file_folders: tuple[Path, ...] = ()
    _verified: set[str] = field(default_factory=set)
    _locks: tuple[threading.Lock, ...] = field(
        default_factory=lambda: tuple(threading.Lock() for _ in range(_LOCKS))
    )

    def fetch(self, reference: str, left_s: float = inf) -> Image:
        """Return the image of a reference, fetching what is not here yet.

        Args:
            reference: What a task names.
            left_s: A pull takes no longer, nor does the wait for a piece of a blob, however long
                ``timeout_s`` is.

        Raises:
            ImageUnavailable: it could not be had.
            ImageRefused: it was had, and is not what it says it is or must not be used.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._one_at_a_time(reference):
            if reference.startswith("blob:"):
                return self._blob(reference, min(self.timeout_s, left_s))
            if reference.startswith("file:"):
                return self._file(reference)
            return self._oci(parse(reference), self.registry.within(left_s))

    def sweep(self, *, shared: bool) -> None:
        """Remove what fetches left that were killed; a shared folder's only after an hour."""
        sweep(self.folder, _FETCHING, shared=shared)

    def _blob(self, reference: str, timeout_s: float) -> Image:
        owner, _, sha256 = reference.removeprefix("blob:").partition("/")
        if _SHA256.fullmatch(sha256) is None:  # it becomes the name of a file
            raise ImageRefused(f"'{reference}' is no blob: write blob:owner/sha256")
        here = self._here(sha256)
        if here is not None:
            return here
        with self._temporary() as path:
            try:
                self.transport.fetch_blob(owner, sha256, path, timeout_s, self.max_bytes)
            except FetchTimeout as error:
                raise ImageUnavailable(
                    f"{reference} is not at the broker: compare its digest, or offer the image "
                    f"again with `roost image push` ({error})"
                ) from error
            except (ChassisError, Refused, ValueError) as error:
                raise ImageUnavailable(f"{reference}: {error}") from error
            return self._keep(path, sha256)

    def _file(self, reference: str) -> Image:
        name = reference.removeprefix("file:")
        path = Path(name.removeprefix("//")).resolve()
        allowed = [folder.resolve() for folder in self.file_folders]
        if not any(path.is_relative_to(folder) for folder in allowed):
            named = ", ".join(map(str, allowed)) or "no folder"
            raise ImageRefused(
                f"{reference}: this proplet allows files of {named} (ROOST_FILE_IMAGES)"
            )
        with self._temporary() as copy:
            try:
                shutil.copyfile(path, copy)
            except OSError as error:
                raise ImageUnavailable(f"{reference}: {error.strerror}") from error
            return self._keep(copy, _sha256(copy))

    def _oci(self, reference: Reference, registry: Registry) -> Image:
        pin = self.folder / f"{reference.digest}{_PINNED}"
        if reference.digest is not None and pin.exists():
            here = self._here(pin.read_text(encoding="ascii"))
            if here is not None:
                return here
        layer = registry.resolve(reference)
        image = self._here(layer.sha256)
        if image is None:
            with self._temporary() as path:
                registry.pull(reference, layer, path)
                image = self._keep(path, layer.sha256)
        if reference.digest is not None:
            pin.write_text(layer.sha256, encoding="ascii")
        return image

    def _here(self, sha256: str) -> Image | None:
        """Return an image that is on disk; its digest is checked once per process."""
        path = self.folder / f"{sha256}{SUFFIX}"
        try:
            if sha256 not in self._verified and _sha256(path) != sha256:
                path.unlink()
                return None
            os.utime(path)
        except FileNotFoundError:
            return None
        self._verified.add(sha256)
        return Image(path, sha256)

    def _keep(self, temporary: Path, sha256: str) -> Image:
        size = temporary.stat().st_size
        if size > self.max_bytes:
            raise ImageRefused(
                f"the image has {size} bytes, this proplet keeps {self.max_bytes} "
                "(ROOST_IMAGES_MAX_MB)"
            )
        path = self.folder / f"{sha256}{SUFFIX}"
        temporary.replace(path)
        self._verified.add(sha256)
        self._shrink(path)
        return Image(path, sha256)

    def _shrink(self, keep: Path) -> None:
        found = [(path, path.stat()) for path in self.folder.glob(f"*{SUFFIX}")]
        size = sum(status.st_size for _, status in found)
        for path, status in sorted(found, key=lambda item: item[1].st_mtime_ns):
            if size > self.max_bytes and path != keep:
                path.unlink(missing_ok=True)
                size -= status.st_size
        for pin in list(self.folder.glob(f"*{_PINNED}"))[_MAX_PINS:]:
            pin.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(prefix=_FETCHING, dir=self.folder))
        try:
            yield folder / "image"
        finally:
            shutil.rmtree(folder)

    def _one_at_a_time(self, reference: str) -> threading.Lock:
        """Let others that want the same image wait for it instead of fetching it again."""
        return self._locks[hash(reference) % _LOCKS]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
