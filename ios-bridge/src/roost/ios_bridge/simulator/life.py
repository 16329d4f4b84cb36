"""One simulated phone from its start to its end, on a real clock."""

import itertools
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from roost.ios_bridge.simulator.client import BridgeAway, Credentials, Line
from roost.ios_bridge.simulator.core.body import Body
from roost.ios_bridge.simulator.core.handset import step
from roost.ios_bridge.simulator.core.states import (
    Beat,
    Connected,
    Drop,
    Felt,
    Halt,
    HandIn,
    Handset,
    Lost,
    Model,
    OrderCame,
    Say,
    Sleeps,
    Stage,
    Want,
    Work,
)
from roost.ios_bridge.simulator.ports import GuestRunner
from roost.ios_bridge.simulator.work import Workshop

BEAT_S: Final = 10.0
_AGAIN_S: Final = (0.5, 2.0)
_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Habits:
    """What a simulated phone goes through; times in real seconds, 0 for never.

    Attributes:
        battery: Percent at the begin.
        plugged: Whether it hangs on a charger.
        minute: Its local time at the begin, in minutes since midnight.
        speed: How many seconds its battery, its warmth and its day take for one of ours.
        sleeps_every_s: Mean time until it sleeps.
        sleeps_for_s: Mean time until it wakes.
        loses_every_s: Mean time until it loses the network.
        loses_for_s: Mean time until it has it again.
    """

    battery: float = 80.0
    plugged: bool = True
    minute: float = 23 * 60.0
    speed: float = 1.0
    sleeps_every_s: float = 0.0
    sleeps_for_s: float = 5.0
    loses_every_s: float = 0.0
    loses_for_s: float = 5.0


class Life:
    """A simulated phone in a thread of its own."""

    def __init__(
        self,
        who: Credentials,
        model: Model,
        habits: Habits,
        folder: Path,
        mounts: Callable[[], Mapping[str, Path]],
        runner: GuestRunner,
        rng: random.Random,
    ) -> None:
        """Make a phone; ``start`` wakes it.

        Args:
            who: What it got for its token.
            model: What never changes of it.
            habits: What it goes through.
            folder: Its own.
            mounts: Its data, by name.
            runner: Runs guests.
            rng: Decides when it sleeps and loses the network.
        """
        self._who, self._habits, self._rng = who, habits, rng
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._workshop = Workshop(who, folder, mounts, runner, self._queue.put)
        self._handset = Handset(model)
        self._body = Body(habits.battery, plugged=habits.plugged)
        self._line: Line | None = None
        self._count = itertools.count(1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name=who.device, daemon=True)
        self._connect_at = 0.0
        self._next_sleep = self._in(habits.sleeps_every_s)
        self._next_loss = self._in(habits.loses_every_s)

    def _in(self, mean_s: float) -> float:
        """Return when something happens that happens after this time in the mean."""
        if not mean_s:
            return _NEVER
        return time.time() + self._rng.expovariate(1 / mean_s)

    def start(self) -> None:
        """Wake it."""
        self._thread.start()

    def stop(self) -> None:
        """End it in good order."""
        self._ended.set()
        self._queue.put(None)
        self._thread.join()

    def sleep(self) -> None:
        """Send it to sleep now, until it wakes by its habits."""
        self._queue.put(Sleeps(time.time()))

    def set_plugged(self, *, plugged: bool, battery: float | None = None) -> None:
        """Put it on a charger or take it off; set its battery if told."""
        level = self._body.battery if battery is None else battery
        self._body = Body(level, self._body.warmth, plugged, self._body.low_power)
        self._queue.put(Felt(time.time(), self._reading(time.time())))

    def _live(self) -> None:
        self._born = last = beat = time.time()
        while not self._ended.is_set():
            self._connect()
            try:
                event = self._queue.get(timeout=1.0)
            except queue.Empty:
                event = None
            now = time.time()
            if event is not None:
                self._happen(event)
            if now - last >= 1.0:
                self._grow(now, now - last)
                last = now
            if now - beat >= BEAT_S:
                self._happen(Beat(now))
                beat = now
        self._happen(Sleeps(time.time()))
        self._workshop.halt()

    def _connect(self) -> None:
        if self._line is not None or time.time() < self._connect_at:
            return
        connection_id = f"{self._handset.model.boot_id}-{next(self._count)}"

        def post(event: Callable[[float], Any]) -> None:
            # What an old connection still says is nobody's.
            if self._line is line:
                self._queue.put(event(time.time()))

        line = Line(
            self._who,
            connection_id,
            on_ready=lambda: post(lambda at: Connected(at, connection_id)),
            on_order=lambda order: post(lambda at: OrderCame(at, order)),
            on_end=lambda: post(Lost),
        )
        self._line = line
        try:
            line.open()
        except BridgeAway:
            self._away(self._rng.uniform(*_AGAIN_S))

    def _away(self, seconds: float) -> None:
        """Have no connection, and try again after this time."""
        self._line = None
        self._connect_at = time.time() + seconds

    def _reading(self, now: float) -> Any:
        return self._body.reading(self._habits.minute + (now - self._born) * self._speed / 60)

    @property
    def _speed(self) -> float:
        return self._habits.speed

    def _grow(self, now: float, seconds: float) -> None:
        """Let the battery, the warmth and the phone's fate take their course."""
        job = self._handset.job
        working = job is not None and job.stage is Stage.WORKING
        self._body = self._body.after(
            seconds * self._speed, working=working, plugged=self._body.plugged
        )
        self._happen(Felt(now, self._reading(now)))
        if now >= self._next_sleep:
            self._next_sleep = self._in(self._habits.sleeps_every_s)
            self._happen(Sleeps(now))
        if now >= self._next_loss and self._line is not None:
            self._next_loss = self._in(self._habits.loses_every_s)
            self._line.break_off()
            self._away(self._rng.expovariate(1 / self._habits.loses_for_s))
            self._happen(Lost(now))

    def _happen(self, event: Any) -> None:
        self._handset, wants = step(self._handset, event)
        for want in wants:
            self._do(want)
        if isinstance(event, Lost):
            if self._line is not None:
                self._line.close()
                self._away(self._rng.uniform(*_AGAIN_S))
        elif isinstance(event, Sleeps) and self._line is not None:
            self._line.close()
            self._away(self._rng.expovariate(1 / self._habits.sleeps_for_s))

    def _do(self, want: Want) -> None:
        match want:
            case Say(message):
                if self._line is not None:
                    self._line.say(message)
            case Work(task, wall_s):
                self._workshop.work(task, wall_s)
            case HandIn(task):
                self._workshop.hand_in(task)
            case Halt():
                self._workshop.halt()
            case Drop(key):
                self._workshop.drop(key)
