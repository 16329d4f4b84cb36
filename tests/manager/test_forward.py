"""Where messages go, and the bytes of their properties."""

from io import BytesIO
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from roost.manager.core import forward
from roost.manager.core.forward import Plan, encode_properties, packet_bytes
from roost.wire.properties import varint

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
USER = st.lists(st.tuples(TEXT | st.just("source-topic"), TEXT), max_size=6)


def decoded(data: bytes) -> dict[str, Any]:
    """Read properties as paho does."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    _, length = properties.unpack(data)  # type: ignore[no-untyped-call]
    assert length == len(data)
    return {name: value for name, value in vars(properties).items() if name[0].isupper()}


@given(
    TEXT, USER, st.none() | TEXT, st.none() | st.binary(max_size=300),
    st.none() | st.integers(1, 2**32 - 1),
)  # fmt: skip
def test_properties(
    source: str,
    user: list[tuple[str, str]],
    content_type: str | None,
    correlation: bytes | None,
    expiry: int | None,
) -> None:
    """What is written is what an independent reader reads; of source-topics only ours is left.

    (FWD-002, FWD-003)
    """
    found = decoded(encode_properties(source, user, content_type, correlation, expiry))
    kept = [pair for pair in user if pair[0] != "source-topic"]
    assert found.pop("UserProperty") == [*kept, ("source-topic", source)]
    expected = {
        "ContentType": content_type,
        "CorrelationData": correlation,
        "MessageExpiryInterval": expiry,
    }
    assert found == {name: value for name, value in expected.items() if value is not None}


def packet(topic: str, properties: bytes, payload: bytes) -> bytes:
    """Write a QoS 1 PUBLISH by MQTT 5.0, section 3.3."""
    name = topic.encode()
    body = BytesIO()
    body.write(len(name).to_bytes(2, "big") + name + b"\x00\x01" + properties + payload)
    return b"\x32" + varint(len(body.getvalue())) + body.getvalue()


@given(TEXT, USER, st.integers(0, 20_000))
def test_packet_bytes(topic: str, user: list[tuple[str, str]], size: int) -> None:
    """The size is that of a packet written by the standard (FWD-006)."""
    properties = encode_properties("s", user)
    expected = len(packet(topic, properties, bytes(size)))
    assert packet_bytes(len(topic.encode()), len(properties), size) == expected


def test_plan() -> None:
    """All destinations of all rules that cover a topic, in their order."""
    plan = Plan([("a/+", "x"), ("a/+", "y"), ("b/#", "x")])
    assert plan.sources == ("a/+", "b/#")
    assert plan.targets("a/1") == ("x", "y")
    assert plan.targets("b") == ("x",)
    assert plan.targets("b/1/2") == ("x",)
    assert plan.targets("c") == ()
    assert plan.targets("a/1") == ("x", "y")
    assert Plan().targets("a") == ()


def test_plan_remembers_a_bounded_number_of_topics(monkeypatch: Any) -> None:
    """Topics without end do not fill the memory."""
    monkeypatch.setattr(forward, "_CACHED_TOPICS", 3)
    plan = Plan([("a/+", "x")])
    for _ in range(2):
        for i in range(10):
            assert plan.targets(f"a/{i}") == ("x",)
            assert len(plan._known) <= 3
