"""A full disk and its like: this machine's trouble, which passes, and no fault of a message.

What cannot be written is not acknowledged; it is tried again until it can be, and the trouble is
named in the log and by ``/healthz``.
"""

import errno
import shutil
import sqlite3
from pathlib import Path
from typing import Final

from roost.chassis.logs import get_logger

RETRY_S: Final = 1.0
_ERRNOS: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}
)
_SQLITE: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
)
_PRIMARY: Final = 0xFF
_FULL: Final = "database or disk is full"


def passes(error: BaseException) -> bool:
    """Tell whether an error is the machine's, so that the same may succeed later."""
    if isinstance(error, OSError):
        return error.errno in _ERRNOS
    if isinstance(error, sqlite3.OperationalError):
        code = getattr(error, "sqlite_errorcode", None)
        return str(error) == _FULL if code is None else code & _PRIMARY in _SQLITE
    return False


def in_words(folder: Path, error: BaseException) -> str:
    """Say which folder cannot be written to, why, and what to do."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free // 1_000_000
    return f"cannot write to {folder} ({error}; {free} MB are free): make room there"


class Trouble:
    """What keeps a service from writing now.

    Attributes:
        text: What is wrong with which folder; None: nothing.
    """

    def __init__(self, folder: Path) -> None:
        """Watch over a service's state folder."""
        self._folder = folder
        self.text: str | None = None

    def met(self, error: BaseException) -> None:
        """Take note that writing failed; said once, however often it is tried."""
        if self.text is None:
            self.text = in_words(self._folder, error)
            get_logger().error("state.unwritable", why=self.text)

    def over(self) -> None:
        """Take note that writing succeeded."""
        if self.text is not None:
            get_logger().info("state.writable_again", folder=str(self._folder))
        self.text = None
