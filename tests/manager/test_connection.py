"""The forwarder's connection: refusals, losses, and who else uses it (real broker)."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from roost.chassis.settings import BrokerSettings
from roost.manager.adapters.connection import Login
from roost.manager.adapters.forwarder import Forwarder

from .. import conftest as broker_setup  # noqa: TID252 - the tests are no package
from ..conftest import Mosquitto  # noqa: TID252 - the tests are no package
from .client import DEADLINE_S, Client
from .forwarding import RULES, Drops

pytestmark = pytest.mark.system


def test_it_comes_back(broker: Mosquitto, make_forwarder: Callable[..., Forwarder]) -> None:
    """A broker that was killed forgot everything: the filters are subscribed again (WIRE-017)."""
    forwarder = make_forwarder()
    for _ in range(2):
        broker.kill()
        broker.start()
        assert forwarder.wait_connected(DEADLINE_S)
        with Client(broker.port) as client:
            client.subscribe("all", "readied")
            _publish_until_readied(client)
            client.publish("in/a/out", b"x")
            assert client.wait("all").payload == b"x"


def _publish_until_readied(client: Client) -> None:
    """Publish on a topic that is forwarded until one arrives: then all filters are in force."""
    for _ in range(100):
        client.publish("ready", b"")
        try:
            client.wait("readied", patience_s=0.2)
        except AssertionError:
            continue
        return
    pytest.fail("nothing is forwarded")


@pytest.fixture
def strict_broker(
    make_broker: Callable[[], Mosquitto], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Mosquitto:
    """Return a broker that lets everybody use `in/#` and `all` only."""
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite in/#\ntopic readwrite all\n")
    user = "user root\n" if tmp_path.owner() == "root" else ""
    monkeypatch.setattr(broker_setup, "CONFIG", f"{broker_setup.CONFIG}{user}acl_file {acl}\n")
    return make_broker()


def test_a_copy_that_the_broker_refuses(
    strict_broker: Mosquitto, drops: Drops, make_forwarder: Callable[..., Forwarder]
) -> None:
    """It is dropped and told (FWD-006)."""
    make_forwarder(("in/+/out", "forbidden"), ("in/last", "all"), port=strict_broker.port)
    with Client(strict_broker.port) as client:
        client.subscribe("all")
        client.publish("in/a/out", b"x")
        client.publish("in/last", b"y")
        assert client.wait("all").payload == b"y"
    ((name, why),) = drops.wait(1)
    assert name == "forward_refused"
    assert "in/a/out: the broker refused it: Not authorized" in why


def test_one_that_fails_does_not_come_again(
    client: Client, drops: Drops, make_forwarder: Callable[..., Forwarder], monkeypatch: Any
) -> None:
    """It is dropped and told (FWD-006)."""
    forwarder = make_forwarder()
    plan = forwarder._plan

    class Broken:
        def targets(self, topic: str) -> tuple[str, ...]:
            if topic == "in/bad/out":
                raise RuntimeError("boom")
            return plan.targets(topic)

    monkeypatch.setattr(forwarder, "_plan", Broken())
    client.publish("in/bad/out", b"x")
    client.publish("in/a/out", b"y")
    assert client.wait("all").payload == b"y"
    assert drops.wait(1) == [("forward_failed", "RuntimeError('boom')")]


def test_no_broker_yet(broker: Mosquitto, drops: Drops) -> None:
    """It waits for a broker that starts later."""
    broker.kill()
    settings = BrokerSettings(broker=broker.url)
    forwarder = Forwarder(settings, Login(), rng=random.Random(1), dropped=drops, fatal=pytest.fail)
    forwarder.apply(RULES)
    forwarder.start()
    assert not forwarder.wait_connected(0.3)
    broker.start()
    assert forwarder.wait_connected(DEADLINE_S)
    forwarder.stop()


def test_a_session_taken_over_ends_the_process() -> None:
    """By the reason code of MQTT 5; mosquitto 2.0.11 hangs up without one (WIRE-018, FWD-008)."""
    heard: list[str] = []
    forwarder = Forwarder(
        BrokerSettings(), Login(), rng=random.Random(1), dropped=Drops(), fatal=heard.append
    )
    flags = paho.DisconnectFlags(is_disconnect_packet_from_server=True)
    reason = ReasonCode(PacketTypes.DISCONNECT, "Session taken over")
    forwarder._connection._on_disconnect(paho.Client(CallbackAPIVersion.VERSION2), None, flags,
                                         reason, None)  # fmt: skip
    (why,) = heard
    assert why.startswith("another process connected as 'manager-fwd'")


def test_two_that_take_turns_end_the_process(broker: Mosquitto, drops: Drops) -> None:
    """Mosquitto 2.0 says nothing: connections that never last mean the same."""
    heard: list[str] = []
    ended = threading.Event()

    def fatal(reason: str) -> None:
        heard.append(reason)
        ended.set()

    settings = BrokerSettings(broker=broker.url)
    forwarder = Forwarder(settings, Login(), rng=random.Random(1), dropped=drops, fatal=fatal)
    forwarder.start()
    assert forwarder.wait_connected(DEADLINE_S)
    with Client(broker.port, name="manager-fwd", reconnect_s=0.05):
        assert ended.wait(DEADLINE_S)
        forwarder.stop()
    assert "another process connected as 'manager-fwd'" in heard[0]
