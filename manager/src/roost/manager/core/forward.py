"""Forwarding as data: where a message goes, and the MQTT properties it carries there.

Payload bytes are nobody's business here. Of the properties only content type, correlation data,
remaining expiry and user properties go along; every ``source-topic`` that came in is removed,
then one is added, so that the receiver can trust it. The properties are written by hand, straight
from MQTT 5.0, section 2.2.2: a general encoder costs more than the rest of the work on a message.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final

from roost.wire.topic import matches

SOURCE_TOPIC: Final = "source-topic"
_CACHED_TOPICS: Final = 10_000
_EXPIRY, _CONTENT_TYPE, _CORRELATION, _USER = 2, 3, 9, 38
_U32: Final = Struct("!BI")
_LENGTH: Final = Struct("!BH")
_INNER_LENGTH: Final = Struct("!H")


class Plan:
    """Forward rules, ready for lookup.

    Attributes:
        sources: The filters to subscribe to, each once.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        """Prepare the lookup of (source filter, destination) pairs."""
        self._pairs = tuple(pairs)
        self._known: dict[str, tuple[str, ...]] = {}
        self.sources = tuple(dict.fromkeys(source for source, _ in self._pairs))

    def targets(self, topic: str) -> tuple[str, ...]:
        """Return the destinations of a message on this topic, in the rules' order."""
        known = self._known.get(topic)
        if known is not None:
            return known
        if len(self._known) >= _CACHED_TOPICS:
            self._known.clear()
        found = tuple(to for source, to in self._pairs if matches(source, topic))
        self._known[topic] = found
        return found


def encode_properties(
    source_topic: str,
    user: Iterable[tuple[str, str]] = (),
    content_type: str | None = None,
    correlation: bytes | None = None,
    expiry_s: int | None = None,
) -> bytes:
    """Return the properties of a forwarded PUBLISH, their length before them."""
    parts: list[bytes] = []
    if expiry_s is not None:
        parts.append(_U32.pack(_EXPIRY, expiry_s))
    if content_type is not None:
        parts.append(_lengthened(_CONTENT_TYPE, content_type.encode()))
    if correlation is not None:
        parts.append(_lengthened(_CORRELATION, correlation))
    parts += [_pair(name, value) for name, value in user if name != SOURCE_TOPIC]
    parts.append(_pair(SOURCE_TOPIC, source_topic))
    body = b"".join(parts)
    return varint(len(body)) + body


def _lengthened(identifier: int, data: bytes) -> bytes:
    return _LENGTH.pack(identifier, len(data)) + data


def _pair(name: str, value: str) -> bytes:
    encoded = value.encode()
    return _lengthened(_USER, name.encode()) + _INNER_LENGTH.pack(len(encoded)) + encoded


def varint(number: int) -> bytes:
    """Encode a variable byte integer (MQTT 5.0, section 1.5.5)."""
    encoded = bytearray()
    while True:
        number, low = divmod(number, 128)
        encoded.append(low | 128 if number else low)
        if not number:
            return bytes(encoded)


def packet_bytes(topic_bytes: int, properties: int, payload: int) -> int:
    """Return the size of a QoS 1 PUBLISH packet, from the sizes of its parts in bytes."""
    remaining = 2 + topic_bytes + 2 + properties + payload
    return 1 + len(varint(remaining)) + remaining
