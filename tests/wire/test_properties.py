"""The properties of a PUBLISH as bytes, read by an independent reader."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from roost.chassis.effects import Publish
from roost.chassis.packets import publish_properties
from roost.wire.properties import pack_properties, varint

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
USER = st.lists(st.tuples(TEXT, TEXT), max_size=6)


@given(
    USER,
    st.none() | TEXT,
    st.none() | st.binary(max_size=300),
    st.none() | st.integers(1, 2**32 - 1),
)
def test_what_is_written_is_what_another_reads(
    user: list[tuple[str, str]],
    content_type: str | None,
    correlation: bytes | None,
    expiry: int | None,
) -> None:
    """All properties that Roost sends, in a PUBLISH and in a last will."""
    data = pack_properties(user, content_type, correlation, expiry)
    expected = {
        "ContentType": content_type,
        "CorrelationData": correlation,
        "MessageExpiryInterval": expiry,
        "UserProperty": user or None,
    }
    wanted = {name: value for name, value in expected.items() if value is not None}
    for packet in (PacketTypes.PUBLISH, PacketTypes.WILLMESSAGE):
        properties = Properties(packet)  # type: ignore[no-untyped-call]
        _, length = properties.unpack(data)  # type: ignore[no-untyped-call]
        assert length == len(data)
        found: dict[str, Any] = vars(properties)
        assert {name: value for name, value in found.items() if name[0].isupper()} == wanted


def test_a_message_without_properties_carries_none() -> None:
    """And fractions of a second of life are one whole second."""
    assert publish_properties(Publish("t", b"x")) is None
    short = publish_properties(Publish("t", b"x", expiry_s=0.2))
    assert short is not None
    assert short.pack() == pack_properties(expiry_s=1)
    assert str(short) == "[6 bytes]"


def test_varint() -> None:
    """The examples of MQTT 5.0, table 1-1."""
    assert varint(0) == b"\x00"
    assert varint(127) == b"\x7f"
    assert varint(128) == b"\x80\x01"
    assert varint(16_383) == b"\xff\x7f"
    assert varint(16_384) == b"\x80\x80\x01"
    assert varint(268_435_455) == b"\xff\xff\xff\x7f"
