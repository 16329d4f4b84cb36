"""The properties of a PUBLISH as bytes, straight from MQTT 5.0, section 2.2.2.

A general encoder costs more than the rest of the work on a message, and a client that keeps
thousands of messages keeps as many tables of all properties there are.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final

_EXPIRY, _CONTENT_TYPE, _CORRELATION, _USER = 2, 3, 9, 38
_U32: Final = Struct("!BI")
_LENGTH: Final = Struct("!BH")
_INNER_LENGTH: Final = Struct("!H")


def pack_properties(
    user: Iterable[tuple[str, str]] = (),
    content_type: str | None = None,
    correlation: bytes | None = None,
    expiry_s: int | None = None,
) -> bytes:
    """Return properties with their length before them.

    Args:
        user: User properties, in order.
        content_type: Of the payload.
        correlation: Correlation data.
        expiry_s: Message expiry interval in seconds.
    """
    parts: list[bytes] = []
    if expiry_s is not None:
        parts.append(_U32.pack(_EXPIRY, expiry_s))
    if content_type is not None:
        parts.append(_lengthened(_CONTENT_TYPE, content_type.encode()))
    if correlation is not None:
        parts.append(_lengthened(_CORRELATION, correlation))
    parts += [_pair(name, value) for name, value in user]
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
