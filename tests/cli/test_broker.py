"""Which broker is chosen, how it is configured, and what is said when it cannot be had."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roost.cli.broker import BrokerPlan, find_mosquitto, parse_url, plan_broker
from roost.cli.broker.embedded import embedded_config
from roost.cli.broker.mosquitto import mosquitto_config
from roost.cli.errors import NoBroker, UsageProblem
from roost.cli.ports import Holder, free_port, holder_of, is_open
from roost.cli.state import StateDir
from roost.cli.wire_client import Wire


def test_auto_takes_mosquitto_where_it_is(state: StateDir) -> None:
    """Its own program is run with the configuration below the state folder."""
    port = free_port()
    plan = plan_broker("auto", port, state, find=lambda: "/usr/sbin/mosquitto")
    assert (plan.kind, plan.port, plan.v5_only) == ("mosquitto", port, False)
    assert plan.argv == ("/usr/sbin/mosquitto", "-c", str(state.broker / "mosquitto.conf"))
    assert f"listener {port} 127.0.0.1" in (state.broker / "mosquitto.conf").read_text()


def test_auto_falls_back_to_the_embedded_broker_and_says_what_it_lacks(state: StateDir) -> None:
    """One line, with the reason and the cost."""
    plan = plan_broker("auto", free_port(), state, find=lambda: None)
    assert (plan.kind, plan.v5_only) == ("embedded", True)
    assert "mosquitto is not installed" in plan.about
    assert "at most 100 retained messages" in plan.about
    assert "\n" not in plan.about


def test_mosquitto_that_is_not_there_is_a_usage_problem_with_a_cure(state: StateDir) -> None:
    """Asked for by name, so nothing else is taken instead."""
    with pytest.raises(UsageProblem, match="apt-get install mosquitto"):
        plan_broker("mosquitto", free_port(), state, find=lambda: None)


def test_no_broker_at_all(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither program nor wheel."""
    monkeypatch.setattr("roost.cli.broker.choice.embedded_version", lambda: None)
    with pytest.raises(NoBroker, match="neither mosquitto nor the embedded broker"):
        plan_broker("auto", free_port(), state, find=lambda: None)


def test_a_taken_port_says_who_holds_it_and_the_ways_out(state: StateDir) -> None:
    """The holder is this very process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(NoBroker) as caught:
            plan_broker("embedded", port, state)
    text = str(caught.value)
    assert f"port {port} is in use by pid {os.getpid()}" in text
    assert "pytest" in text
    assert f"`kill {os.getpid()}`" in text
    assert "--port" in text
    assert f"--broker mqtt://127.0.0.1:{port}" in text


def test_a_holder_that_may_not_be_looked_at_is_named_by_its_user(tmp_path: Path) -> None:
    """Another user's process shows its socket's uid and nothing else."""
    (tmp_path / "net").mkdir()
    row = "0: 0100007F:075B 00000000:0000 0A 0:0 00:0 0 0 0 4711 1 0 100 0 0 10 0"
    (tmp_path / "net" / "tcp").write_text(f"header\n  {row}\n")
    assert holder_of(0x075B, tmp_path) == Holder(None, "", "root")
    assert str(holder_of(0x075B, tmp_path)) == "a process of user root"
    assert holder_of(0x075C, tmp_path) is None


def test_a_listener_on_ipv6_is_found() -> None:
    """`::` takes IPv4 connections as well."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        found = holder_of(server.getsockname()[1])
    assert found is not None
    assert found.pid == os.getpid()


@given(port=st.integers(1, 65535), scheme=st.sampled_from(["mqtt", "mqtts"]))
def test_a_broker_url_is_taken_apart(port: int, scheme: str) -> None:
    """Scheme, host and port come back as they went in."""
    assert parse_url(f"{scheme}://broker.example:{port}") == (scheme, "broker.example", port)


def test_the_port_of_a_url_defaults_by_scheme() -> None:
    """1883, or 8883 with TLS."""
    assert parse_url("mqtt://h") == ("mqtt", "h", 1883)
    assert parse_url("mqtts://h") == ("mqtts", "h", 8883)


@pytest.mark.parametrize(
    "text", ["", "h:1883", "http://h", "mqtt://", "mqtt://h:x", "mqtt://h:70000"]
)
def test_what_is_no_broker_is_refused(text: str) -> None:
    """And the message lists what would be one."""
    with pytest.raises(UsageProblem, match="auto, embedded, mosquitto, mqtt://HOST"):
        parse_url(text)


def test_an_external_broker_must_answer(state: StateDir) -> None:
    """No half-started Roost."""
    with pytest.raises(NoBroker, match="nothing answers at"):
        plan_broker(f"mqtt://127.0.0.1:{free_port()}", 1, state)


def test_an_external_broker_is_not_started(state: StateDir, broker: BrokerPlan) -> None:
    """There is no process to run, and its port may of course be in use."""
    plan = plan_broker(broker.url, 1883, state)
    assert (plan.kind, plan.argv, plan.port) == ("external", (), broker.port)


def test_brokers_of_our_own_listen_on_loopback_only() -> None:
    """Nobody outside this machine reaches a broker without passwords."""
    assert 'listen = "127.0.0.1:1234"' in embedded_config(1234)
    assert "listener 1234 127.0.0.1\n" in mosquitto_config(Path("/state/broker"), 1234)
    assert embedded_config(1234).count("listen =") == 1


def test_mosquitto_keeps_what_it_has_acknowledged() -> None:
    """The measured limits: its defaults drop messages silently."""
    lines = mosquitto_config(Path("/s"), 1).splitlines()
    assert "max_queued_messages 1000000" in lines
    assert "persistence true" in lines
    assert "persistence_location /s/" in lines
    assert "max_packet_size 4194304" in lines


def test_a_folder_that_mosquitto_cannot_name_is_refused() -> None:
    """Its configuration has no quotes."""
    with pytest.raises(UsageProblem, match="--state"):
        mosquitto_config(Path("/tmp/a\nb"), 1)


def test_mosquitto_is_found_beside_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian installs it where an ordinary user's PATH does not look."""
    if not Path("/usr/sbin/mosquitto").exists():
        pytest.skip("mosquitto is not in /usr/sbin here")
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_mosquitto() == "/usr/sbin/mosquitto"


def test_both_brokers_keep_and_hand_out_retained_messages(broker: BrokerPlan) -> None:
    """Also with a path of spaces, user properties, and payloads beyond 20 KB."""
    payload = bytes(range(256)) * 4000
    with Wire.connect(broker.url) as wire:
        wire.publish("a/1/x", b"one", retain=True, expiry_s=None)
        wire.publish("a/2/x", payload, retain=True, expiry_s=None)
        wire.publish("a/3/y", b"no match", retain=True, expiry_s=None)
    with Wire.connect(broker.url) as wire:
        found = wire.collect("a/+/x")
        assert [(r.topic, r.payload) for r in found] == [("a/1/x", b"one"), ("a/2/x", payload)]
        assert wire.retained("a/4/x") is None


def test_a_blob_goes_out_and_comes_back(broker: BrokerPlan, tmp_path: Path) -> None:
    """In chunks, verified."""
    file = tmp_path / "app.wasm"
    file.write_bytes(os.urandom(700_000))
    with Wire.connect(broker.url) as wire:
        manifest = wire.offer(file)
        wire.send("orders", file.read_bytes() * 2)
    assert manifest.chunks == 3
    with Wire.connect(broker.url) as wire:
        topic = f"blobs/operator/{manifest.sha256}/manifest"
        assert wire.fetch(topic, 5) == file.read_bytes()


def test_nobody_listening_is_no_broker() -> None:
    """With a hint how to start one."""
    url = f"mqtt://127.0.0.1:{free_port()}"
    with pytest.raises(NoBroker, match="roost up"), Wire.connect(url):
        pass
    assert not is_open("127.0.0.1", int(url.rpartition(":")[2]))


def test_something_else_listening_is_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that accepts and says nothing."""
    monkeypatch.setattr("roost.cli.wire_client._CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(NoBroker, match="does not speak MQTT 5"), Wire.connect(url):
            pass
