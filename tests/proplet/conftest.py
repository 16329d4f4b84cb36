"""Fixtures of the proplet's tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from roost.proplet.guest import GuestOutcome, GuestRun, ModuleCache, run_guest

RunGuest = Callable[..., GuestOutcome]


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> ModuleCache:
    """Return one module cache for all tests: a guest is compiled once."""
    return ModuleCache(tmp_path_factory.mktemp("modules"))


@pytest.fixture
def run(tmp_path: Path, modules: ModuleCache) -> RunGuest:
    """Return a function that runs a guest's bytes; keywords go to GuestRun and run_guest."""

    def go(wasm: bytes, **more: Any) -> GuestOutcome:
        image = tmp_path / "guest.wasm"
        image.write_bytes(wasm)
        to_run = {name: more.pop(name) for name in list(more) if name not in _RUN_GUEST}
        order = GuestRun(image=image, out=tmp_path / "out", stdout=tmp_path / "stdout", **to_run)
        return run_guest(order, modules, **more)

    return go


_RUN_GUEST = ("stopper", "on_progress", "on_output")
