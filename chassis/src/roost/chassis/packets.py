"""Messages to and from the packets of paho."""

from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.wire.properties import pack_properties

# A PUBLISH carries at most this much beside topic, payload, content type and user properties.
PACKET_OVERHEAD: Final = 64
_NONE: Final = b"\0"


def packet_bytes(prefix: str, message: Publish) -> int:
    """Return an upper bound of a PUBLISH packet's size in bytes."""
    properties = sum(
        len(name.encode()) + len(value.encode()) + 5 for name, value in message.properties
    )
    return (
        len(prefix.encode())
        + len(message.topic.encode())
        + len(message.payload)
        + len((message.content_type or "").encode())
        + len(message.correlation or b"")
        + properties
        + PACKET_OVERHEAD
    )


class Packed(Properties):
    """Properties that are bytes already; paho's own are tables of 6 kB."""

    _data: bytes

    def __init__(self, data: bytes) -> None:
        object.__setattr__(self, "_data", data)

    def pack(self) -> bytes:
        """Return the bytes, their length before them."""
        return self._data

    def __str__(self) -> str:
        return f"[{len(self._data)} bytes]"


def publish_properties(message: Publish) -> Packed | None:
    """Return the MQTT 5 properties of a PUBLISH or of a last will, None if it needs none."""
    expiry = None if message.expiry_s is None else max(1, int(message.expiry_s))
    data = pack_properties(message.properties, message.content_type, message.correlation, expiry)
    return None if data == _NONE else Packed(data)


def received_from(message: paho.MQTTMessage, prefix: str) -> Received | None:
    """Return an arrived message without the prefix, None if its topic has another."""
    topic = message.topic
    if not topic.startswith(prefix):
        return None
    properties = message.properties
    response = getattr(properties, "ResponseTopic", None)
    return Received(
        topic=topic[len(prefix) :],
        payload=bytes(message.payload),
        retain=message.retain,
        content_type=getattr(properties, "ContentType", None),
        properties=tuple(getattr(properties, "UserProperty", ())),
        correlation=getattr(properties, "CorrelationData", None),
        response_topic=response.removeprefix(prefix) if response else None,
        expiry_s=getattr(properties, "MessageExpiryInterval", None),
    )
