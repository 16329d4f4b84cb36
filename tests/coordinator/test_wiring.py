"""The coordinator's parts fit together: its settings, its core, its performers."""

import random
import threading
from pathlib import Path

import pytest
from roost.chassis.metrics import Metrics
from roost.chassis.service import Context
from roost.chassis.session import Session
from roost.chassis.store import Store
from roost.chassis.transfer import Fetcher
from roost.coordinator.__main__ import build, main
from roost.coordinator.core.desk import Desk
from roost.coordinator.core.facts import Keep
from roost.coordinator.settings import CoordinatorSettings

from .world import World


def test_every_effect_of_the_core_is_performed(tmp_path: Path) -> None:
    """The folder of the state is the only one it writes to."""
    settings = CoordinatorSettings(state_dir=tmp_path)
    rng = random.Random(1)
    session = Session(settings, "test", rng=rng, clean=True)
    context = Context(
        session=session,
        fetcher=Fetcher(session),
        metrics=Metrics(),
        clock=lambda: 0.0,
        rng=rng,
        post=lambda _event: None,
        take_orders=lambda _filters: None,
        stopping=threading.Event(),
    )
    wiring = build(settings, context)
    assert set(wiring.performers) == set(wiring.core.effects)
    assert {path.name for path in tmp_path.iterdir()} == {"models", "spool"}


def test_what_the_core_puts_can_be_stored_and_read_again(tmp_path: Path) -> None:
    """All kinds of states and effects survive the way through the file."""
    world = World()
    world.open(k=2)
    world.arrive("a")
    world.order("open", k=1)
    desk = Desk(Keep())
    store = Store(tmp_path / "s", desk.kinds, desk.effects)
    with store:
        for kind in desk.kinds:
            for id_, state in world.states.all(kind).items():
                store.put((kind, id_), state)
        for effect in world.effects:
            if isinstance(effect, desk.effects):
                store.add_to_outbox(effect)
    found = dict(store.load_states())
    assert found["round", "r"] == world.round("r")
    assert found["ledger", ""] == world.states.get("ledger", "")
    journalled = [entry.effect for entry in store.outbox()]
    assert journalled == [each for each in world.effects if isinstance(each, desk.effects)]
    store.close()


def test_a_wrong_setting_ends_it_with_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the variable."""
    monkeypatch.setenv("ROOST_KEEP_ROUNDS", "0")
    with pytest.raises(SystemExit):
        main()
    assert "ROOST_KEEP_ROUNDS" in capsys.readouterr().err
