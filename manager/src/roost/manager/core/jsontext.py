"""JSON read so that it can be written again as it came.

``json`` turns ``1e2`` into ``100.0`` and ``0.10`` into ``0.1``. A launching message's numbers
are handed to programs as text, so their spelling is kept: a number is read as a ``Number``, the
characters of the message. Objects keep their order, and a name that occurs twice is refused,
because no reader could tell which one was meant.
"""

import json
from typing import Any, Final, NoReturn

from roost.wire.message import MAX_JSON_BYTES
from roost.wire.refusal import MALFORMED, TOO_LARGE, Refused

MAX_DEPTH: Final = 64

Json = Any
"""None, bool, str, Number, list of Json, dict of str to Json."""


class Number(str):
    """A JSON number as it was spelled."""

    __slots__ = ()


def read_object(payload: bytes) -> dict[str, Json]:
    """Decode a JSON object from outside.

    Raises:
        Refused: too_large, or malformed: not UTF-8, not JSON, not an object, a name twice, NaN or
            infinity, nested deeper than 64, half of a surrogate pair.
    """
    if len(payload) > MAX_JSON_BYTES:
        raise Refused(TOO_LARGE, f"a message of {len(payload)} bytes, limit {MAX_JSON_BYTES}")
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise Refused(MALFORMED, f"byte {error.start} is not UTF-8") from None
    try:
        value = json.loads(
            text,
            parse_int=Number,
            parse_float=Number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise Refused(MALFORMED, f"not JSON: {error.msg} at {place}") from None
    if not isinstance(value, dict):
        raise Refused(MALFORMED, "not a JSON object")
    _inspect(value, 1)
    return value


def as_text(value: Json) -> str:
    """Write a value as a template sees it: text as it is, all else as compact JSON."""
    if isinstance(value, str):
        return str(value)
    return compact(value)


def compact(value: Json) -> str:
    """Write JSON without white space, order and number spelling kept."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        pairs = (f"{_quoted(name)}:{compact(item)}" for name, item in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(compact(item) for item in value) + "]"
    return _quoted(value)


def _quoted(value: str | bool | None) -> str:
    return json.dumps(value, ensure_ascii=False)


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, value in pairs:
        if name in found:
            raise Refused(MALFORMED, f"the field {_quoted(name[:60])} occurs twice")
        found[name] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise Refused(MALFORMED, f"{name} is not JSON")


def _inspect(value: Json, depth: int) -> None:
    """Refuse what could not be written again: too deep, or text that is not Unicode."""
    if depth > MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, dict):
        for name, item in value.items():
            _inspect(name, depth)
            _inspect(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _inspect(item, depth + 1)
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Refused(MALFORMED, "a string holds half of a surrogate pair") from None


def _too_deep() -> Refused:
    return Refused(MALFORMED, f"nested deeper than {MAX_DEPTH}")
