"""Makes hostile payloads and topics of honest ones: a few changes each, some of them deep."""

import json
import random
from collections.abc import Callable
from typing import Any, Final

import msgpack

NUMBERS: Final = (
    *("0", "-0", "-1", "1", "1.0", "1e0", "0.5", "1e999", "-1e999", "NaN", "Infinity", "-Infinity"),
    *("9223372036854775807", "9223372036854775808", "18446744073709551616", "1e-400", "5e-324"),
    *("1000000000", "1000000001", "1.7976931348623157e308", "1" + "0" * 310, "9" * 5000, "01"),
)
TEXTS: Final = (
    *("", " ", "\\u0000", "\\ud800", "\\udfff\\ud800", "\\n", "a\\u0001b", "é", "\U0001f426"),
    *("x" * 65, "x" * 201, "x" * 5000, "../../etc/passwd", "a/b", "a:b", "+", "#", "$SYS/x"),
    *("fl/models/global_model_v0", "fl/models/global_model_v1", "__proto__", "%s%n", "{each}"),
)
OTHERS: Final = ("null", "true", "false", "[]", "{}", "[[[[]]]]", '{"a":{"a":{}}}', "[1,2]")
_BYTES: Final = (
    b"",
    b"\0",
    b"{",
    b"}",
    b"\xff",
    b"\xef\xbb\xbf",
    b"[" * 2000,
    b"\xdd\xff\xff\xff\xff",
)


class Raw:
    """JSON text that goes in as it is."""

    def __init__(self, text: str) -> None:
        self.text = text


def write(value: Any) -> str:
    """Write JSON; pairs may hold one name twice, raw text may be no JSON at all."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return "{" + ",".join(f"{json.dumps(name)}:{write(each)}" for name, each in value) + "}"
    if isinstance(value, dict):
        return write(list(value.items())) if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(write, value)) + "]"
    return json.dumps(value)


class Mutator:
    """Changes payloads by chance, the same for the same seed."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def payload(self, payload: bytes) -> bytes:
        """Return a changed payload; now and then an unchanged one."""
        made = payload
        for _ in range(self._rng.choice((0, 1, 1, 1, 2, 3))):
            made = self._rng.choice(self._ways(made))(made)
        return made

    def _ways(self, payload: bytes) -> list[Callable[[bytes], bytes]]:
        ways = [self._cut, self._flip, self._splice, self._double]
        if payload[:1] == b"{":
            return [*ways, *[self._json] * 12]
        if payload[:1] and payload[0] > 127:
            return [*ways, *[self._packed] * 12]
        return ways

    def _cut(self, payload: bytes) -> bytes:
        return payload[: self._rng.randrange(len(payload) + 1)]

    def _flip(self, payload: bytes) -> bytes:
        made = bytearray(payload or b"x")
        for _ in range(self._rng.choice((1, 1, 4))):
            made[self._rng.randrange(len(made))] = self._rng.randrange(256)
        return bytes(made)

    def _splice(self, payload: bytes) -> bytes:
        place = self._rng.choice((0, len(payload), self._rng.randrange(len(payload) + 1)))
        return payload[:place] + self._rng.choice(_BYTES) + payload[place:]

    def _double(self, payload: bytes) -> bytes:
        return payload + self._rng.choice((b"", b" ", b"\n")) + payload

    def _json(self, payload: bytes) -> bytes:
        try:
            value = json.loads(payload)
        except (ValueError, RecursionError):
            return self._flip(payload)
        return write(self._changed(value)).encode()

    def _scalar(self) -> Raw:
        kind = self._rng.random()
        if kind < 0.45:
            return Raw(self._rng.choice(NUMBERS))
        if kind < 0.8:
            return Raw(f'"{self._rng.choice(TEXTS)}"')
        if kind < 0.97:
            return Raw(self._rng.choice(OTHERS))
        depth = self._rng.choice((70, 250, 3000))
        return Raw("[" * depth + "]" * depth)

    def _changed(self, value: Any, depth: int = 0) -> Any:
        """Change one place of a value, somewhere below it."""
        if isinstance(value, dict) and value and self._rng.random() < 0.9:
            pairs = list(value.items())
            index = self._rng.randrange(len(pairs))
            name, inner = pairs[index]
            match self._rng.randrange(10):
                case 0:
                    del pairs[index]
                case 1:
                    pairs.append((name, self._scalar()))
                case 2:
                    pairs.append((self._rng.choice(("x", "v", name + "x", "é")), self._scalar()))
                case _:
                    pairs[index] = (name, self._changed(inner, depth + 1))
            return pairs or {}
        if isinstance(value, list) and value and self._rng.random() < 0.8:
            items = list(value)
            index = self._rng.randrange(len(items))
            match self._rng.randrange(6):
                case 0:
                    del items[index]
                case 1:
                    items += items[:1000]
                case _:
                    items[index] = self._changed(items[index], depth + 1)
            return items
        if isinstance(value, int | float) and self._rng.random() < 0.3:
            return value + self._rng.choice((-1, 1, 2, 1000))
        return self._scalar()

    def _packed(self, payload: bytes) -> bytes:
        try:
            value = msgpack.unpackb(payload)
        except Exception:  # noqa: BLE001 - it was broken before
            return self._flip(payload)
        if not isinstance(value, dict) or not value:
            return self._flip(payload)
        name = self._rng.choice(list(value))
        inner = value[name]
        if isinstance(inner, bytes) and self._rng.random() < 0.8:
            value[name] = self.tensors(inner)
        else:
            value[name] = self._rng.choice(
                (0, -1, 2**63, 2**64 - 1, 1.5, float("nan"), float("inf"), None, True, "", "x",
                 b"", [], {}, [[]] * 3, {"a": 1}, msgpack.Timestamp(1), msgpack.ExtType(5, b"x"))
            )  # fmt: skip
        return bytes(msgpack.packb(value))

    def tensors(self, file: bytes) -> bytes:
        """Return a safetensors file that lies, mostly in its header."""
        length = int.from_bytes(file[:8], "little")
        try:
            header = json.loads(file[8 : 8 + length])
        except (ValueError, RecursionError):
            return self._flip(file)
        start = 8 + length
        lies = (0, 1, length - 1, length + 1, 2**40, 2**63, 2**64 - 1)
        ways: tuple[Callable[[], bytes], ...] = (
            lambda: self._flip(file),
            lambda: self._cut(file),
            lambda: max(0, self._rng.choice(lies)).to_bytes(8, "little") + file[8:],
            lambda: file[:start] + self._poisoned(file[start:]),
            lambda: file + self._rng.choice((b"\0", b"\0" * 8)),
            *[lambda: self._with_header(self._lying(header), file[start:])] * 3,
        )
        return self._rng.choice(ways)()

    @staticmethod
    def _with_header(header: Any, data: bytes) -> bytes:
        text = write(header).encode()
        return len(text).to_bytes(8, "little") + text + data

    def _poisoned(self, data: bytes) -> bytes:
        made = bytearray(data or b"\0\0\0\0")
        place = self._rng.randrange(len(made) // 4 + 1) * 4
        made[place : place + 4] = self._rng.choice(
            (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x00\x00\x80\xff", b"\xff\xff\xff\xff")
        )
        return bytes(made[: len(data)])

    def _lying(self, header: Any) -> Any:
        if not isinstance(header, dict) or not header:
            return self._scalar()
        name = self._rng.choice(list(header))
        fields = header[name]
        if not isinstance(fields, dict) or self._rng.random() < 0.2:
            return self._changed(header)
        numbers = (0, 1, 2, 4, 8, 2**31, 2**63, 2**64, -1, -4)
        match self._rng.randrange(4):
            case 0:
                begin, end = self._rng.choice(numbers), self._rng.choice(numbers)
                fields = {**fields, "data_offsets": [begin, end]}
            case 1:
                shape = [
                    self._rng.choice(numbers) for _ in range(self._rng.choice((0, 1, 2, 9, 70)))
                ]
                fields = {**fields, "shape": shape}
            case 2:
                kinds = ("F16", "F32", "F64", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "", "f32")
                fields = {**fields, "dtype": self._rng.choice(kinds)}
            case _:
                return {**header, self._rng.choice(("w2", "", "b", "__metadata__")): fields}
        return {**header, name: fields}

    def topic(self, topic: str) -> str:
        """Return a changed topic; most stay as they are."""
        if self._rng.random() < 0.9:
            return topic
        levels = topic.split("/")
        index = self._rng.randrange(len(levels))
        match self._rng.randrange(4):
            case 0:
                del levels[index]
            case 1:
                levels.insert(index, self._rng.choice(("x", "", "..")))
            case _:
                levels[index] = self._rng.choice(
                    ("", "x:y", "x" * 201, "é", "a b", ":", "x:" * 120)
                )
        return "/".join(levels)
