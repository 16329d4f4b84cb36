"""Updates on disk: each a safetensors file, durable before its message is acknowledged.

Writing one and making it durable are two steps, so that a group of messages waits for the disk
once (``settle``, right before their commit). What a process left that ended in between is deleted
at the next start, and comes again.

``spool/{round_id}/{sender}.{nonce}``. The nonce makes every arrival's file its own, so dropping
a refused update can never touch an accepted one with the same bytes. What is still being fetched
is in ``spool/.working``, which no tidying touches.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from roost.chassis.files import mapped, sync
from roost.coordinator.core.errors import UpdateNotDurable
from roost.coordinator.core.seats import Arrival
from roost.protocol.round.model import ModelForm
from roost.protocol.round.tensorfile import Layout, dtypes_digest, shapes_digest
from roost.protocol.round.update import Update, parse_update

_TENSORS_SHOWN: Final = 6
_NAME_SHOWN: Final = 60
_WORKING: Final = ".working"
_SYNCS: Final = 8


def summary(layout: Layout) -> str:
    """Name a file's tensors for people, such as ``b <f4(), w <f4(784,10)``."""
    shown = [
        f"{entry.name[:_NAME_SHOWN]} {entry.dtype[1:]}({','.join(map(str, entry.shape))})"
        for entry in layout.entries[:_TENSORS_SHOWN]
    ]
    hidden = len(layout.entries) - len(shown)
    return ", ".join(shown) + (f" and {hidden} more" if hidden else "")


def arrival(sender: str, name: str, update: Update) -> Arrival:
    """Return what the core judges of an update that lies in the spool under a name."""
    entries = update.layout.entries
    typed = update.form is ModelForm.SAFETENSORS
    return Arrival(
        sender=sender,
        round_id=update.round_id,
        base_model_uri=update.base_model_uri,
        num_samples=update.num_samples,
        metrics=update.metrics,
        spool=name,
        shapes=shapes_digest((entry.name, entry.shape) for entry in entries),
        dtypes=dtypes_digest((e.name, e.dtype) for e in entries) if typed else None,
        summary=summary(update.layout),
    )


def write_durably(path: Path, content: bytes, at: float) -> None:
    """Write a file that is whole or absent, and on disk when this returns.

    Args:
        path: The file.
        content: Its bytes.
        at: Its time on this service's clock, with which it is tidied; the disk's clock may jump.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.utime(temporary, (at, at))
        temporary.replace(path)
    except OSError:
        # A full disk: it is tried again, and halves of files would not make room.
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def _latest(folder: Path) -> float:
    """Return the time of the newest file in a folder; an empty one's own."""
    return max((path.stat().st_mtime for path in folder.iterdir()), default=folder.stat().st_mtime)


def _sync_if_there(path: Path) -> None:
    try:
        sync(path)
    except FileNotFoundError:
        return  # refused and dropped meanwhile


def renew(folder: Path) -> None:
    """Make a folder, or make it empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


class Spool:
    """The coordinator's folder of updates."""

    def __init__(
        self, folder: Path, nonce: Callable[[], str], clock: Callable[[], float] = time.time
    ) -> None:
        """Use a folder.

        Args:
            folder: Created; what a killed process left half-done in it goes.
            nonce: Returns a text that no earlier arrival had.
            clock: The service's clock, as in the core's events.
        """
        self._folder, self._nonce, self._clock = folder, nonce, clock
        self._working = folder / _WORKING
        self._unsettled: list[Path] = []
        self._syncing = ThreadPoolExecutor(_SYNCS, thread_name_prefix="sync")
        renew(self._working)

    def take_in(self, round_id: str, sender: str, payload: bytes | memoryview) -> Arrival:
        """Read an update, keep its tensors, and return what the core judges.

        Raises:
            roost.wire.refusal.Refused: it cannot be read, or holds NaN or infinity.
        """
        update = parse_update(payload)
        name = f"{round_id}/{sender}.{self._nonce()}"
        self._write(self._folder / name, update.file)
        return arrival(sender, name, update)

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file under its own name: nothing knows of it before ``settle``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        at = self._clock()
        try:
            path.write_bytes(content)
            os.utime(path, (at, at))
        except OSError:
            # A full disk: it is tried again, and halves of files would not make room.
            path.unlink(missing_ok=True)
            raise
        self._unsettled.append(path)

    def settle(self) -> None:
        """Return when all updates that were taken in survive the loss of power.

        They are synced side by side: a disk writes many at once hardly later than one.

        Raises:
            UpdateNotDurable: the disk did not keep one. Trying again would be no use: a second
                sync does not tell what the first one lost.
        """
        paths = self._unsettled[:]
        if not paths:
            return
        folders = {path.parent for path in paths}
        try:
            list(self._syncing.map(_sync_if_there, [*paths, *folders, self._folder]))
        except OSError as error:
            raise UpdateNotDurable(f"{self._folder}: {error}") from error
        del self._unsettled[: len(paths)]

    def take_in_file(self, round_id: str, sender: str, path: Path) -> Arrival:
        """Read an update that was fetched to a file; the file is mapped, not loaded."""
        with mapped(path) as view:
            return self.take_in(round_id, sender, view)

    def path(self, name: str) -> Path:
        """Return where an update lies."""
        return self._folder / name

    def temporary(self) -> Path:
        """Return a new path for a blob that is being fetched."""
        return self._working / self._nonce()

    def drop(self, names: Iterable[str]) -> None:
        """Delete refused updates, and folders that hold no other."""
        for name in names:
            path = self._folder / name
            path.unlink(missing_ok=True)
            try:
                path.parent.rmdir()
            except OSError:
                continue  # others of its round lie there, or it went before

    def tidy(
        self, rounds: Iterable[str], before: float, spools: Iterable[str] | None = None
    ) -> None:
        """Delete all updates but these and what is newer than ``before``.

        Args:
            rounds: Whose updates stay.
            before: Epoch seconds.
            spools: Which of those rounds' updates stay; None: all.
        """
        keep = {*rounds, _WORKING}
        for path in self._folder.iterdir():
            if path.name not in keep and _latest(path) < before:
                shutil.rmtree(path, ignore_errors=True)
        if spools is not None:
            self._drop_unknown(set(spools), before)

    def _drop_unknown(self, known: set[str], before: float) -> None:
        """Delete what a killed process wrote and never took in: its message came again."""
        for path in self._folder.glob("*/*"):
            name = str(path.relative_to(self._folder))
            is_ours = not name.startswith(f"{_WORKING}/")
            if is_ours and name not in known and path.stat().st_mtime < before:
                self.drop([name])
