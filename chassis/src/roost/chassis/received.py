"""A message as it arrived."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it arrived, its topic without the configured prefix.

    Attributes:
        topic: Without the prefix.
        payload: The bytes.
        retain: Whether it comes from the broker's retained store (not: was sent so just now).
        content_type: MQTT 5 content type.
        properties: MQTT 5 user properties, in order.
        correlation: MQTT 5 correlation data.
        response_topic: MQTT 5 response topic, without the prefix.
        expiry_s: Seconds of life left, if limited.
    """

    topic: str
    payload: bytes = b""
    retain: bool = False
    content_type: str | None = None
    properties: tuple[tuple[str, str], ...] = ()
    correlation: bytes | None = None
    response_topic: str | None = None
    expiry_s: float | None = None

    def property(self, name: str) -> str | None:
        """Return the last user property of that name."""
        found = None
        for key, value in self.properties:
            if key == name:
                found = value
        return found
