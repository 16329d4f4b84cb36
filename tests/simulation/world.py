"""One run: the services, their proplets, an operator, a broker, and what a seed does to them."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from roost.chassis.effects import Publish
from roost.protocol.round.topics import ROUND_UPDATE
from roost.protocol.task.messages import Presence, PresenceStatus
from roost.protocol.task.topics import PRESENCE

from . import faults, scenario, services
from .broker import SimBroker
from .disk import rows
from .faults import Fate
from .hub import EPOCH, Hub, SimQueue
from .oracle import Broken, Oracle
from .people import Liar, Operator
from .process import Machine, Process
from .scenario import PROPLETS, TIMEOUT_S

SETTLE_S = 240.0
DRAIN_S = 3600.0 + 2 * TIMEOUT_S
_LOOK_S = 2.0
_PERPETUAL = frozenset({"prune"})


class World:
    """Everything of one run."""

    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.seed, self._tell = seed, tell
        rng = Random(seed)
        self.hub = Hub()
        self.faults = faults.draw(Random(rng.getrandbits(64)))
        self.scenario = scenario.draw(Random(rng.getrandbits(64)))
        self.oracle = Oracle(evicts=self.scenario.versions_kept < 50)
        self.broker = SimBroker(self.hub, Random(rng.getrandbits(64)), self.say)
        self.broker.fired = self.faults.hit
        self.broker.acknowledged = self._acknowledged
        self._rng = Random(rng.getrandbits(64))
        people = Random(rng.getrandbits(64))
        self.operator = Operator(self.hub, self.broker, people, self.scenario)
        self.liar = Liar(self.hub, self.broker, people, self.faults, self.scenario)
        self.broker.watchers += [self._routed, self.liar.heard]
        self.processes = self._make_processes(Random(rng.getrandbits(64)))
        self.fate = Fate(self.faults, self.hub, self.broker, self.processes, self.say)

    def _make_processes(self, rng: Random) -> dict[str, Process]:
        machine = Machine(
            self.hub,
            self.broker,
            rng,
            self._point,
            self._committed,
            self.say,
            lambda: self._rng.choice((1, 2, 64)),
        )
        builds: dict[str, Any] = {
            "model-server": services.model_server_keeping(self.scenario.versions_kept),
            "coordinator": services.build_coordinator,
            "manager": services.build_manager,
        }
        for name in PROPLETS:
            guest, begins = self._guest_of(name), self._begins(name)
            builds[name] = services.proplet(name, guest, self._run_s, begins)
        return {name: Process(machine, name, build) for name, build in builds.items()}

    def _point(self, process: Process, kind: str, what: str) -> None:
        self.fate.point(process, kind, what)

    def _run_s(self) -> float:
        return self._rng.choice((0.1, self._rng.uniform(0.1, 3.0), self._rng.uniform(1.0, 9.0)))

    def _begins(self, name: str) -> Callable[[str, int], None]:
        return lambda task, attempt: self.oracle.begins(name, task, attempt, self.hub.now)

    def _guest_of(self, name: str) -> services.Guest:
        """Return the guest of a proplet, known to the oracle."""

        def guest(round_id: str, base: str, model: bytes) -> bytes:
            tensors, samples = scenario.tensors_of(name, round_id, model), scenario.samples_of(name)
            payload = scenario.update(round_id, base, samples, tensors)
            topic = ROUND_UPDATE.format(round_id=round_id, proplet_id=name)
            self.oracle.sent(round_id, name, payload, tensors, samples, topic)
            return payload

        return guest

    # -- story ---------------------------------------------------------------------------------

    def say(self, who: str, what: str) -> None:
        """Add a line to the story."""
        if self._tell is not None:
            self._tell(f"{self.hub.now - EPOCH:10.3f}  {who:<12} {what}")

    def _routed(self, client: str, message: Publish) -> None:
        if self._tell is not None:
            self.say(client, f"-> {message.topic} {shown(message.payload)}")
        self.oracle.routed(client, message)

    def _committed(self, name: str, changes: list[Any], kept: list[Publish]) -> None:
        if self._tell is not None and (changes or kept):
            what = ", ".join(f"{kind} {id_}".strip() for (kind, id_), _ in changes)
            self.say(name, f"commits {what}; retains {', '.join(each.topic for each in kept)}")
        self.oracle.committed(name, kept)

    def _acknowledged(self, client: str, message: Publish) -> None:
        process = self.processes.get(client)
        if process is not None:
            self.oracle.acknowledged(client, message, process.disk.keeps, self.hub.now)

    # -- the run -------------------------------------------------------------------------------

    def run(self) -> None:
        """Let it all happen, and hold it against every invariant.

        Raises:
            Broken: one does not hold.
        """
        SimQueue.hub = self.hub
        with services.in_memory():
            for process in self.processes.values():
                self.hub.after(self._rng.uniform(0.0, 0.5), process.start)
            self.operator.start()
            self.liar.start()
            self.fate.prepare()
            self.fate.weather()
            self.hub.run(self.faults.calm_at)
            self._settle()
            self._check_outcomes()
            self._drain()

    def _settle(self) -> None:
        """After the last fault everything comes to rest, long before the deadlines."""
        until = self.faults.calm_at + SETTLE_S + self.faults.backwards_s
        while True:
            self.hub.run(self.hub.now + _LOOK_S)
            left = next(self._unsettled(), None)
            if left is None:
                return
            if self.hub.now >= until:
                raise Broken(f"it does not come to rest: {'; '.join(self._unsettled())}")

    def _unsettled(self) -> Iterator[str]:
        """Yield what is not as it shall be in the end."""
        if not self.operator.content:
            yield f"rounds {self.operator.ordered} ended {sorted(self.operator.outcomes)}"
        for task_id, state in self.oracle.tasks.items():
            if not state.state.final:
                yield f"task {task_id} is {state.state}"
        for name, process in self.processes.items():
            if not process.alive or not all(each.connected for each in process.sessions):
                yield f"{name} is away"
            elif process.lanes.busy or process.runner.waiting or process.store.outbox_size():
                yield f"{name} is busy with {[row[1] for row in rows(process.disk, 'outbox')]}"
            else:
                yield from self._differing(name, process)

    def _differing(self, name: str, process: Process) -> Iterator[str]:
        """Yield the retained topics that are not what their owner holds."""
        for topic, _, payload, expires_at in rows(process.disk, "retained"):
            living = expires_at is None or expires_at > process.clock()
            if living and self.broker.payload(topic) != payload:
                yield f"the broker does not hold {name}'s {topic}"
        if name in PROPLETS:
            yield from self._presence(name, process)
        if name == "model-server":
            for file in process.disk.names("models/"):
                topic = f"fl/{file}"
                if self.broker.payload(topic) != process.disk.files[file].content:
                    yield f"the broker does not hold {topic}"

    def _presence(self, name: str, process: Process) -> Iterator[str]:
        payload = self.broker.payload(PRESENCE.format(proplet_id=name))
        presence = Presence.decode(payload) if payload else None
        if presence is None or presence.status is not PresenceStatus.ONLINE:
            yield f"{name} does not look online"
        elif presence.boot_id != process.boot_id or presence.running:
            yield f"{name}'s presence is old: {presence.boot_id} {presence.running}"

    def _check_outcomes(self) -> None:
        """Hold the outcomes against what the faults allow, and the broker against the owners."""
        owned = {row[0] for p in self.processes.values() for row in rows(p.disk, "retained")}
        for topic, _ in list(self.broker.living()):
            own = topic in owned or topic.startswith(("proplets/", "fl/models/"))
            if not own:
                raise Broken(f"nobody owns what the broker holds on {topic}")
        for round_id, outcome in self.operator.outcomes.items():
            self.oracle.judge(round_id, outcome, self.faults, self.liar.lied)

    def _drain(self) -> None:
        """When all deadlines have passed nothing is left of the tasks, and no timer."""
        for process in self.processes.values():
            process.quiet = True
        self.hub.run(self.hub.now + DRAIN_S + self.faults.backwards_s)
        for name, process in self.processes.items():
            timers = [key for key, _ in rows(process.disk, "timers") if key not in _PERPETUAL]
            if timers:
                raise Broken(f"{name} still has timers: {timers}")
            aside = list(rows(process.disk, "set_aside"))
            if aside:
                raise Broken(f"{name} set an event aside: {aside[0]}")
        for name in PROPLETS:
            disk = self.processes[name].disk
            left = disk.names("tasks/") or [row[:2] for row in rows(disk, "entities")]
            if left:
                raise Broken(f"{name} still keeps {left}")


def shown(payload: bytes) -> str:
    """Return a payload in a few words."""
    text = payload.decode(errors="replace")
    return text if len(text) <= 160 else text[:160] + "…"
