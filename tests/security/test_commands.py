"""`roost` commands of people with rights: what a viewer may, and operators at the same time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr
from roost.chassis.settings import BrokerSettings
from roost.cli.errors import CliError
from roost.cli.wire_client import Wire

from .conftest import Client, Secured

pytestmark = pytest.mark.system

Connect = Callable[..., Client]


def settings(broker: Secured, user: str) -> BrokerSettings:
    """How a person connects."""
    return BrokerSettings(
        broker=broker.site.people_url if user == "operator" else broker.site.url,
        username=user,
        password=SecretStr(broker.passwords[user]),
        ca_file=broker.authority,
    )


def test_viewer_looks_and_gives_no_orders(shared: Secured, connect: Connect) -> None:
    """Lists work with a viewer's rights; an order says that it is refused (BROKER-004)."""
    device = connect(shared, "p1")
    device.publish("proplets/p1/presence", b"here", retain=True)
    with Wire.connect_as(settings(shared, "eye")) as wire:
        found = wire.collect("proplets/+/presence", "fl/rounds/+/state")
        assert [each.topic for each in found] == ["proplets/p1/presence"]
        with pytest.raises(CliError, match="Not authorized"):
            wire.publish("fl/rounds/start", b"{}")
    device.publish("proplets/p1/presence", b"", retain=True)


def test_commands_of_one_operator_at_once_do_not_mix(shared: Secured, connect: Connect) -> None:
    """Each finds all, though each hears the others' messages to themselves (BROKER-003)."""
    manager = connect(shared, "manager")
    states = [f"tasks/t{number}/state" for number in range(50)]
    for topic in states:
        manager.publish(topic, b"running", retain=True)

    def listed(_number: int) -> int:
        with Wire.connect_as(settings(shared, "operator")) as wire:
            return len(wire.collect("tasks/+/state"))

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(listed, range(12))) == [len(states)] * 12
    for topic in states:
        manager.publish(topic, b"", retain=True)
