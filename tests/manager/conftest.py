"""Fixtures of the manager's tests."""

import pytest

from .world import EACH_BINDING, World, make_world


@pytest.fixture
def world() -> World:
    """Return a connected manager with one binding that launches a task for each device."""
    return make_world(EACH_BINDING)
