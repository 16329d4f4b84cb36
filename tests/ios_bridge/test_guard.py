"""What a phone may send to the broker, held against packets that paho writes, and others."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from roost.ios_bridge.core.guard import MAX_PACKET, Framer, Guard, Packet, read_connect
from roost.ios_bridge.errors import GuardRefused

PREFIX = "house-7/"
V4, V5 = MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5
BOTH = pytest.mark.parametrize("version", [V4, V5])
ASLEEP = PREFIX + "ios/phone/up/asleep"


class Line:
    """A paho client on a pair of sockets: what it writes can be read, and CONNACK answered."""

    def __init__(self, version: MQTTProtocolVersion, **named: Any) -> None:
        ours, theirs = socket.socketpair()
        self._socket, self._framer = ours, Framer()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id="mine",
            protocol=version,
            **({} if version is V5 else {"clean_session": named.get("clean", True)}),
        )
        self.client._create_socket = lambda: theirs  # type: ignore[method-assign]
        if named.get("user", True):
            self.client.username_pw_set("phone", named.get("password", "secret"))
        if "will" in named:
            properties = None
            if version is V5:
                properties = Properties(PacketTypes.WILLMESSAGE)
                properties.WillDelayInterval = 15
            self.client.will_set(named["will"], b"bye", 1, named.get("retain", False), properties)
        more: dict[str, Any] = {}
        if version is V5:
            more["properties"] = Properties(PacketTypes.CONNECT)
            more["properties"].SessionExpiryInterval = 60
            more["clean_start"] = named.get("clean", True)
        self.client.connect("127.0.0.1", 1, **more)
        theirs.settimeout(None)
        self.first = self.packet()
        connack = b"\x20\x03\x00\x00\x00" if version is V5 else b"\x20\x02\x00\x00"
        ours.sendall(connack)
        self.client.loop_read()

    def packet(self) -> Packet:
        """Return the next packet that the client wrote."""
        self.client.loop_write()
        while True:
            for packet in self._framer.feed(self._socket.recv(1)):
                return packet

    def close(self) -> None:
        """Close both ends."""
        self._socket.close()
        with contextlib.suppress(OSError):
            self.client._sock_close()


@contextlib.contextmanager
def line(version: MQTTProtocolVersion, **named: Any) -> Iterator[Line]:
    """Return a line for the length of a block."""
    made = Line(version, **named)
    try:
        yield made
    finally:
        made.close()


@BOTH
def test_who_connects(version: MQTTProtocolVersion) -> None:
    """User name and password are the phone's; the will is on its own topic (PHONE-055)."""
    with line(version, will=ASLEEP) as made:
        login = read_connect(made.first)
    assert (login.device, login.password, login.will_topic) == ("phone", b"secret", ASLEEP)
    assert login.level == version
    Guard(login, PREFIX)


@BOTH
@pytest.mark.parametrize("names", [(None, None), ("phones", None), ("phones", "other")])
def test_the_broker_sees_the_phones_user(
    version: MQTTProtocolVersion, names: tuple[str | None, str | None]
) -> None:
    """Names are replaced; clean start, keep-alive and last will stay (PHONE-055)."""
    with line(version, will=ASLEEP) as made:
        login = read_connect(made.first)
    (again,) = Framer().feed(Guard(login, PREFIX).connect(*names))
    assert b"ios-phone" in again.body
    assert b"secret" not in again.body
    assert b"mine" not in again.body
    if names[1] is not None:
        back = read_connect(again)
        assert (back.device, back.password) == ("phones", b"other")
        assert (back.will, back.middle, back.keep) == (login.will, login.middle, login.keep)
    else:
        with pytest.raises(GuardRefused, match="user name"):
            read_connect(again)


@BOTH
@pytest.mark.parametrize(
    ("named", "why"),
    [
        ({"user": False}, "user name"),
        ({"clean": False}, "clean start"),
        ({"will": ASLEEP, "retain": True}, "not retained"),
    ],
)
def test_who_may_not_connect(version: MQTTProtocolVersion, named: dict[str, Any], why: str) -> None:
    """Without names, with an old session, with a will that stays (PHONE-055)."""
    with line(version, **named) as made, pytest.raises(GuardRefused, match=why):
        read_connect(made.first)


def test_a_will_on_another_topic() -> None:
    """It would be published in another's name (PHONE-055)."""
    with line(V5, will=PREFIX + "ios/other/up/asleep") as made:
        login = read_connect(made.first)
    with pytest.raises(GuardRefused, match="last will"):
        Guard(login, PREFIX)


@BOTH
@pytest.mark.parametrize("ending", ["state", "report", "asleep"])
def test_own_messages_pass(version: MQTTProtocolVersion, ending: str) -> None:
    """A phone speaks on its own topics (PHONE-055)."""
    with line(version) as made:
        guard = Guard(read_connect(made.first), PREFIX)
        made.client.publish(PREFIX + f"ios/phone/up/{ending}", b"x" * 300, qos=1)
        packet = made.packet()
        assert guard.check(packet) == packet.encode()


@BOTH
@pytest.mark.parametrize(
    "topic",
    ["ios/phone/up/state", PREFIX + "ios/other/up/state", PREFIX + "ios/phone/down/order",
     PREFIX + "tasks/launch", PREFIX + "proplets/phone/presence", PREFIX + "phones/invite"],
)  # fmt: skip
def test_other_messages_do_not(version: MQTTProtocolVersion, topic: str) -> None:
    """Not on another's topics, not on a proplet's, not beside the prefix (PHONE-055)."""
    with line(version) as made:
        guard = Guard(read_connect(made.first), PREFIX)
        made.client.publish(topic, b"x", qos=1)
        with pytest.raises(GuardRefused, match="a message on"):
            guard.check(made.packet())


def test_a_retained_message_does_not_pass() -> None:
    """A phone leaves nothing at the broker (PHONE-003, PHONE-055)."""
    with line(V5) as made:
        guard = Guard(read_connect(made.first), PREFIX)
        made.client.publish(PREFIX + "ios/phone/up/state", b"x", qos=1, retain=True)
        with pytest.raises(GuardRefused, match="retained"):
            guard.check(made.packet())


@BOTH
def test_subscriptions(version: MQTTProtocolVersion) -> None:
    """A phone reads its orders and nothing else (PHONE-055)."""
    with line(version) as made:
        guard = Guard(read_connect(made.first), PREFIX)
        made.client.subscribe(PREFIX + "ios/phone/down/order", qos=1)
        packet = made.packet()
        assert guard.check(packet) == packet.encode()
        for bad in ("#", PREFIX + "ios/other/down/order", PREFIX + "ios/+/down/order"):
            made.client.subscribe([(PREFIX + "ios/phone/down/order", 1), (bad, 1)])
            with pytest.raises(GuardRefused, match="a subscription"):
                guard.check(made.packet())


def test_an_empty_topic_is_an_alias_in_mqtt_5_alone() -> None:
    """It stands for a topic of this connection that passed before (PHONE-055)."""
    empty = Packet(3, 0, b"\x00\x00\x00payload")
    with line(V5) as made:
        assert Guard(read_connect(made.first), PREFIX).check(empty) == empty.encode()
    with line(V4) as made, pytest.raises(GuardRefused, match="a message on"):
        Guard(read_connect(made.first), PREFIX).check(empty)


@pytest.mark.parametrize("kind", [0, 1, 2, 9, 11, 13, 15])
def test_packets_that_no_phone_sends(kind: int) -> None:
    """A second CONNECT, packets of brokers, another way to log in (PHONE-055)."""
    with line(V5) as made:
        guard = Guard(read_connect(made.first), PREFIX)
    with pytest.raises(GuardRefused, match=f"type {kind}"):
        guard.check(Packet(kind, 0, b""))


def test_packets_without_topics_pass() -> None:
    """Acknowledgements, pings, goodbyes (PHONE-055)."""
    with line(V5) as made:
        guard = Guard(read_connect(made.first), PREFIX)
        made.client.unsubscribe(PREFIX + "ios/phone/down/order")
        packet = made.packet()
        assert guard.check(packet) == packet.encode()
    assert guard.check(Packet(12, 0, b"")) == b"\xc0\x00"


def connect(name: bytes = b"MQTT", level: int = 5, rest: bytes = b"\xc2\x00\x0f\x00") -> Packet:
    """Return a CONNECT of these parts."""
    return Packet(1, 0, struct.pack(">H", len(name)) + name + bytes([level]) + rest)


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (Packet(12, 0, b""), "no CONNECT"),
        (connect(name=b"MQIsdp", level=3), "neither"),
        (connect(level=6), "neither"),
        (connect(name=b"\xff\xfe"), "UTF-8"),
        (connect(), "ends before"),
        (connect(rest=b"\xc2\x00\x0f\x80\x80\x80\x80\x01"), "more than four"),
        (connect(rest=b"\xc2\x00\x0f\x80\x01"), "ends before"),
    ],
)  # fmt: skip
def test_packets_that_are_none(packet: Packet, why: str) -> None:
    """What cannot be read is refused (PHONE-055)."""
    with pytest.raises(GuardRefused, match=why):
        read_connect(packet)


def test_lengths() -> None:
    """A packet that is too long, and a length that never ends (PHONE-055)."""
    assert list(Framer().feed(b"\x30\xff\xff")) == []
    with pytest.raises(GuardRefused, match="four bytes"):
        list(Framer().feed(b"\x30\xff\xff\xff\xff\x01"))
    with pytest.raises(GuardRefused, match=f"{MAX_PACKET} at most"):
        list(Framer().feed(b"\x30\xff\xff\x7f"))


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
def test_packets_survive_any_cutting(bodies: list[bytes], size: int) -> None:
    """However the network cuts the stream, the same packets come out (PHONE-055)."""
    packets = [Packet(3, 2, body) for body in bodies]
    stream = b"".join(packet.encode() for packet in packets)
    framer = Framer()
    cut = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [packet for piece in cut for packet in framer.feed(piece)] == packets


@given(st.binary(max_size=60), st.integers(0, 15), st.integers(0, 15))
def test_no_bytes_do_more_than_be_refused(body: bytes, kind: int, flags: int) -> None:
    """Whatever a phone sends, it passes or is refused (PHONE-055)."""
    with contextlib.suppress(GuardRefused):
        read_connect(Packet(kind, flags, body))
    login = read_connect(
        connect(rest=b"\xc2\x00\x0f\x00" + b"\x00\x01i" + b"\x00\x05phone" + b"\x00\x01p")
    )
    packet = Packet(kind, flags, body)
    with contextlib.suppress(GuardRefused):
        assert Guard(login, PREFIX).check(packet) == packet.encode()
