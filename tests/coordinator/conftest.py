"""Fixtures of the coordinator's tests."""

from pathlib import Path

import pytest
from roost.coordinator.adapters import performers as performers_module

from .bench import Bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return adapters that do not wait long for what is not there."""
    monkeypatch.setattr(performers_module, "FETCH_TIMEOUT_S", 0.05)
    return Bench(tmp_path)
