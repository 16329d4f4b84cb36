"""Fixtures of the manager's tests."""

import random
from collections.abc import Callable, Iterator

import pytest
from roost.chassis.settings import BrokerSettings
from roost.manager.adapters.connection import Login
from roost.manager.adapters.forwarder import Forwarder

from ..conftest import Mosquitto  # noqa: TID252 - the tests are no package
from .client import DEADLINE_S, Client
from .forwarding import RULES, Drops
from .world import EACH_BINDING, World, make_world


@pytest.fixture
def world() -> World:
    """Return a connected manager with one binding that launches a task for each device."""
    return make_world(EACH_BINDING)


@pytest.fixture
def drops() -> Drops:
    """Return what hears of drops."""
    return Drops()


@pytest.fixture
def make_forwarder(broker: Mosquitto, drops: Drops) -> Iterator[Callable[..., Forwarder]]:
    """Return a function that starts a forwarder; all are stopped in the end."""
    made: list[Forwarder] = []

    def make(*rules: tuple[str, str], prefix: str = "", port: int = broker.port) -> Forwarder:
        settings = BrokerSettings(broker=f"mqtt://127.0.0.1:{port}", topic_prefix=prefix)
        forwarder = Forwarder(
            settings, Login(), rng=random.Random(1), dropped=drops, fatal=pytest.fail
        )
        forwarder.apply(rules or RULES)
        forwarder.start()
        made.append(forwarder)
        assert forwarder.wait_connected(DEADLINE_S)
        # What was sent on connecting is in force once the broker answers what comes after it.
        assert forwarder.apply((*(rules or RULES), ("ready", "readied"))) is None
        return forwarder

    yield make
    for forwarder in made:
        forwarder.stop()


@pytest.fixture
def client(broker: Mosquitto) -> Iterator[Client]:
    """Return a client that sees what is forwarded to `all`."""
    with Client(broker.port) as connected:
        connected.subscribe("all")
        yield connected
