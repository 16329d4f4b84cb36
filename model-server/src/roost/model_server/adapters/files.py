"""Model files on disk: whole or absent, in place only after they are durable."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from roost.chassis.blobs import file_sha256
from roost.chassis.files import mapped, sync
from roost.model_server.core.state import Submitted, Version
from roost.protocol.round.label import ModelLabel, read_label
from roost.protocol.round.model import ModelForm, digest, is_json, parse_model
from roost.protocol.round.refusals import BAD_MODEL
from roost.protocol.round.tensorfile import Buffer, check_file, digest_file
from roost.wire.refusal import Refused

_SUFFIXES: Final = {ModelForm.JSON.value: "json", ModelForm.SAFETENSORS.value: "safetensors"}


class FileDamaged(Exception):  # noqa: N818 - names an outcome
    """A version's file is missing, or its bytes are not those that were stored."""


class Files:
    """The model server's folder."""

    def __init__(self, folder: Path, nonce: Callable[[], str]) -> None:
        """Use a folder; it is created.

        Args:
            folder: Holds ``models`` and ``incoming``.
            nonce: Returns a text that no earlier arrival had.
        """
        self._models, self._incoming = folder / "models", folder / "incoming"
        self._models.mkdir(parents=True, exist_ok=True)
        self._incoming.mkdir(exist_ok=True)
        self._nonce = nonce
        self._whole: set[str] = set()

    def temporary(self) -> Path:
        """Return a new path in the incoming folder."""
        return self._incoming / self._nonce()

    def take_in(self, payload: bytes, at: float) -> Submitted:
        """Keep a publish request's file and read what the core judges.

        Raises:
            Refused: it is no usable model.
        """
        path = self.temporary()
        try:
            with path.open("wb") as file:
                file.write(payload)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return self.read(path, at)

    def read(self, path: Path, at: float) -> Submitted:
        """Read an incoming file and make it durable; it is deleted when it cannot be used.

        Raises:
            Refused: it is no usable model.
        """
        try:
            with mapped(path) as content:
                form, label, found = _examine(content)
                sha256 = hashlib.sha256(content).hexdigest()
                size = len(content)
            os.utime(path, (at, at))  # by which it is tidied; the disk's clock may jump
            sync(path)
            # Its name, too: the store will soon rely on it.
            sync(self._incoming)
        except (Refused, OSError):
            path.unlink()
            raise
        return Submitted(at, path.name, label, found, sha256, size, form.value)

    def release(self, version: Version) -> None:
        """Give an incoming file its final name, unless that was done before."""
        incoming = self._incoming / version.file
        if incoming.is_file():
            incoming.replace(self.path(version))
            sync(self._models)

    def check(self, version: Version) -> None:
        """Make sure that a version's file is whole; it is read once in a process.

        Raises:
            FileDamaged: it is not.
        """
        path = self.path(version)
        if version.id in self._whole:
            return
        found = file_sha256(path) if path.is_file() else None
        if found != version.sha256:
            what = "is missing" if found is None else f"has the digest {found}"
            raise FileDamaged(f"{path} {what}, {version.sha256} was stored")
        self._whole.add(version.id)

    def restore(self, version: Version, copy: Path) -> None:
        """Put a copy in the place of a damaged file; it is deleted if it is no better.

        Raises:
            FileDamaged: it is not.
        """
        if file_sha256(copy) != version.sha256:
            copy.unlink()
            raise FileDamaged(f"{self.path(version)} is damaged, and so is the copy")
        sync(copy)
        copy.replace(self.path(version))
        sync(self._models)

    def path(self, version: Version) -> Path:
        """Return where a version lies."""
        return self._models / f"{version.name}_v{version.version}.{_SUFFIXES[version.form]}"

    def drop(self, file: str) -> None:
        """Delete an incoming file."""
        (self._incoming / file).unlink(missing_ok=True)

    def tidy(self, keep: Iterable[str], before: float) -> None:
        """Delete incoming files that an earlier process left, but these."""
        kept = set(keep)
        for path in self._incoming.iterdir():
            if path.name not in kept and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)


def _examine(content: Buffer) -> tuple[ModelForm, ModelLabel, str]:
    if not len(content):
        raise Refused(BAD_MODEL, "an empty payload")
    if is_json(content):
        model = parse_model(content)
        return model.form, read_label(model.form, model.metadata), digest(model.tensors)
    layout = check_file(content)
    form = ModelForm.SAFETENSORS
    return form, read_label(form, layout.metadata), digest_file(content, layout)
