"""Messages to and from the packets of paho."""

from collections.abc import Mapping
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from roost.chassis.effects import Publish
from roost.chassis.received import Received

# A PUBLISH carries at most this much beside topic, payload, content type and user properties.
PACKET_OVERHEAD: Final = 64


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


def publish_properties(message: Publish, packet: int) -> Properties | None:
    """Return the MQTT 5 properties of a PUBLISH or of a last will, None if it needs none."""
    values: Mapping[str, Any] = {
        "ContentType": message.content_type,
        "CorrelationData": message.correlation,
        "MessageExpiryInterval": None
        if message.expiry_s is None
        else max(1, int(message.expiry_s)),
        "UserProperty": list(message.properties) or None,
    }
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return None
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in given.items():
        setattr(properties, name, value)
    return properties


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
