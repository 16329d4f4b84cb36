"""Launch subscriptions, the folder of bindings, and the process's composition."""

import random
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Token
from roost.chassis.testing import MemoryBroker, MemorySession
from roost.manager import __main__ as process
from roost.manager.adapters.decode import CONTROL
from roost.manager.adapters.launches import LaunchSubscriptions
from roost.manager.adapters.wiring import build
from roost.manager.adapters.workloads import WorkloadsFolder
from roost.manager.bindings import Bindings, load
from roost.manager.core.events import (
    ApplyBindings,
    BindingsApplied,
    BindingsRead,
    BindingsRefused,
    ForwardDropped,
    ReadBindings,
)
from roost.manager.core.manager import ManagerCore
from roost.manager.settings import ManagerSettings

from .world import EACH_BINDING

AT = 5.0


class Launches:
    """Launch subscriptions on a broker in memory, and what came by them."""

    def __init__(self, *topics: str) -> None:
        self.broker = MemoryBroker()
        self.session: MemorySession = self.broker.session()
        self.session.start()
        self.arrived: list[tuple[str, bool]] = []
        self.take(topics)
        self.under_test = LaunchSubscriptions(self.session, self.take, topics)

    def take(self, topics: Sequence[str]) -> None:
        """Subscribe as the runner does for orders."""
        for topic in topics:
            self.session.subscribe(topic, self._arrive, as_published=True)

    def _arrive(self, received: Received, token: Token) -> None:
        self.session.ack(token)
        self.arrived.append((received.topic, received.retain))

    def send(self, topic: str, *, retain: bool = False) -> None:
        """Let somebody publish."""
        self.broker.route(Publish(topic, b"x", retain=retain))


def test_launch_topics_change() -> None:
    """Those that are gone, also of an earlier process, are left; the others are not touched."""
    launches = Launches("a", "b")
    launches.session.subscribe("old", lambda received, _token: pytest.fail(received.topic))
    launches.under_test.apply(["b", "c"], ["old", "b"])
    for topic in ("old", "a", "b", "c"):
        launches.send(topic)
    launches.send("c", retain=True)
    assert launches.arrived == [("b", False), ("c", False), ("c", True)]
    launches.under_test.apply(["b", "c"])
    assert len(launches.arrived) == 3, "what is subscribed is not asked for again"


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
        take_orders=lambda topics: pytest.fail(str(topics)),
    )
    settings = ManagerSettings(workloads=tmp_path, broker="mqtt://127.0.0.1:1")
    wiring = build(context, settings, bindings)
    assert set(wiring.performers) == set(ManagerCore().effects)
    assert wiring.subscriptions == [*(topic.filter for topic in CONTROL), "jobs/start"]
    assert "jobs/start" in wiring.orders
    assert set(wiring.orders) <= set(wiring.subscriptions)
    (beside,) = wiring.background
    beside.start()
    assert posted == [BindingsRead(AT, bindings)]
    forwarder: Any = beside
    assert forwarder._forwarder._plan.sources == ("jobs/+/results/+",)
    forwarder._forwarder._dropped("name", "why")
    assert posted[1:] == [ForwardDropped(AT, "name", "why")]
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
