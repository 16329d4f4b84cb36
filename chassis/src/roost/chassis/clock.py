"""A service's own clock: Unix seconds that never jump, whatever happens to the wall clock.

Deadlines are moments on this clock. It takes the wall clock's time once and then counts by
``CLOCK_BOOTTIME``, which runs evenly, through suspensions too, until the machine restarts. The
difference is kept in the state folder, so that a process that starts again goes on with it.
After a restart of the machine it begins anew, but never before the latest time it remembers.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

FILE: Final = "clock.json"
REMEMBER_EVERY_S: Final = 600.0
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_time() -> float:
    """Return the seconds since the machine started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Return what tells one run of the machine from another."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""  # without it every start is taken for one of the machine


class SteadyClock:
    """Callable: Unix seconds, close to the wall clock's at the beginning, and even since."""

    def __init__(
        self,
        folder: Path,
        *,
        wall: Callable[[], float] = time.time,
        count: Callable[[], float] = boot_time,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        """Go on where the last process stopped.

        Args:
            folder: Where the difference is kept.
            wall: The wall clock.
            count: Counts evenly while ``boot`` stays the same.
            boot: Tells the runs of the machine apart.
        """
        self._path, self._count, self._boot = folder / FILE, count, boot()
        known, offset, latest = self._load()
        if known != self._boot or not self._boot:
            offset = max(wall(), latest) - count()
        self._offset = offset
        self._remembered = -REMEMBER_EVERY_S
        self()

    def __call__(self) -> float:
        """Return the time, and remember it now and then."""
        now = self._offset + self._count()
        if now - self._remembered >= REMEMBER_EVERY_S:
            self._remembered = now
            self._save(now)
        return now

    def _load(self) -> tuple[str, float, float]:
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            return str(kept["boot"]), float(kept["offset"]), float(kept["latest"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", 0.0, 0.0  # the first start, or a file that a loss of power cut

    def _save(self, now: float) -> None:
        content = json.dumps({"boot": self._boot, "offset": self._offset, "latest": now})
        part = self._path.with_suffix(f".{os.getpid()}.part")
        # Best effort: on a full disk the latest time that was kept will do.
        with contextlib.suppress(OSError):
            part.write_text(content, encoding="utf-8")
            part.replace(self._path)
