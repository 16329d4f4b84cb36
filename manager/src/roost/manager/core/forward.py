"""Forwarding as data: where a message goes, and the MQTT properties it carries there.

Payload bytes are nobody's business here. Of the properties only content type, correlation data,
remaining expiry and user properties go along; every ``source-topic`` that came in is removed,
then one is added, so that the receiver can trust it.
"""

from collections.abc import Iterable
from typing import Final

from roost.wire.properties import pack_properties, varint
from roost.wire.topic import matches

SOURCE_TOPIC: Final = "source-topic"
_CACHED_TOPICS: Final = 10_000


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
    pairs = [(name, value) for name, value in user if name != SOURCE_TOPIC]
    pairs.append((SOURCE_TOPIC, source_topic))
    return pack_properties(pairs, content_type, correlation, expiry_s)


def packet_bytes(topic_bytes: int, properties: int, payload: int) -> int:
    """Return the size of a QoS 1 PUBLISH packet, from the sizes of its parts in bytes."""
    remaining = 2 + topic_bytes + 2 + properties + payload
    return 1 + len(varint(remaining)) + remaining
