"""Launching messages take the way of all others: committed, then acknowledged, never in a loop."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from roost.chassis.effects import Publish
from roost.chassis.metrics import Metrics
from roost.chassis.runner import Runner
from roost.chassis.service import Wiring
from roost.chassis.store import Store
from roost.chassis.testing import MemoryBroker, MemorySession
from roost.manager.adapters.wiring import build
from roost.manager.bindings import load
from roost.manager.core import manager as core_module
from roost.manager.core.events import BindingsRead
from roost.manager.core.orders import on_order
from roost.manager.settings import ManagerSettings

from .world import EACH_BINDING, EPOCH

WAIT_S = 10.0
JOB = b'{"id": "j1", "image": "oci://r/i:1", "devices": ["p1"], "options": 1}'


class House:
    """A manager's parts over a real store and a broker in memory; turns are taken by hand."""

    def __init__(self, folder: Path) -> None:
        self._workloads = folder / "workloads"
        self._workloads.mkdir()
        self._path = folder / "state.sqlite"
        (self._workloads / "a.toml").write_text(EACH_BINDING)
        self.broker = MemoryBroker()
        self.session: MemorySession = self.broker.session()
        self.acknowledged: list[Any] = []

    def open(self) -> None:
        """Start the process, but for the turns."""
        bindings = load(self._workloads)
        context: Any = SimpleNamespace(
            session=self.session,
            post=lambda event: self.runner.post(event),  # noqa: PLW0108 - it is made below
            clock=lambda: EPOCH,
            rng=random.Random(1),
            stopping=threading.Event(),
            take_orders=lambda topics: self.runner.subscribe(topics, topics),
        )
        settings = ManagerSettings(workloads=self._workloads, broker="mqtt://127.0.0.1:1")
        self.wiring: Wiring = build(context, settings, bindings)
        core = self.wiring.core
        self.store = Store(self._path, core.kinds, core.effects)
        self.runner = Runner(
            core, self.store, self.session, self.wiring.decode, self.wiring.performers,
            lambda: EPOCH, Metrics(), pause=lambda _seconds: None,
        )  # fmt: skip
        self.runner.subscribe(self.wiring.subscriptions, self.wiring.orders)
        self.runner.post(BindingsRead(EPOCH, bindings))
        self.session.start()

    def launch(self) -> None:
        """Let somebody publish a launching message."""
        self.broker.route(Publish("jobs/start", JOB))

    def run(self) -> None:
        """Take turns until all that came is dealt with."""
        self.runner.stop()
        self.runner.run()

    def unacknowledged(self) -> list[str]:
        """Return the topics of messages that the broker would deliver again."""
        return [entry.received.topic for entry in self.session._unacknowledged.values()]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Return a manager that has started and is connected."""
    house = House(tmp_path)
    house.open()
    yield house
    house.store.close()


def test_a_launching_message_is_acknowledged_after_its_commit(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the commit fails the broker keeps it (WIRE-016)."""
    house.launch()
    put = house.store.put

    def fail(key: Any, state: Any) -> None:
        if key[0] == "launch":
            raise OSError("disk full")
        put(key, state)

    monkeypatch.setattr(house.store, "put", fail)
    with pytest.raises(OSError, match="disk full"):
        house.run()
    assert house.unacknowledged() == ["jobs/start"]


def test_a_launching_message_is_acknowledged_once_it_is_launched(house: House) -> None:
    """It need not come again (WIRE-016)."""
    house.launch()
    house.run()
    assert house.unacknowledged() == []
    assert ("task", "j1:p1") in dict(house.store.load_states())


def test_a_launching_message_that_makes_the_core_raise_never_loops(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is set aside and acknowledged; unacknowledged, it would hold up all after it (WIRE-030).

    Regression: the core itself asked for the acknowledgement, so one that raised never did.
    """

    def planted(draft: Any, order: Any) -> None:
        if order.topic == "jobs/start":
            raise RuntimeError("planted")
        on_order(draft, order)

    handlers = {**core_module._HANDLERS, core_module.Ordered: planted}
    monkeypatch.setattr(core_module, "_HANDLERS", handlers)
    house.launch()
    house.run()
    assert house.unacknowledged() == []
    ((_, event, error),) = house.store.set_aside_events()
    assert "jobs/start" in event
    assert error == "RuntimeError('planted')"
