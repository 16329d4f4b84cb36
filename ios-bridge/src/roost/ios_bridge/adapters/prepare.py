"""Carries out ``Prepare``: image and inputs, to where a phone can fetch them by digest."""

import base64
import binascii
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from roost.chassis.errors import ChassisError
from roost.ios_bridge.adapters.files import Shelf
from roost.ios_bridge.core.effects import Prepare
from roost.ios_bridge.core.events import Prepared, Unprepared
from roost.ios_bridge.core.states import Outcome
from roost.ios_bridge.errors import NotToBeHad
from roost.ios_bridge.ports import Transport
from roost.protocol.phone.messages import PhoneFile
from roost.protocol.task.messages import FailureReason, TaskInput
from roost.wire.refusal import Refused

_NAME: Final = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_NAME: Final = 128
_PART: Final = 0.8
"""Of the time that is left: a failure must still be heard."""


@dataclass(frozen=True, slots=True)
class Preparer:
    """Fetches what a task needs.

    Attributes:
        shelf: Where phones fetch it.
        transport: The broker.
        clock: Seconds, as in the events.
        timeout_s: How long to wait for any one piece.
        file_folders: Folders whose files the operator allows as ``file:`` images.
    """

    shelf: Shelf
    transport: Transport
    clock: Callable[[], float]
    timeout_s: float
    file_folders: tuple[Path, ...] = ()

    def prepare(self, effect: Prepare) -> Iterable[Any]:
        """Fetch image and inputs, or tell by name what could not be had."""
        who = (effect.device, effect.task_id, effect.attempt)
        try:
            image = self._image(effect)
            inputs = tuple(self._input(wanted, effect.until) for wanted in effect.spec.inputs)
        except NotToBeHad as error:
            return (Unprepared(self.clock(), *who, Outcome(error.reason, str(error))),)
        return (Prepared(self.clock(), *who, image, inputs),)

    def _patience_s(self, until: float) -> float:
        return min(self.timeout_s, max(0.0, until - self.clock()) * _PART)

    def _image(self, effect: Prepare) -> PhoneFile:
        scheme, _, rest = effect.spec.image.partition(":")
        name = _NAME.sub("_", rest.rpartition("/")[2]).lstrip("._-")[:_LONGEST_NAME] or "guest"
        if scheme == "blob":
            owner, _, sha256 = rest.partition("/")
            return self._blob_image(name, owner, sha256, self._patience_s(effect.until))
        if scheme == "file":
            return self._file_image(name, Path(rest.removeprefix("//")))
        raise NotToBeHad(
            FailureReason.IMAGE_UNAVAILABLE,
            f"{effect.spec.image}: the bridge takes blob: and file: images; "
            "`roost image push` offers a file as blob:",
        )

    def _blob_image(self, name: str, owner: str, sha256: str, patience_s: float) -> PhoneFile:
        here = self.shelf.find(sha256) if re.fullmatch("[0-9a-f]{64}", sha256) else None
        if here is not None:
            return PhoneFile(name=name, sha256=sha256, size=here.stat().st_size)
        with self.shelf.temporary() as path:
            try:
                self.transport.fetch_blob(owner, sha256, path, patience_s)
            except (ChassisError, Refused, ValueError) as error:
                reason = FailureReason.IMAGE_UNAVAILABLE
                raise NotToBeHad(reason, f"blob:{owner}/{sha256}: {error}") from error
            return self._shelved(name, path)

    def _file_image(self, name: str, place: Path) -> PhoneFile:
        allowed = [folder.resolve() for folder in self.file_folders]
        source = place.resolve()
        if not any(source.is_relative_to(folder) for folder in allowed):
            named = ", ".join(map(str, allowed)) or "no folder"
            text = f"file:{place}: the bridge allows files of {named} (ROOST_FILE_IMAGES)"
            raise NotToBeHad(FailureReason.IMAGE_REFUSED, text)
        with self.shelf.temporary() as path:
            try:
                shutil.copyfile(source, path)
            except OSError as error:
                text = f"file:{place}: {error.strerror}"
                raise NotToBeHad(FailureReason.IMAGE_UNAVAILABLE, text) from error
            return self._shelved(name, path)

    def _input(self, wanted: TaskInput, until: float) -> PhoneFile:
        with self.shelf.temporary() as path:
            try:
                self._fetch(wanted, path, self._patience_s(until))
            except (ChassisError, Refused, ValueError) as error:
                text = f"input '{wanted.name}': {error}"
                raise NotToBeHad(FailureReason.INPUT_UNAVAILABLE, text) from error
            return self._shelved(wanted.name, path)

    def _fetch(self, wanted: TaskInput, into: Path, timeout_s: float) -> None:
        if wanted.topic is not None:
            self.transport.fetch_topic(wanted.topic, into, timeout_s)
        elif wanted.blob is not None:
            owner, _, sha256 = wanted.blob.partition("/")
            self.transport.fetch_blob(owner, sha256, into, timeout_s)
        elif wanted.text is not None:
            into.write_text(wanted.text, encoding="utf-8")
        else:
            try:
                into.write_bytes(base64.b64decode(wanted.base64 or "", validate=True))
            except binascii.Error as error:
                raise ValueError(f"bad base64: {error}") from None

    def _shelved(self, name: str, path: Path) -> PhoneFile:
        sha256, size = self.shelf.keep(path)
        return PhoneFile(name=name, sha256=sha256, size=size)
