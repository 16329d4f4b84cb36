"""What a seed does to a world: which kinds of faults there are, when each falls, what it hit.

Every fault falls before ``calm_at``; afterwards everything must come right by itself.
"""

import errno
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from .broker import SimBroker, Weather
from .hub import EPOCH, Hub, Killed
from .process import Process

BEFORE_COMMIT, AFTER_COMMIT = "crash before commit", "crash after commit, before acknowledging"
BETWEEN, MID_EFFECT, ANY_TIME = "crash between effects", "crash amid an effect", "crash at a moment"
FORGET, ROLLBACK, BLIP = "broker forgets", "broker rolls back", "connection lost"
DELAY, DOUBLE, REORDER = "delay", "double", "reorder"
DISK_FULL, CLOCK = "disk full", "clock jumps"
BAD_UPDATE, STALE_REPORT = "bad update", "stale report"
KINDS: Final = (
    BEFORE_COMMIT, AFTER_COMMIT, BETWEEN, MID_EFFECT, ANY_TIME, FORGET, ROLLBACK, BLIP,
    DELAY, DOUBLE, REORDER, DISK_FULL, CLOCK, BAD_UPDATE, STALE_REPORT,
)  # fmt: skip
CRASHES: Final = (BEFORE_COMMIT, AFTER_COMMIT, BETWEEN, MID_EFFECT)
_CHANCE: Final = 0.42
_EASY: Final = 0.04
_FARTHEST: Final = {BEFORE_COMMIT: 14, AFTER_COMMIT: 14, BETWEEN: 30, MID_EFFECT: 12}
LONGEST_JUMP_S: Final = 60.0
_REBOOTS: Final = 0.5


@dataclass(slots=True)
class Order:
    """A crash that waits for its place: the n-th of a kind in one process."""

    kind: str
    victim: str
    left: int


@dataclass(slots=True)
class Faults:
    """The faults of one run.

    Attributes:
        rng: The seed's chance.
        calm_at: Moment after which nothing bad happens any more.
        kinds: Which kinds there are in this run.
        fired: How often each kind hit.
        backwards_s: Seconds by which clocks were set back, added up.
    """

    rng: Random
    calm_at: float
    kinds: frozenset[str] = frozenset()
    fired: Counter[str] = field(default_factory=Counter)
    backwards_s: float = 0.0
    orders: list[Order] = field(default_factory=list)
    full: dict[str, tuple[float, float]] = field(default_factory=dict)

    def hit(self, kind: str) -> None:
        """Count a fault that happened."""
        self.fired[kind] += 1


def draw(rng: Random) -> Faults:
    """Draw the kinds of faults of a run; a few runs have none."""
    calm_at = EPOCH + rng.uniform(15.0, 60.0)
    if rng.random() < _EASY:
        return Faults(rng, calm_at)
    return Faults(rng, calm_at, frozenset(kind for kind in KINDS if rng.random() < _CHANCE))


class Fate:
    """Makes the faults happen to the parts of a world."""

    def __init__(
        self,
        faults: Faults,
        hub: Hub,
        broker: SimBroker,
        processes: dict[str, Process],
        said: Callable[[str, str], None],
    ) -> None:
        self._faults, self._hub, self._broker = faults, hub, broker
        self._processes, self._said, self._rng = processes, said, faults.rng

    def prepare(self) -> None:
        """Set everything up before the run begins."""
        for kind in sorted(self._faults.kinds):
            _PREPARE.get(kind, Fate._nothing)(self, kind)

    def _nothing(self, _kind: str) -> None:
        """Others see to it."""

    def _moment(self, earliest_s: float = 0.5) -> float:
        return self._rng.uniform(EPOCH + earliest_s, self._faults.calm_at)

    def _early(self) -> float:
        """Return a moment at which something is going on for sure, most of the time."""
        latest = min(self._faults.calm_at, EPOCH + 16.0)
        return self._rng.uniform(EPOCH + 0.5, latest)

    def _victim(self) -> str:
        return self._rng.choice(sorted(self._processes))

    # -- processes -----------------------------------------------------------------------------

    def _crashes(self, kind: str) -> None:
        for _ in range(self._rng.randint(1, 4)):
            left = self._rng.randrange(_FARTHEST[kind])
            self._faults.orders.append(Order(kind, self._victim(), left))

    def _crash_at(self, kind: str) -> None:
        for _ in range(self._rng.randint(1, 3)):
            victim = self._processes[self._victim()]
            self._hub.at(self._early(), lambda victim=victim: self._kill(victim, kind))

    def _kill(self, victim: Process, kind: str) -> None:
        if victim.alive:
            self._faults.hit(kind)
            self._said(victim.name, "IS KILLED")
            victim.die()

    def point(self, process: Process, kind: str, what: str) -> None:
        """Decide whether a process ends here, or has no room on its disk."""
        faults = self._faults
        if self._hub.now >= faults.calm_at:
            return
        if kind in ("commit", "write"):
            self._write(process, kind)
        if faults.orders:
            self._maybe_crash(process, self._place(kind), what)

    def _place(self, kind: str) -> str:
        if self._hub.in_task:
            return MID_EFFECT
        return {"commit": BEFORE_COMMIT, "committed": AFTER_COMMIT}.get(kind, BETWEEN)

    def _maybe_crash(self, process: Process, place: str, what: str) -> None:
        for order in self._faults.orders:
            if order.kind == place and order.victim == process.name:
                order.left -= 1
                if order.left < 0:
                    self._faults.orders.remove(order)
                    self._faults.hit(place)
                    self._said(process.name, f"IS KILLED ({place.removeprefix('crash ')}: {what})")
                    raise Killed

    # -- disks and clocks ----------------------------------------------------------------------

    def _fill(self, _kind: str) -> None:
        for _ in range(2):
            begin = self._early()
            self._faults.full[self._victim()] = (begin, begin + self._rng.uniform(0.5, 8.0))

    def _write(self, process: Process, kind: str) -> None:
        begin, end = self._faults.full.get(process.name, (0.0, 0.0))
        if begin <= self._hub.now < end:
            self._faults.hit(DISK_FULL)
            if kind == "commit":
                raise sqlite3.OperationalError("database or disk is full")
            raise OSError(errno.ENOSPC, "no space left on device")

    def _jump(self, kind: str) -> None:
        for _ in range(self._rng.randint(1, 2)):
            victim = self._processes[self._victim()]
            seconds = self._rng.choice((-1, 1)) * self._rng.uniform(0.5, LONGEST_JUMP_S)
            self._faults.backwards_s += max(0.0, -seconds)
            self._hub.at(self._early(), lambda v=victim, s=seconds: self._set_clock(v, s, kind))

    def _set_clock(self, victim: Process, seconds: float, kind: str) -> None:
        victim.skew += seconds
        self._faults.hit(kind)
        reboots = self._rng.random() < _REBOOTS
        how = "AND ITS MACHINE RESTARTED" if reboots else ""
        self._said(victim.name, f"HAS ITS CLOCK SET by {seconds:+.1f} s {how}")
        if reboots:
            victim.reboot()
        elif victim.alive:
            victim.wake()

    # -- broker and network --------------------------------------------------------------------

    def _lose_broker(self, kind: str) -> None:
        moment = self._early()
        if kind == ROLLBACK:
            self._hub.at(self._rng.uniform(EPOCH + 0.4, moment), self._broker.save)
        self._hub.at(moment, lambda: self._kill_broker(kind))

    def _kill_broker(self, kind: str) -> None:
        if not self._broker.up:
            return
        self._faults.hit(kind)
        self._said("broker", f"IS KILLED and {'forgets' if kind == FORGET else 'rolls back'}")
        self._broker.kill(forget=kind == FORGET)
        self._hub.after(self._rng.uniform(0.1, 4.0), self._start_broker)

    def _start_broker(self) -> None:
        self._said("broker", "starts again")
        self._broker.start()

    def _blips(self, kind: str) -> None:
        for _ in range(self._rng.randint(2, 6)):
            name = self._rng.choice([*sorted(self._processes), "manager-fwd"])
            self._hub.at(self._early(), lambda name=name: self._cut(name, kind))

    def _cut(self, name: str, kind: str) -> None:
        session = self._broker.subscribers.get(name)
        if self._broker.up and session is not None and session.client is not None:
            self._faults.hit(kind)
            self._said(name, "LOSES ITS CONNECTION")
            self._broker.lose(name, silently=False)

    def weather(self) -> None:
        """Let the network be bad, until it is calm."""
        rng, kinds = self._rng, self._faults.kinds
        self._broker.weather = Weather(
            late=(rng.uniform(0.02, 0.3), rng.uniform(0.2, 4.0)) if DELAY in kinds else (0.0, 0.0),
            twice=rng.uniform(0.02, 0.2) if DOUBLE in kinds else 0.0,
            shuffled=rng.uniform(0.1, 0.8) if REORDER in kinds else 0.0,
        )
        self._hub.at(self._faults.calm_at, self._clear_up)

    def _clear_up(self) -> None:
        self._broker.weather = Weather()
        self._said("world", "----- from here on nothing bad happens -----")


_PREPARE: Final[dict[str, Callable[[Any, str], None]]] = {
    **dict.fromkeys(CRASHES, Fate._crashes),
    ANY_TIME: Fate._crash_at,
    FORGET: Fate._lose_broker,
    ROLLBACK: Fate._lose_broker,
    BLIP: Fate._blips,
    DISK_FULL: Fate._fill,
    CLOCK: Fate._jump,
}
