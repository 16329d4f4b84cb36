"""The model server's parts fit together: its settings, its core, its performers."""

import random
import threading
from pathlib import Path

import pytest
from roost.chassis.metrics import Metrics
from roost.chassis.service import Context
from roost.chassis.session import Session
from roost.chassis.transfer import Fetcher
from roost.model_server.__main__ import build, main
from roost.model_server.settings import ModelServerSettings


def test_every_effect_of_the_core_is_performed(tmp_path: Path) -> None:
    """The folder of the state is the only one it writes to."""
    settings = ModelServerSettings(state_dir=tmp_path)
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
    assert {path.name for path in tmp_path.iterdir()} == {"models", "incoming"}


def test_a_wrong_setting_ends_it_with_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the variable."""
    monkeypatch.setenv("ROOST_KEEP_VERSIONS", "0")
    with pytest.raises(SystemExit):
        main()
    assert "ROOST_KEEP_VERSIONS" in capsys.readouterr().err
