"""A service's process in virtual time: its runner, its lanes, its death and its return."""

import queue
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from roost.chassis.clock import SteadyClock
from roost.chassis.effects import Publish
from roost.chassis.metrics import Metrics
from roost.chassis.runner import Runner
from roost.chassis.service import Wiring
from roost.chassis.trouble import RETRY_S

from .broker import SimBroker
from .disk import Disk, SimStore
from .hub import Hub, Killed, Task
from .session import SimSession

METRICS = Metrics()  # nobody reads them, and they take long to make
TURN_S = (0.0005, 0.003)
DOWN_S = (0.2, 4.0)


class SimInbox:
    """The runner's queue; tells when something came."""

    def __init__(self, wake: Callable[[], None], most: Callable[[], int]) -> None:
        self._items: deque[Any] = deque()
        self._wake, self._most = wake, most
        self._left = 0

    def put(self, item: Any, /) -> None:
        """Add an item."""
        self._items.append(item)
        self._wake()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest item without waiting."""
        del block, timeout
        self._left = self._most()
        return self.get_nowait()

    def get_nowait(self) -> Any:
        """Take the oldest item; a group ends where chance wants it."""
        if not self._items or self._left <= 0:
            raise queue.Empty
        self._left -= 1
        return self._items.popleft()

    def qsize(self) -> int:
        """Return how many wait."""
        return len(self._items)


class SimLanes:
    """Effects as tasks: in order within a lane, side by side between lanes."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._lanes: dict[str, deque[Callable[[], None]]] = {}
        self._tasks: dict[str, Task] = {}

    @property
    def busy(self) -> bool:
        """Whether an effect is being carried out."""
        return bool(self._lanes)

    def submit(self, lane: str, job: Callable[[], None], /) -> None:
        """Run the job after all earlier ones of its lane."""
        self._process.point("submit", lane)
        waiting = self._lanes.get(lane)
        if waiting is not None:
            waiting.append(job)
            return
        self._lanes[lane] = deque([job])
        self._process.soon(lambda: self._begin(lane))

    def _begin(self, lane: str) -> None:
        self._tasks[lane] = self._process.hub.spawn(lambda: self._run(lane))

    def _run(self, lane: str) -> None:
        jobs, process = self._lanes[lane], self._process
        try:
            while jobs:
                jobs[0]()
                jobs.popleft()
            del self._lanes[lane]
        except Killed:
            process.die()

    def close(self) -> None:
        """Take no more."""

    def kill(self) -> None:
        """End all tasks where they wait."""
        for task in list(self._tasks.values()):
            task.kill()


@dataclass(frozen=True)
class Machine:
    """What all processes of a world share.

    Attributes:
        hub: Virtual time.
        broker: The broker.
        rng: Chance.
        point: Told whenever a process could crash: who, what kind of place, what exactly.
        committed: Told what each commit changed.
        said: Takes a line of the story: who, what.
        group: Most items of a turn.
    """

    hub: Hub
    broker: SimBroker
    rng: Random
    point: Callable[["Process", str, str], None]
    committed: Callable[[str, list[Any], list[Publish]], None]
    said: Callable[[str, str], None]
    group: Callable[[], int]


class Process:
    """One service: what survives (its disk) and what is made anew with each start."""

    def __init__(self, machine: Machine, name: str, build: Callable[["Process"], Wiring]) -> None:
        self.machine, self.name, self._build = machine, name, build
        hub = self.hub = machine.hub
        self.broker, self.rng = machine.broker, machine.rng
        self.skew = 0.0
        self._boots, self._booted_at = 1, hub.now - 100.0
        self._steady: SteadyClock | None = None
        self.disk = Disk(self.clock)
        self.disk.point = self.point
        self.starts = 0
        self.alive = False
        self.quiet = False
        self.boot_id = ""
        self.sessions: list[SimSession] = []
        self.runner: Runner
        self.lanes: SimLanes
        self.store: SimStore
        self._woken = False
        self._naps = 0

    def wall(self) -> float:
        """Return what the machine's wall clock says, in Unix seconds."""
        return self.hub.now + self.skew

    def clock(self) -> float:
        """Return the service's own steady clock, in Unix seconds."""
        return self.wall() if self._steady is None else self._steady()

    def reboot(self) -> None:
        """Let the whole machine restart: its steady clock begins anew."""
        self._boots += 1
        self._booted_at = self.hub.now
        self.die()

    def _begin_clock(self) -> None:
        folder: Any = self.disk.path("clock")
        self._steady = None
        self._steady = SteadyClock(
            folder,
            wall=self.wall,
            count=lambda: self.hub.now - self._booted_at,
            boot=lambda: f"boot-{self._boots}",
        )

    def point(self, kind: str, what: str) -> None:
        """Reach a place where a crash may fall; a dead process goes no further."""
        if not self.alive:
            raise Killed
        self.machine.point(self, kind, what)

    def connect(self, name: str, **options: Any) -> SimSession:
        """Make a session that dies with this process."""
        guarded = {"point": self.point, "guard": self.at_once, **options}
        session = SimSession(self.hub, self.broker, name, self.rng, **guarded)
        self.sessions.append(session)
        return session

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, or begin again with what the disk holds."""
        self.starts += 1
        self.alive = True
        self.machine.said(self.name, "starts" if self.starts == 1 else "starts again")
        self.sessions = []
        try:
            self._begin()
        except Killed:
            self.die()
        except Exception as error:  # noqa: BLE001 - a process that cannot write ends, by design
            self.fail(error)

    def _begin(self) -> None:
        self.lanes = SimLanes(self)
        self._begin_clock()
        wiring = self._build(self)
        self.store = SimStore(self.disk, wiring.core, self._committed)
        self.runner = Runner(
            wiring.core,
            self.store,
            self.sessions[0],
            wiring.decode,
            wiring.performers,
            self.clock,
            METRICS,
            pause=self.hub.sleep,
            inbox=SimInbox(self.wake, self.machine.group),
            lanes=self.lanes,
        )
        self.runner.subscribe(wiring.subscriptions, wiring.orders)
        for part in wiring.background:
            part.start()
        for session in self.sessions:
            session.start()
        self.runner.begin()
        self.wake()

    def _committed(self, changes: list[Any], kept: list[Publish]) -> None:
        self.machine.committed(self.name, changes, kept)

    def post(self, event: Any) -> None:
        """Hand an event to the core."""
        self.point("post", type(event).__name__)
        self.runner.post(event)

    def at_once(self, call: Callable[[], None]) -> None:
        """Call something of this process that is neither a turn nor an effect."""
        try:
            call()
        except Killed:
            self.die()

    def soon(self, call: Callable[[], None]) -> None:
        """Call something of this process after the time that a thread takes to come to it."""
        self._later(self.rng.uniform(*TURN_S), call)

    def wake(self) -> None:
        """Have a turn taken soon."""
        if not self._woken:
            self._woken = True
            self.soon(self._turn)

    def _turn(self) -> None:
        self._woken = False
        try:
            self.runner.step()
        except Killed:
            self.die()
        except Exception as error:  # noqa: BLE001 - as in start
            self.fail(error)
        if not self.alive:
            return
        if self.runner._stuck:
            self._woken = True  # nothing else is done before the disk is tried again
            self._later(RETRY_S, self._turn)
        elif self.runner.waiting:
            self.wake()
        else:
            self._sleep()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        start = self.starts
        self.hub.after(seconds, lambda: call() if self.alive and self.starts == start else None)

    def _sleep(self) -> None:
        """Come back when the runner has something to do although nothing comes."""
        patience, due = self.runner.patience_s, self.runner.due_at
        if patience >= 1.0:
            if due is None:
                return
            patience = due - self.clock()
        self._naps += 1
        nap = self._naps
        self._later(max(patience, 0.0005), lambda: self.wake() if self._naps == nap else None)

    # -- death ---------------------------------------------------------------------------------

    def fail(self, error: Exception) -> None:
        """End because the store could not be written."""
        self.machine.said(self.name, f"ends: {error}")
        self.die()

    def die(self) -> None:
        """End at once, as by kill -9, and come back after a while."""
        if not self.alive:
            return
        self.alive = False
        self._woken = False
        for session in self.sessions:
            session.kill()
        lanes = self.lanes
        self.hub.after(0.0, lanes.kill)
        self.hub.after(self.rng.uniform(*DOWN_S), self.start)
