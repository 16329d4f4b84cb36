"""A night of 20 phones on a fake clock: bridge and phones, every decision of both."""

import json
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from roost.chassis.core import TimerFired
from roost.chassis.effects import ClearTimer, Publish, SetTimer
from roost.ios_bridge.core.effects import Prepare, SendOutputs
from roost.ios_bridge.core.events import (
    OutputsSent,
    PhoneReported,
    PhoneSlept,
    PhoneTold,
    Prepared,
    StartArrived,
    StopArrived,
    Tick,
)
from roost.ios_bridge.simulator.core.body import Body
from roost.ios_bridge.simulator.core.handset import step
from roost.ios_bridge.simulator.core.states import (
    Beat,
    Began,
    Connected,
    Ended,
    Felt,
    Halt,
    HandedIn,
    HandIn,
    Handset,
    Lost,
    Model,
    OrderCame,
    Say,
    Sleeps,
    Stage,
    Work,
)
from roost.protocol.phone.messages import PhoneAsleep, PhoneOrder, PhoneReport
from roost.protocol.task.messages import StopReason

from .world import IMAGE, SPEC, World, world

STEP_S: Final = 30.0
FROM_MINUTE: Final = 21 * 60
HOURS: Final = 10
EVERY_S, LIFE_S, WORK_S = 3600.0, 1500.0, 120.0
PHONES, WANTED = 20, 8


@dataclass
class Night:
    """Twenty phones, one bridge, a manager that wants a task of each every hour.

    Attributes:
        rng: Decides who sleeps when, and who hangs on a charger.
        bridge: The bridge's core.
        now: Seconds since the begin.
        done: When each success came, by task and phone.
        low: Lowest battery that any phone had while it worked.
    """

    rng: random.Random
    bridge: World = field(default_factory=lambda: world(*(f"phone-{n}" for n in range(PHONES))))
    now: float = 0.0
    done: dict[tuple[str, str], float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    low: float = 100.0
    pauses: set[str] = field(default_factory=set)
    timers: dict[str, float] = field(default_factory=dict)
    phones: dict[str, "SimulatedPhone"] = field(default_factory=dict)

    def run(self) -> None:
        """Let the night pass."""
        for number in range(PHONES):
            self.phones[f"phone-{number}"] = SimulatedPhone(self, f"phone-{number}", number)
        while self.now < HOURS * 3600:
            if self.now % EVERY_S == 0:
                self.launch(f"t{int(self.now // EVERY_S)}")
            for phone in self.phones.values():
                phone.live()
            for key in [key for key, at in self.timers.items() if at <= self.now]:
                del self.timers[key]
                self.tell(TimerFired(self.now, key))
            self.tell(Tick(self.now))
            self.now += STEP_S

    def launch(self, task_id: str) -> None:
        """Want a task of every phone, awake or not."""
        self.started[task_id] = self.now
        for device in self.phones:
            self.tell(StartArrived(self.now, device, task_id, 1, LIFE_S, SPEC))

    def tell(self, event: Any) -> None:
        """Let something happen to the bridge, and all that follows from it."""
        pending = deque([event])
        while pending:
            for effect in self.bridge.do(pending.popleft()).effects:
                pending.extend(self.perform(effect))
        self.bridge.published.clear()

    def perform(self, effect: Any) -> list[Any]:
        """Do what the bridge wants; return the events that come of it."""
        match effect:
            case Prepare():
                who = (effect.device, effect.task_id, effect.attempt)
                return [Prepared(self.now, *who, IMAGE, ())]
            case SendOutputs():
                return [OutputsSent(self.now, effect.device, effect.task_id, effect.attempt)]
            case SetTimer(key=key, at=at):
                self.timers[key] = at
            case ClearTimer(key=key):
                self.timers.pop(key, None)
            case Publish(topic=topic) if topic.endswith("/down/order"):
                self.phones[topic.split("/")[1]].order(PhoneOrder.decode(effect.payload))
            case Publish(topic=topic) if topic.endswith("/report"):
                return self.manager_hears(topic.split("/"), json.loads(effect.payload))
        return []

    def manager_hears(self, levels: list[str], report: dict[str, Any]) -> list[Any]:
        """Record an end; answer it."""
        device, task_id, status = levels[1], levels[3], report["status"]
        if "paused" in report.get("progress", {}):
            self.pauses.add(report["progress"]["paused"])
        if status not in ("succeeded", "failed"):
            return []
        if status == "succeeded":
            self.done.setdefault((task_id, device), self.now)
        return [StopArrived(self.now, device, task_id, 1, StopReason.RECORDED)]


class SimulatedPhone:
    """A phone of that night: handset, body, habits."""

    def __init__(self, night: Night, device: str, number: int) -> None:
        rng = night.rng
        self.night, self.device = night, device
        self.handset = Handset(Model("night 1", f"b{number}"))
        self.is_poor = number % 5 == 0
        self.body = Body(rng.uniform(15, 45) if self.is_poor else rng.uniform(40, 95))
        self.plugs_at = rng.uniform(21.5, 24.5) * 60
        self.unplugs_at = rng.uniform(30, 32) * 60
        self.asleep_until = rng.uniform(0, 1800)
        self.works_until: float | None = None
        self.orders: deque[PhoneOrder] = deque()
        self.inbox: deque[Any] = deque()
        self.connections = 0

    def order(self, order: PhoneOrder) -> None:
        """An order comes, if anybody is there."""
        if self.handset.connection_id is not None:
            self.inbox.append(OrderCame(self.night.now, order))

    def live(self) -> None:
        """Live for one step."""
        now, rng = self.night.now, self.night.rng
        minute = FROM_MINUTE + now / 60
        working = self.handset.job is not None and self.handset.job.stage is Stage.WORKING
        if working:
            self.night.low = min(self.night.low, self.body.battery)
        plugged = not self.is_poor and self.plugs_at <= minute < self.unplugs_at
        self.body = self.body.after(STEP_S, working=working, plugged=plugged)
        self.happen(Felt(now, self.body.reading(minute)))
        if self.works_until is not None and now >= self.works_until:
            self.works_until, job = None, self.handset.job
            assert job is not None
            self.happen(Ended(now, job.key, None))
        if self.handset.connection_id is None:
            if now >= self.asleep_until:
                self.connections += 1
                self.happen(Connected(now, f"c{self.connections}"))
        elif rng.random() < 0.01:
            self.asleep_until = now + rng.expovariate(1 / 600)
            # Half of them say goodbye, the others only fall silent.
            self.happen(Sleeps(now) if rng.random() < 0.5 else Lost(now))
        else:
            self.happen(Beat(now))
        while self.inbox:
            self.happen(self.inbox.popleft())

    def happen(self, event: Any) -> None:
        """Let an event happen, and all that the phone wants because of it."""
        now = self.night.now
        self.handset, wants = step(self.handset, event)
        for want in wants:
            match want:
                case Say(PhoneReport() as report):
                    self.night.tell(PhoneReported(now, self.device, report))
                case Say(PhoneAsleep() as asleep):
                    self.night.tell(PhoneSlept(now, self.device, asleep.connection_id))
                case Say(message):
                    self.night.tell(PhoneTold(now, self.device, message))
                case Work(task):
                    self.works_until = now + WORK_S
                    self.inbox.append(Began(now, (task.task_id, task.attempt)))
                case Halt():
                    self.works_until = None
                case HandIn(task):
                    self.inbox.append(HandedIn(now, (task.task_id, task.attempt)))


@pytest.mark.slow
def test_a_night() -> None:
    """Every hour enough phones answer in time, and none works on a low battery.

    What comes after its deadline counts nowhere; who sleeps through one task does the next.
    (PHONE-012, PHONE-016, PHONE-021, PHONE-022, PHONE-030, PHONE-035, PHONE-037)
    """
    night = Night(random.Random(1))
    night.run()
    counts = {
        task_id: sum(1 for task, _ in night.done if task == task_id) for task_id in night.started
    }
    at_night = [task_id for task_id in night.started if int(task_id[1:]) >= 2]
    assert len(at_night) == HOURS - 2
    assert all(counts[task_id] >= WANTED for task_id in at_night), counts
    assert any(counts[task_id] < PHONES for task_id in at_night), "nobody ever slept"
    for (task_id, _device), at in night.done.items():
        assert at <= night.started[task_id] + LIFE_S + STEP_S
    assert night.low >= 20.0
    assert len({device for _, device in night.done}) >= PHONES * 3 // 4
    assert not [each for each in night.bridge.kinds["task"].values() if each.phase.present]
