"""Launch subscriptions, the folder of bindings, and the process's composition."""

import random
import threading
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from roost.chassis.effects import Publish
from roost.chassis.testing import MemoryBroker, MemorySession
from roost.manager import __main__ as process
from roost.manager.adapters.decode import CONTROL
from roost.manager.adapters.launches import LaunchSubscriptions
from roost.manager.adapters.wiring import build
from roost.manager.adapters.workloads import WorkloadsFolder
from roost.manager.bindings import Bindings, load
from roost.manager.core.events import (
    Acknowledge,
    ApplyBindings,
    BindingsApplied,
    BindingsRead,
    BindingsRefused,
    ForwardDropped,
    Ordered,
    ReadBindings,
)
from roost.manager.core.manager import ManagerCore
from roost.manager.settings import ManagerSettings

from .world import EACH_BINDING

AT = 5.0


class Launches:
    """Launch subscriptions on a broker in memory, and what came by them."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.session: MemorySession = self.broker.session()
        self.session.start()
        self.arrived: list[Ordered] = []
        self.under_test = LaunchSubscriptions(
            self.session, self.arrived.append, lambda: AT, random.Random(1)
        )

    def send(self, topic: str) -> None:
        """Let somebody publish."""
        self.broker.route(Publish(topic, b"x", correlation=b"c"))

    def again(self) -> None:
        """Lose and regain the connection: what was not acknowledged comes again."""
        self.arrived.clear()
        self.session.drop()
        self.session.start()


def test_a_launching_message_comes_again_until_it_is_acknowledged() -> None:
    """The broker may forget it only once its outcome is committed."""
    launches = Launches()
    launches.under_test.apply(["a/+"])
    launches.send("a/1")
    (order,) = launches.arrived
    assert (order.at, order.topic, order.payload, order.correlation) == (AT, "a/1", b"x", b"c")
    launches.again()
    (order,) = launches.arrived
    assert order.receipt is not None
    launches.under_test.acknowledge(Acknowledge("a receipt of an earlier process"))
    launches.again()
    (order,) = launches.arrived
    launches.under_test.acknowledge(Acknowledge(order.receipt or ""))
    launches.again()
    assert launches.arrived == []


def test_launch_topics_change() -> None:
    """Those that are gone, also of an earlier process, are left."""
    launches = Launches()
    launches.session.subscribe("old", lambda received, _token: pytest.fail(received.topic))
    launches.under_test.apply(["a", "b"], ["old"])
    launches.under_test.apply(["b", "c"])
    for topic in ("old", "a", "b", "c"):
        launches.send(topic)
    assert [order.topic for order in launches.arrived] == ["b", "c"]


class Applied:
    """Notes what it is told to apply."""

    def __init__(self, problem: str | None = None) -> None:
        self.told: list[Any] = []
        self._problem = problem

    def apply(self, wanted: Iterable[Any], gone: Iterable[str] = ()) -> Any:
        """Note it."""
        self.told.append((list(wanted), list(gone)))
        return self._problem


def test_the_folder_is_read_again(tmp_path: Path) -> None:
    """The latest good bindings are applied, whatever the folder holds now (BIND-001)."""
    launches, forwards = Applied(), Applied("not authorized")
    folder = WorkloadsFolder(tmp_path, Bindings(), launches, forwards, lambda: AT)
    (tmp_path / "a.toml").write_text(EACH_BINDING)
    assert folder.read(ReadBindings("r1")) == (BindingsRead(AT, load(tmp_path), "r1"),)
    (tmp_path / "a.toml").write_text("x = 1")
    why = "a.toml:1: unknown key 'x'; known: launch, forward"
    assert folder.read(ReadBindings("r2")) == (BindingsRefused(AT, why, "r2"),)
    effect = ApplyBindings(launches_gone=("l",), forwards_gone=("f",), reload_id="r1")
    assert folder.apply(effect) == (BindingsApplied(AT, "r1", "not authorized"),)
    assert launches.told == [(["jobs/start"], ["l"])]
    assert forwards.told == [([("jobs/+/results/+", "results")], ["f"])]


def test_composition(tmp_path: Path) -> None:
    """Every effect of the core has its function; bindings come before any message."""
    (tmp_path / "a.toml").write_text(EACH_BINDING)
    bindings = load(tmp_path)
    launches = Launches()
    posted: list[Any] = []
    context: Any = SimpleNamespace(
        session=launches.session,
        post=posted.append,
        clock=lambda: AT,
        rng=random.Random(1),
        stopping=threading.Event(),
    )
    settings = ManagerSettings(workloads=tmp_path, broker="mqtt://127.0.0.1:1")
    wiring = build(context, settings, bindings)
    assert set(wiring.performers) == set(ManagerCore().effects)
    assert wiring.subscriptions == [topic.filter for topic in CONTROL]
    launches.send("jobs/start")
    assert [type(event) for event in posted] == [Ordered]
    (beside,) = wiring.background
    beside.start()
    assert posted[1:] == [BindingsRead(AT, bindings)]
    forwarder: Any = beside
    forwarder._forwarder._dropped("name", "why")
    assert posted[2:] == [ForwardDropped(AT, "name", "why")]
    heard: list[str] = []
    launches.session.on_fatal = heard.append
    forwarder._forwarder._connection._say_taken_over()
    assert len(heard) == 1
    beside.stop()


def test_main_refuses_bad_bindings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it opens anything (BIND-001)."""
    (tmp_path / "a.toml").write_text("x = 1")
    monkeypatch.setenv("ROOST_WORKLOADS", str(tmp_path))
    monkeypatch.setenv("ROOST_STATE_DIR", str(tmp_path / "state"))
    assert process.main() == 2
    assert "a.toml:1: unknown key 'x'" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_main_serves_what_it_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chassis gets the service's name, its settings and the parts' builder."""
    (tmp_path / "a.toml").write_text(EACH_BINDING)
    monkeypatch.setenv("ROOST_WORKLOADS", str(tmp_path))
    monkeypatch.setattr(process, "build", lambda _context, settings, bindings: (settings, bindings))
    monkeypatch.setattr(process, "serve", lambda name, _settings, make: (name, make(None)))
    served: Any = process.main()
    name, (settings, bindings) = served
    assert (name, settings.workloads, bindings) == ("manager", tmp_path, load(tmp_path))
