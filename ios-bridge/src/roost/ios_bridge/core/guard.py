"""What a phone may send to the broker: MQTT 3.1.1 and 5, as far as a guard must read it.

The bridge hands a phone's bytes on to the broker under the phones' own user, so that the broker
needs no account for each. The guard therefore lets a phone speak on its own topics only. It reads
packets' headers and topics, nothing else; payloads go through as they are.

Sections are those of the MQTT 5.0 specification; 3.1.1 differs by its properties, which it lacks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from roost.ios_bridge.errors import GuardRefused
from roost.protocol.phone import topics

MAX_PACKET: Final = 1_048_576
CONNECT, PUBLISH, SUBSCRIBE = 1, 3, 8
_PASSES: Final = frozenset({4, 5, 6, 7, 10, 12, 14})
"""PUBACK, PUBREC, PUBREL, PUBCOMP, UNSUBSCRIBE, PINGREQ, DISCONNECT."""
_LEVELS: Final = (4, 5)
_LENGTH_BYTES: Final = 4
_USER, _PASSWORD, _WILL_RETAIN, _WILL, _CLEAN = 0x80, 0x40, 0x20, 0x04, 0x02
_RETAIN: Final = 0x01
_PACKET_ID: Final = 2


@dataclass(frozen=True, slots=True)
class Packet:
    """One control packet.

    Attributes:
        kind: Its type (2.1.2).
        flags: The lower four bits of its first byte (2.1.3).
        body: All after the fixed header.
    """

    kind: int
    flags: int
    body: bytes

    def encode(self) -> bytes:
        """Return its bytes."""
        return bytes([self.kind << 4 | self.flags]) + _length(len(self.body)) + self.body


@dataclass(frozen=True, slots=True)
class Login:
    """Who a phone says it is.

    Attributes:
        device: User name.
        password: Its password.
        level: Protocol level: 4 or 5.
        keep: The variable header's flags that are not about names (clean start, will).
        middle: Keep-alive and properties, as they came.
        will: The will's properties, topic and payload, as they came.
        will_topic: The will's topic; empty: there is none.
    """

    device: str
    password: bytes
    level: int
    keep: int
    middle: bytes
    will: bytes
    will_topic: str


class Framer:
    """Cuts a stream of bytes into packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield the packets that are whole by now.

        Raises:
            GuardRefused: a packet is longer than a phone's may be.
        """
        self._buffer += data
        while (packet := self._take()) is not None:
            yield packet

    def _take(self) -> Packet | None:
        buffer, size, shift = self._buffer, 0, 0
        for at in range(1, 1 + _LENGTH_BYTES):
            if at >= len(buffer):
                return None
            size |= (buffer[at] & 0x7F) << shift
            shift += 7
            if not buffer[at] & 0x80:
                break
        else:
            raise GuardRefused("a packet's length has more than four bytes")
        if size > MAX_PACKET:
            raise GuardRefused(f"a packet has {size} bytes, a phone's have {MAX_PACKET} at most")
        end = at + 1 + size
        if len(buffer) < end:
            return None
        packet = Packet(buffer[0] >> 4, buffer[0] & 0x0F, bytes(buffer[at + 1 : end]))
        del buffer[:end]
        return packet


class _Reader:
    """Reads a packet's body from its begin."""

    def __init__(self, body: bytes) -> None:
        self._body, self.at = body, 0

    @property
    def left(self) -> bool:
        return self.at < len(self._body)

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self._body):
            raise GuardRefused("a packet ends before its fields do")
        found, self.at = self._body[self.at : end], end
        return found

    def binary(self) -> bytes:
        return self.take(int.from_bytes(self.take(2), "big"))

    def text(self) -> str:
        try:
            return self.binary().decode()
        except UnicodeDecodeError:
            raise GuardRefused("a text is not UTF-8") from None

    def properties(self) -> None:
        """Skip properties (2.2.2)."""
        size, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
            if shift > 7 * (_LENGTH_BYTES - 1):
                raise GuardRefused("properties' length has more than four bytes")
        self.take(size)

    def since(self, begin: int) -> bytes:
        return self._body[begin : self.at]


def read_connect(packet: Packet) -> Login:
    """Read who wants to connect (3.1).

    Raises:
        GuardRefused: it is no CONNECT that a phone may send.
    """
    if packet.kind != CONNECT:
        raise GuardRefused("the first packet is no CONNECT")
    read = _Reader(packet.body)
    name, level, flags = read.text(), read.take(1)[0], read.take(1)[0]
    if name != "MQTT" or level not in _LEVELS:
        raise GuardRefused("this is neither MQTT 3.1.1 nor 5")
    if not flags & _CLEAN:
        raise GuardRefused("a phone connects with a clean start: old orders are no orders")
    begin = read.at
    read.take(2)
    if level == max(_LEVELS):
        read.properties()
    middle = read.since(begin)
    read.binary()
    will, will_topic = _read_will(read, level, flags)
    if not (flags & _USER and flags & _PASSWORD):
        raise GuardRefused("a phone connects with its device as user name, and its password")
    device, password = read.text(), read.binary()
    keep = flags & ~(_USER | _PASSWORD)
    return Login(device, password, level, keep, middle, will, will_topic)


def _read_will(read: _Reader, level: int, flags: int) -> tuple[bytes, str]:
    if not flags & _WILL:
        return b"", ""
    if flags & _WILL_RETAIN:
        raise GuardRefused("a phone's last will is not retained")
    begin = read.at
    if level == max(_LEVELS):
        read.properties()
    topic = read.text()
    read.binary()
    return read.since(begin), topic


class Guard:
    """Lets one phone speak on its own topics, and on no others.

    Attributes:
        login: Who it is.
        client_id: Its client id at the broker.
    """

    def __init__(self, login: Login, prefix: str) -> None:
        """Guard a phone whose password was found right.

        Args:
            login: What it sent.
            prefix: Goes before all topics.

        Raises:
            GuardRefused: its last will is on a topic that is not its own.
        """
        device = login.device
        self.login, self.client_id = login, f"ios-{device}"
        self._level = login.level
        asleep = prefix + topics.ASLEEP.format(device=device)
        if login.will_topic not in ("", asleep):
            raise GuardRefused(f"{device}: a last will on {login.will_topic:.100}")
        own = (topics.STATE, topics.REPORT, topics.ASLEEP)
        self._writes = {prefix + row.format(device=device) for row in own}
        self._reads = prefix + topics.ORDER.format(device=device)

    def connect(self, user: str | None, password: str | None) -> bytes:
        """Return the CONNECT that goes to the broker, with the phones' own user."""
        flags = self.login.keep
        names = b""
        if user is not None:
            flags |= _USER
            names += _field(user.encode())
        if user is not None and password is not None:
            flags |= _PASSWORD
            names += _field(password.encode())
        head = _field(b"MQTT") + bytes([self._level, flags]) + self.login.middle
        body = head + _field(self.client_id.encode()) + self.login.will + names
        return Packet(CONNECT, 0, body).encode()

    def check(self, packet: Packet) -> bytes:
        """Return the bytes of a packet that may pass.

        Raises:
            GuardRefused: it may not.
        """
        if packet.kind == PUBLISH:
            self._check_publish(packet)
        elif packet.kind == SUBSCRIBE:
            self._check_subscribe(packet)
        elif packet.kind not in _PASSES:
            raise GuardRefused(f"{self.login.device}: a packet of type {packet.kind}")
        return packet.encode()

    def _check_publish(self, packet: Packet) -> None:
        topic = _Reader(packet.body).text()
        # MQTT 5: an empty topic stands for one of this connection that was looked at before.
        known = not topic and self._level == max(_LEVELS)
        if not known and topic not in self._writes:
            raise GuardRefused(f"{self.login.device}: a message on {topic:.100}")
        if packet.flags & _RETAIN:
            raise GuardRefused(f"{self.login.device}: a retained message")

    def _check_subscribe(self, packet: Packet) -> None:
        read = _Reader(packet.body)
        read.take(_PACKET_ID)
        if self._level == max(_LEVELS):
            read.properties()
        while read.left:
            topic_filter = read.text()
            read.take(1)
            if topic_filter != self._reads:
                raise GuardRefused(f"{self.login.device}: a subscription to {topic_filter:.100}")


def _field(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


def _length(size: int) -> bytes:
    """Return a variable byte integer (1.5.5)."""
    found = bytearray()
    while True:
        size, byte = size >> 7, size & 0x7F
        found.append(byte | (0x80 if size else 0))
        if not size:
            return bytes(found)
