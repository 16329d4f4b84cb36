"""All four services in this process, over a broker in memory: real decoders, cores, runners, files.

Time is virtual and effects are carried out at once, on this thread. Guests do not run.
"""

import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import roost.coordinator.adapters.performers as coordinator_performers
import roost.model_server.adapters.performers as model_server_performers
from roost.chassis.effects import Publish
from roost.chassis.lanes import Job
from roost.chassis.metrics import Metrics
from roost.chassis.received import Received
from roost.chassis.runner import Runner
from roost.chassis.service import Context, Wiring
from roost.chassis.store import Store
from roost.chassis.testing import MemoryBroker
from roost.chassis.transfer import Fetcher
from roost.coordinator import __main__ as coordinator
from roost.coordinator.settings import CoordinatorSettings
from roost.manager.adapters import wiring as manager
from roost.manager.bindings import load
from roost.manager.settings import ManagerSettings
from roost.model_server import __main__ as model_server
from roost.model_server.settings import ModelServerSettings
from roost.proplet import __main__ as proplet
from roost.proplet.core.effects import Execute
from roost.proplet.core.events import GuestEnded
from roost.proplet.core.states import Outcome
from roost.proplet.settings import PropletSettings
from roost.protocol.task.messages import FailureReason

WORKLOADS: Final = Path(__file__).parents[2] / "workloads"
PROPLET: Final = "p9"
NAMES: Final = ("manager", "proplet", "coordinator", "model_server")
_AT_ONCE_S: Final = 0.001

Judge = Callable[[str, Received, Any], None]
"""Hears which service made what of a message: an event, None, or what it raised."""


class Now:
    """Lanes that carry a job out at once."""

    def submit(self, _lane: str, job: Job) -> None:
        """Carry it out."""
        job()

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Hosted:
    """One service."""

    name: str
    runner: Runner
    store: Store
    metrics: Metrics

    def troubles(self) -> list[str]:
        """Return what should never happen: a decoder or a core that raised, an effect given up."""
        found = [f"{error}: {event[:300]}" for _, event, error in self.store.set_aside_events()]
        if self.metrics.messages.labels("failed")._value.get():
            found.append("a decoder raised")
        if self.runner.trouble is not None:
            found.append(self.runner.trouble)
        return [f"{self.name}: {each}" for each in found]

    def labels(self) -> int:
        """Return how many kinds of events are counted; strangers must not be able to add any."""
        return len(self.metrics.events._metrics)


class House:
    """The broker and the services."""

    def __init__(self, folder: Path, seed: int, judge: Judge) -> None:
        """Start all services.

        Args:
            folder: Holds their states.
            seed: Of their randomness.
            judge: Hears what each of them makes of each message.
        """
        # What is not there when it is asked for does not come later.
        self._patience = coordinator_performers.FETCH_TIMEOUT_S
        _be_patient(_AT_ONCE_S)
        self.now = 1_000_000.0
        self.broker = MemoryBroker()
        self._folder, self._seed, self._judge = folder, seed, judge
        self.services = {name: self._host(name) for name in NAMES}
        self.settle()

    def _host(self, name: str) -> Hosted:
        state = self._folder / name
        state.mkdir(parents=True)
        session, metrics = self.broker.session(), Metrics()
        runner: list[Runner] = []
        context = Context(
            session=session,  # type: ignore[arg-type]
            fetcher=Fetcher(session),
            metrics=metrics,
            clock=lambda: self.now,
            rng=random.Random(f"{self._seed} {name}"),
            post=lambda event: runner[0].post(event),  # noqa: PLW0108 - it is made after this
            take_orders=lambda names: runner[0].subscribe(names, names),
            stopping=threading.Event(),
        )
        wiring = _BUILDERS[name](state, context)
        store = Store(state / "state.sqlite", wiring.core.kinds, wiring.core.effects)
        store._db.execute("PRAGMA synchronous=OFF")
        runner.append(
            Runner(
                wiring.core,
                store,
                session,
                self._judged(name, wiring),
                wiring.performers,
                lambda: self.now,
                metrics,
                pause=lambda _seconds: None,
                lanes=Now(),
                before_commit=wiring.before_commit,
            )
        )
        runner[0].subscribe(wiring.subscriptions, wiring.orders)
        for part in wiring.background:
            if name == "manager":
                part._context.post(  # type: ignore[attr-defined]
                    manager.BindingsRead(self.now, part._bindings)  # type: ignore[attr-defined]
                )
        runner[0].begin()
        session.start()
        return Hosted(name, runner[0], store, metrics)

    def _judged(self, name: str, wiring: Wiring) -> Callable[[Received, float], Any]:
        def decode(received: Received, at: float) -> Any:
            try:
                event = wiring.decode(received, at)
            except Exception as error:
                self._judge(name, received, error)
                raise
            self._judge(name, received, event)
            return event

        return decode

    def send(self, *messages: Publish, seconds: float = 0.001) -> None:
        """Let messages come, and everything that follows from them."""
        for message in messages:
            self.broker.route(message)
        self.now += seconds
        self.settle()

    def settle(self) -> None:
        """Let the services work until nothing is left to do."""
        busy = True
        while busy:
            busy = False
            for each in self.services.values():
                busy = each.runner.step() or busy

    def seen(self) -> list[Publish]:
        """Take what was published since the last time."""
        seen, self.broker.published = self.broker.published, []
        return seen

    def close(self) -> None:
        """Close the files, and leave the modules as they were."""
        _be_patient(self._patience)
        for each in self.services.values():
            each.store.close()


def _be_patient(seconds: float) -> None:
    coordinator_performers.FETCH_TIMEOUT_S = seconds  # type: ignore[misc]
    model_server_performers.FETCH_TIMEOUT_S = seconds  # type: ignore[misc]


def _manager(state: Path, context: Context) -> Wiring:
    settings = ManagerSettings(state_dir=state, workloads=WORKLOADS)
    return manager.build(context, settings, load(WORKLOADS))


def _proplet(state: Path, context: Context) -> Wiring:
    settings = PropletSettings(proplet_id=PROPLET, state_dir=state, slots=2)
    wiring = proplet.build(settings, proplet.card(settings, "boot"), context)
    return replace(wiring, performers={**wiring.performers, Execute: _refuse}, background=())


def _refuse(effect: Execute) -> Iterable[Any]:
    """Play a guest that ends at once."""
    outcome = Outcome(FailureReason.IMAGE_UNAVAILABLE, "no guests here")
    return [GuestEnded(effect.until, effect.task_id, effect.attempt, outcome)]


def _coordinator(state: Path, context: Context) -> Wiring:
    return coordinator.build(CoordinatorSettings(state_dir=state, keep_rounds=20), context)


def _model_server(state: Path, context: Context) -> Wiring:
    return model_server.build(ModelServerSettings(state_dir=state, keep_versions=5), context)


_BUILDERS: Final[dict[str, Callable[[Path, Context], Wiring]]] = {
    "manager": _manager,
    "proplet": _proplet,
    "coordinator": _coordinator,
    "model_server": _model_server,
}
