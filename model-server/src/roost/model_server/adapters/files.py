"""Model files on disk: whole or absent, in place only after they are durable."""

import hashlib
import mmap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from roost.chassis.files import sync
from roost.model_server.core.state import Submitted, Version
from roost.protocol.round.label import ModelLabel, read_label
from roost.protocol.round.model import ModelForm, digest, is_json, parse_model
from roost.protocol.round.refusals import BAD_MODEL
from roost.protocol.round.tensorfile import Buffer, check_file, digest_file
from roost.wire.refusal import Refused

_SUFFIXES: Final = {ModelForm.JSON.value: "json", ModelForm.SAFETENSORS.value: "safetensors"}


@contextmanager
def _mapped(path: Path) -> Iterator[Buffer]:
    if path.stat().st_size == 0:
        raise Refused(BAD_MODEL, "an empty payload")
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        memoryview(content) as view,
    ):
        yield view


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

    def temporary(self) -> Path:
        """Return a new path in the incoming folder."""
        return self._incoming / self._nonce()

    def take_in(self, payload: bytes, at: float) -> Submitted:
        """Keep a publish request's file and read what the core judges.

        Raises:
            Refused: it is no usable model.
        """
        path = self.temporary()
        with path.open("wb") as file:
            file.write(payload)
        return self.read(path, at)

    def read(self, path: Path, at: float) -> Submitted:
        """Read an incoming file and make it durable; it is deleted when it cannot be used.

        Raises:
            Refused: it is no usable model.
        """
        try:
            with _mapped(path) as content:
                form, label, found = _examine(content)
                sha256 = hashlib.sha256(content).hexdigest()
                size = len(content)
            sync(path)
        except Refused:
            path.unlink()
            raise
        return Submitted(at, path.name, label, found, sha256, size, form.value)

    def release(self, version: Version) -> None:
        """Give an incoming file its final name, unless that was done before."""
        incoming = self._incoming / version.file
        if incoming.is_file():
            incoming.replace(self.path(version))
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
    if is_json(content):
        model = parse_model(content)
        return model.form, read_label(model.form, model.metadata), digest(model.tensors)
    layout = check_file(content)
    form = ModelForm.SAFETENSORS
    return form, read_label(form, layout.metadata), digest_file(content, layout)
