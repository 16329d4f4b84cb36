"""Model files by digest: bases that were fetched, averages that were made, labels for sending."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roost.chassis.files import mapped, sync
from roost.coordinator.adapters.averaging import average
from roost.coordinator.adapters.spool import renew, summary, write_durably
from roost.protocol.round.label import ModelLabel, with_label, without_label
from roost.protocol.round.model import (
    Model,
    ModelForm,
    digest,
    encode_model,
    encode_safetensors,
    is_json,
    parse_model,
)
from roost.protocol.round.refusals import WRONG_DIGEST
from roost.protocol.round.tensorfile import (
    Layout,
    check_file,
    digest_file,
    dtypes_digest,
    make_header,
    read_layout,
    shapes_digest,
)
from roost.wire.refusal import Refused

_COPY_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Description:
    """What the core needs to know of a model file."""

    shapes: str
    dtypes: str
    summary: str

    @classmethod
    def of(cls, layout: Layout) -> "Description":
        """Describe the tensors of a file."""
        return cls(
            shapes_digest((entry.name, entry.shape) for entry in layout.entries),
            dtypes_digest((entry.name, entry.dtype) for entry in layout.entries),
            summary(layout),
        )


class Models:
    """The coordinator's folder of model files, each named by its model's digest."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """Use a folder; it is created, and what a killed process left half-done goes.

        Args:
            folder: The folder.
            clock: The service's clock, as in the core's events.
        """
        self._folder, self._clock = folder, clock
        self._outgoing, self._working = folder / "outgoing", folder / "working"
        self._outgoing.mkdir(parents=True, exist_ok=True)
        renew(self._working)

    def path(self, model_digest: str) -> Path:
        """Return where a model lies or would lie."""
        return self._folder / model_digest

    def incoming(self, for_id: str) -> Path:
        """Return where a model is fetched to before it is adopted."""
        return self._working / f"fetch.{for_id}"

    def has(self, model_digest: str) -> bool:
        """Tell whether a model is here, and keep it from being tidied away just now."""
        try:
            self._stamp(self.path(model_digest))
        except FileNotFoundError:
            return False
        return True

    def _stamp(self, path: Path) -> None:
        """Give a file the time by which it is tidied; the disk's clock may jump."""
        now = self._clock()
        os.utime(path, (now, now))

    def adopt(self, path: Path, model_digest: str) -> None:
        """Keep a fetched file under its digest.

        Raises:
            Refused: it is no model, or has another digest; the file is deleted.
        """
        try:
            _check_digest(path, model_digest)
        except Refused:
            path.unlink()
            raise
        self._stamp(path)
        path.replace(self.path(model_digest))

    def describe(self, model_digest: str) -> Description:
        """Say what updates of a model that is here must look like."""
        with mapped(self.path(model_digest)) as content:
            return Description.of(_layout(content))

    def average(
        self, base_digest: str, updates: Sequence[Path], weights: Sequence[int], name: str
    ) -> str:
        """Average updates into a model of the base's form and return its digest.

        Raises:
            Refused: not_finite.
        """
        with mapped(self.path(base_digest)) as content:
            form = ModelForm.JSON if is_json(content) else ModelForm.SAFETENSORS
            base = _layout(content)
            said = parse_model(content).metadata if form is ModelForm.JSON else base.metadata
        metadata = without_label(said)
        part = self._working / f"average.{name}"
        binary = form is ModelForm.SAFETENSORS
        target = Layout(base.entries, metadata if binary else {})
        try:
            made = average(updates, weights, target, part)
            if binary:
                self._stamp(part)
                part.replace(self.path(made))
                sync(self._folder)
            else:
                tensors = parse_model(part.read_bytes()).tensors
                text = encode_model(Model(form, tensors, metadata))
                write_durably(self.path(made), text, self._clock())
        finally:
            part.unlink(missing_ok=True)
        return made

    def labelled(self, model_digest: str, publish_id: str, label: ModelLabel) -> Path:
        """Write a model that is here with its label, ready to be sent."""
        into = self._outgoing / publish_id
        with mapped(self.path(model_digest)) as content:
            if is_json(content):
                model = parse_model(content)
                metadata = with_label(model.form, model.metadata, label)
                into.write_bytes(encode_model(Model(model.form, model.tensors, metadata)))
            else:
                _relabel(content, label, into)
        return into

    def outgoing(self, publish_id: str) -> Path:
        """Return where a labelled model lies until the index lists it."""
        return self._outgoing / publish_id

    def tidy(self, keep: Iterable[str], before: float) -> None:
        """Delete models but these, and what is newer than ``before``."""
        kept = set(keep)
        for path in self._folder.iterdir():
            if path.is_file() and path.name not in kept and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)


def _check_digest(path: Path, wanted: str) -> None:
    if path.stat().st_size == 0:
        raise Refused(WRONG_DIGEST, "the topic is empty")
    with mapped(path) as content:
        found = _digest(content)
    if found != wanted:
        raise Refused(WRONG_DIGEST, f"the topic holds {found}, the index says {wanted}")


def _layout(content: memoryview) -> Layout:
    """Return a model's layout; a JSON model's as if it were a file of float64."""
    if not is_json(content):
        return read_layout(content)
    return read_layout(encode_safetensors(parse_model(content).tensors, {}))


def _digest(content: memoryview) -> str:
    if is_json(content):
        return digest(parse_model(content).tensors)
    return digest_file(content, check_file(content))


def _relabel(content: memoryview, label: ModelLabel, into: Path) -> None:
    """Copy a safetensors file tensor by tensor below a header with the new label."""
    layout = read_layout(content)
    sources = {entry.name: entry for entry in layout.entries}
    metadata = with_label(ModelForm.SAFETENSORS, layout.metadata, label)
    header, target = make_header(
        ((entry.name, entry.dtype, entry.shape) for entry in layout.entries), metadata
    )
    with into.open("wb") as file:
        file.write(header)
        for entry in sorted(target.entries, key=lambda each: (each.start, each.stop)):
            source = sources[entry.name]
            for start in range(source.start, source.stop, _COPY_BYTES):
                file.write(content[start : min(start + _COPY_BYTES, source.stop)])
