"""A manager's core with a clock, a store and a broker's memory in a dictionary."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from roost.chassis.core import Connected, Disconnected, Started, TimerFired
from roost.chassis.effects import ClearTimer, Note, Publish, SetTimer
from roost.chassis.received import Received
from roost.manager.adapters.decode import decode
from roost.manager.bindings import Bindings
from roost.manager.core.events import ApplyBindings, BindingsRead, Ordered
from roost.manager.core.manager import ManagerCore
from roost.manager.core.read_binding import read_binding
from roost.manager.core.rules import check
from roost.manager.core.task import Task
from roost.protocol.task.messages import TaskStatus

IMAGE = "oci://registry.test/guest:1"
EPOCH = 1_000_000.0
MAX_FIRED = 10_000
EACH_BINDING = """\
[[launch]]
topic = "jobs/start"
key = "{id}"
for_each = "devices"
[launch.defaults]
time = "60"
[launch.task]
proplet = "{each}"
image = "{image}"
deadline_s = "{time}"
[launch.task.env]
OPTIONS = "{options}"
[[launch.task.outputs]]
file = "result"
topic = "jobs/{id}/results/{each}"
[[forward]]
from = "jobs/+/results/+"
to = "results"
"""


def bindings_of(*texts: str) -> Bindings:
    """Return the bindings of these files, named 0.toml, 1.toml and so on."""
    return check(read_binding(f"{i}.toml", text.encode()) for i, text in enumerate(texts))


@dataclass
class World:
    """Plays runner and broker for one core; time stands still unless moved.

    Attributes:
        at: The present, in epoch seconds.
        states: Entities by kind and id.
        timers: Times by key.
        retained: The broker's retained messages.
        sent: What was published and not taken yet, oldest first.
        notes: What was logged.
        asked: The core's own effects.
    """

    core: ManagerCore = field(default_factory=ManagerCore)
    at: float = EPOCH
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    timers: dict[str, float] = field(default_factory=dict)
    retained: dict[str, bytes] = field(default_factory=dict)
    sent: list[Publish] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)

    def get(self, kind: str, id_: str, /) -> Any:
        """Return the state of one entity, or None."""
        return self.states.get(kind, {}).get(id_)

    def all(self, kind: str, /) -> Mapping[str, Any]:
        """Return all entities of a kind."""
        return self.states.get(kind, {})

    def handle(self, event: Any) -> None:
        """Let the core decide, and do what it wants."""
        decision = self.core.handle(event, self)
        for (kind, id_), state in decision.puts.items():
            entities = self.states.setdefault(kind, {})
            if state is None:
                entities.pop(id_, None)
            else:
                entities[id_] = state
        for effect in decision.effects:
            match effect:
                case SetTimer(key=key, at=at):
                    self.timers[key] = at
                case ClearTimer(key=key):
                    self.timers.pop(key, None)
                case Note():
                    self.notes.append(effect)
                case Publish():
                    self.sent.append(effect)
                    if effect.retain:
                        self.retained[effect.topic] = effect.payload
                case _:
                    self.asked.append(effect)
        self._check_places()

    def _check_places(self) -> None:
        """Every open task is found at its place, once, and nothing else is."""
        wanted = {(self._place(task), task.id) for task in self.states.get("task", {}).values()}
        found = [(place, id_) for place, ids in self.all("place").items() for id_ in ids]
        assert len(found) == len(set(found)) == len(wanted)
        assert set(found) == wanted

    @staticmethod
    def _place(task: Task) -> str:
        held = task.status in (TaskStatus.DISPATCHED, TaskStatus.RUNNING)
        return (task.proplet if held else task.request.proplet) or ""

    def receive(self, topic: str, payload: Any = b"", **more: Any) -> None:
        """Take a message in; anything but bytes is sent as JSON."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        event = decode(Received(topic, body, **more), self.at)
        if event is not None:
            self.handle(event)

    def wait(self, seconds: float) -> None:
        """Let time pass, each timer firing when it is due."""
        end = self.at + seconds
        fired = 0
        while self.timers and min(self.timers.values()) <= end:
            fired += 1
            assert fired < MAX_FIRED, f"timers without end: {self.timers}"
            key, at = min(self.timers.items(), key=lambda item: item[1])
            del self.timers[key]
            self.at = max(self.at, at)
            self.handle(TimerFired(self.at, key))
        self.at = end

    def restart(self) -> None:
        """Lose what is in memory only, as a process that ends."""
        for kind in self.core.volatile:
            self.states.pop(kind, None)
        bindings = getattr(self, "_bindings", None)
        self.handle(Started(self.at))
        if bindings is not None:
            self.load(bindings)

    def load(self, bindings: Bindings) -> None:
        """Put bindings in force."""
        self._bindings = bindings
        self.handle(BindingsRead(self.at, bindings))
        self.asked = [effect for effect in self.asked if not isinstance(effect, ApplyBindings)]

    def connect(self) -> None:
        """Gain the connection."""
        self.handle(Connected(self.at, 1))

    def disconnect(self) -> None:
        """Lose the connection."""
        self.handle(Disconnected(self.at))

    def presence(self, proplet: str, status: str = "online", **more: Any) -> None:
        """Let a proplet say what it is; ``retain=True``: the broker says it."""
        retain = more.pop("retain", False)
        card = {"proplet_id": proplet, "status": status, "boot_id": "b1", **more}
        self.receive(f"proplets/{proplet}/presence", card, retain=retain)

    def telemetry(self, proplet: str, **more: Any) -> None:
        """Let a proplet show life."""
        card = {"load": 0.1, "memory_free_mb": 100}
        self.receive(f"proplets/{proplet}/telemetry", card, **more)

    def report(self, proplet: str, task: str, attempt: int, status: str, **more: Any) -> None:
        """Let a proplet report on an attempt."""
        body = {"attempt": attempt, "boot_id": "b1", "status": status, **more}
        self.receive(f"proplets/{proplet}/tasks/{task}/report", body)

    def launch(self, task_id: str, **more: Any) -> None:
        """Launch one task by ``tasks/launch``."""
        self.receive("tasks/launch", {"task_id": task_id, "image": IMAGE, **more})

    def order(self, topic: str, payload: bytes, **more: Any) -> None:
        """Give an order with everything that belongs to one."""
        self.handle(Ordered(self.at, topic, payload, **more))

    def take(self, ending: str = "") -> list[Publish]:
        """Take what was published on topics with this ending since the last time."""
        found = [message for message in self.sent if message.topic.endswith(ending)]
        self.sent = [message for message in self.sent if not message.topic.endswith(ending)]
        return found

    def bodies(self, ending: str = "") -> list[tuple[str, Any]]:
        """Take topics and decoded payloads of what was published."""
        return [(m.topic, json.loads(m.payload) if m.payload else None) for m in self.take(ending)]

    def state(self, task_id: str) -> Any:
        """Return the retained state of a task."""
        return json.loads(self.retained[f"tasks/{task_id}/state"])

    def shown(self) -> Any:
        """Return the retained ``workloads/state``."""
        return json.loads(self.retained["workloads/state"])

    def noted(self, event: str) -> list[str | None]:
        """Return the reasons of the notes of that name."""
        return [note.reason for note in self.notes if note.event == event]


def make_world(*texts: str) -> World:
    """Start and connect a manager with these binding files."""
    world = World()
    world.handle(Started(world.at))
    world.load(bindings_of(*texts))
    world.connect()
    world.sent.clear()
    return world


def starts(world: World) -> list[tuple[str, int]]:
    """Take the start orders: proplet and attempt."""
    return [(topic.split("/")[1], body["attempt"]) for topic, body in world.bodies("/start")]


def stops(world: World) -> list[tuple[str, int, str]]:
    """Take the stop orders: proplet, attempt, reason."""
    return [
        (topic.split("/")[1], body["attempt"], body["reason"])
        for topic, body in world.bodies("/stop")
    ]
