"""The four services as they really are put together, with stand-ins for what touches the world."""

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from roost.chassis import transfer
from roost.chassis.effects import Publish
from roost.chassis.service import Background, Context, Wiring
from roost.chassis.transfer import Fetcher
from roost.coordinator import __main__ as coordinator
from roost.coordinator.settings import CoordinatorSettings
from roost.manager.adapters import wiring as manager
from roost.manager.bindings import load
from roost.manager.settings import ManagerSettings
from roost.model_server import __main__ as model_server
from roost.model_server.settings import ModelServerSettings
from roost.proplet.__main__ import goodbye
from roost.proplet.adapters.decode import decode, subscriptions
from roost.proplet.core.effects import Discard, Execute, SendOutputs, StopGuest, Sweep
from roost.proplet.core.events import MountsFound
from roost.proplet.core.proplet import PropletCore
from roost.protocol.task import topics
from roost.protocol.task.messages import Presence, PresenceStatus, Telemetry

from .adapters import MemoryFiles, MemoryModels, MemorySpool
from .devices import Guest, SimExecutor, SimForwarder, SimOutputs
from .hub import Hub, SimQueue
from .process import METRICS, Process

WORKLOADS = Path(__file__).parents[2] / "workloads"
BINDINGS = load(WORKLOADS)
TELEMETRY_S = 10.0
_COORDINATOR, _MODEL_SERVER = CoordinatorSettings(), ModelServerSettings()
_MANAGER = ManagerSettings(workloads=WORKLOADS)
_IN_MEMORY: tuple[tuple[Any, str, Any], ...] = (
    (coordinator, "Spool", MemorySpool),
    (coordinator, "Models", MemoryModels),
    (model_server, "Files", MemoryFiles),
)


@contextmanager
def in_memory() -> Iterator[None]:
    """Let the services be built with stand-ins, and transfers wait in virtual time."""
    queues = SimpleNamespace(
        SimpleQueue=SimQueue, Queue=SimQueue, Empty=queue.Empty, Full=queue.Full
    )
    with ExitStack() as stack:
        for module, name, stand_in in _IN_MEMORY:
            stack.enter_context(patch.object(module, name, stand_in))
        stack.enter_context(patch.object(transfer, "queue", queues))
        yield


def context_of(process: Process, name: str, will: Publish | None = None) -> Context:
    """Return what a service's adapters may use, all of it virtual."""
    session: Any = process.connect(name, will=will)
    known: dict[str, Any] = {
        "session": session,
        "fetcher": Fetcher(session),
        "metrics": METRICS,
        "clock": process.clock,
        "rng": Random(process.rng.getrandbits(64)),
        "post": process.post,
        "take_orders": lambda names: process.runner.subscribe(names, names),
        "stopping": threading.Event(),
    }
    return Context(**{field.name: known[field.name] for field in fields(Context)})


def build_coordinator(process: Process) -> Wiring:
    """Put the coordinator together."""
    settings = _COORDINATOR.model_copy(update={"state_dir": process.disk.path("")})
    return coordinator.build(settings, context_of(process, "coordinator"))


def model_server_keeping(versions: int) -> Callable[[Process], Wiring]:
    """Return what puts a model server together that keeps so many versions."""

    def build(process: Process) -> Wiring:
        changes = {"keep_versions": versions, "state_dir": process.disk.path("")}
        settings = _MODEL_SERVER.model_copy(update=changes)
        return model_server.build(settings, context_of(process, "model-server"))

    return build


def build_manager(process: Process) -> Wiring:
    """Put the manager together; its forwards have a connection of their own."""
    context = context_of(process, "manager")

    def forwarder(*_args: Any, **_options: Any) -> SimForwarder:
        session: Any = process.connect("manager-fwd")
        return SimForwarder(session)

    with patch.object(manager, "Forwarder", forwarder):
        return manager.build(context, _MANAGER, BINDINGS)


class Sampler(Background):
    """Tells the mounts at the start, then telemetry every few seconds."""

    def __init__(self, hub: Hub, process: Process, proplet_id: str, session: Any) -> None:
        self._hub, self._process, self._session = hub, process, session
        self._topic = topics.TELEMETRY.format(proplet_id=proplet_id)
        self._start = process.starts

    def start(self) -> None:
        """Begin."""
        self._process.post(MountsFound(self._process.clock(), ("train",)))
        self._hub.after(TELEMETRY_S, self._sample)

    def _sample(self) -> None:
        process = self._process
        if not process.alive or process.starts != self._start or process.quiet:
            return
        if self._session.connected:
            process.at_once(lambda: self._session.publish(_telemetry(self._topic)))
        self._hub.after(TELEMETRY_S, self._sample)


def _telemetry(topic: str) -> Publish:
    return Publish(topic, _SAMPLE, retain=True, expiry_s=120.0, durable=False)


_SAMPLE = Telemetry(load=0.5, memory_free_mb=100).encode()


def proplet(
    proplet_id: str,
    guest: Guest,
    run_s: Callable[[], float],
    begins: Callable[[str, int], None],
) -> Callable[[Process], Wiring]:
    """Return what puts a proplet together."""
    boots = itertools.count(1)

    def build(process: Process) -> Wiring:
        card = Presence(
            proplet_id=proplet_id,
            status=PresenceStatus.ONLINE,
            boot_id=f"{proplet_id}-boot-{next(boots)}",
            protocols={"task": 1},
        )
        process.boot_id = card.boot_id
        context = context_of(process, proplet_id, will=goodbye(card))
        session = context.session
        executor = SimExecutor(process, context.fetcher, context.post, guest, run_s, begins)
        outputs = SimOutputs(process.disk, session, process.clock)
        return Wiring(
            core=PropletCore(card, slots=2),
            decode=decode,
            subscriptions=subscriptions(proplet_id),
            orders=subscriptions(proplet_id),
            performers={
                Execute: executor.execute,
                StopGuest: executor.stop,
                SendOutputs: outputs.send,
                Discard: outputs.discard,
                Sweep: outputs.sweep,
            },
            background=(Sampler(process.hub, process, proplet_id, session),),
        )

    return build
