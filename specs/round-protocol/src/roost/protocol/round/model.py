"""Models on the wire: JSON for people, safetensors for machines, one digest for both.

A model's digest is taken over its tensors, not its file, so that it survives a change of
metadata (rule MODEL-003): SHA-256 over, for every tensor in order of name,
``name NUL dtype NUL shape NUL`` (shape as decimal numbers joined by commas) and the
little-endian bytes in C order.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

import numpy as np
from roost.protocol.round.refusals import BAD_MODEL, NOT_FINITE
from roost.protocol.round.tensorfile import (
    DTYPES,
    MAX_TENSORS,
    Array,
    Buffer,
    check_file,
    check_finite,
    check_name,
    digest_entry_header,
    is_text,
    make_header,
    view,
)
from roost.wire.refusal import Refused

Tensors: TypeAlias = Mapping[str, Array]

MAX_DEPTH: Final = 8
MAX_JSON_BYTES: Final = 32 * 1024 * 1024
"""Of tensors as JSON, which take many times their size in memory while they are read."""
MAX_JSON_PARTS: Final = 1_000_000
"""Lists and objects, and texts: empty ones take thirty times their size in memory."""
JSON_TENSORS: Final = ("w", "b")
_FLOATS: Final = tuple(DTYPES.values())


class ModelForm(StrEnum):
    """How a model is written; a model keeps the form it came in."""

    JSON = "json"
    SAFETENSORS = "safetensors"


@dataclass(frozen=True)
class Model:
    """A model as read.

    Attributes:
        form: JSON or safetensors.
        tensors: Arrays by name; float64 in JSON form, as stored in safetensors form.
        metadata: Everything else the file says; values are strings in safetensors form.
    """

    form: ModelForm
    tensors: Tensors
    metadata: Mapping[str, Any] = field(default_factory=dict)


def digest(tensors: Tensors) -> str:
    """Return the SHA-256 over the tensors as hexadecimal digits (rule MODEL-003)."""
    sha = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        sha.update(digest_entry_header(name, little.dtype.str, little.shape))
        sha.update(little.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def is_json(payload: Buffer) -> bool:
    """Tell JSON from binary by its first bytes.

    JSON begins with ``{`` and holds no NUL; a safetensors file begins with a 64-bit length
    whose highest byte is NUL, and MessagePack maps begin with a byte above 127.
    """
    first = bytes(payload[:64])
    return first.lstrip()[:1] == b"{" and b"\0" not in first[:8]


def parse_model(payload: Buffer) -> Model:
    """Read a model of either form.

    Raises:
        Refused: bad_model or not_finite, naming what is wrong.
    """
    return _parse_json_model(payload) if is_json(payload) else parse_safetensors(payload)


def parse_safetensors(payload: Buffer) -> Model:
    """Read a safetensors file; its arrays are read-only views of the payload.

    Raises:
        Refused: bad_model, when it is no such file or a tensor is no float array; not_finite.
    """
    layout = check_file(payload)
    tensors = {entry.name: view(payload, entry) for entry in layout.entries}
    return Model(ModelForm.SAFETENSORS, tensors, layout.metadata)


def check_tensors(tensors: Tensors) -> None:
    """Refuse tensors that cannot be averaged.

    Raises:
        Refused: bad_model, for none, too many, or not floating point; not_finite.
    """
    if not 0 < len(tensors) <= MAX_TENSORS:
        raise Refused(BAD_MODEL, f"{len(tensors)} tensors, allowed are 1 to {MAX_TENSORS}")
    for name, array in tensors.items():
        if array.dtype.str not in _FLOATS:
            raise Refused(BAD_MODEL, f"tensor '{name}' is {array.dtype}, not F16, F32 or F64")
        check_finite(name, array)


def _parse_json_model(payload: Buffer) -> Model:
    content = load_json(payload, parse_constant=_no_constant)
    tensors = tensors_from_json({k: content[k] for k in JSON_TENSORS if k in content})
    metadata = {key: value for key, value in content.items() if key not in tensors}
    _check_metadata(metadata)
    return Model(ModelForm.JSON, tensors, metadata)


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    """Refuse what could not be written again: numbers and texts that JSON cannot say."""
    pending: list[Any] = [metadata]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            pending.extend(found)
            pending.extend(found.values())
        elif isinstance(found, list):
            pending.extend(found)
        elif isinstance(found, str) and not is_text(found):
            raise Refused(BAD_MODEL, f"half of a surrogate pair in {found!r:.40}")
        elif isinstance(found, float) and not math.isfinite(found):
            raise Refused(NOT_FINITE, f"it holds {found}")


def load_json(payload: Buffer, **options: Any) -> Any:
    """Read JSON that holds tensors.

    Raises:
        Refused: bad_model, when it is none or too large.
    """
    if len(payload) > MAX_JSON_BYTES:
        size, limit = len(payload), MAX_JSON_BYTES
        raise Refused(BAD_MODEL, f"{size} bytes of JSON, {limit} are allowed; use safetensors")
    content = bytes(payload)
    parts = max(content.count(b"[") + content.count(b"{"), content.count(b'"') // 2)
    if parts > MAX_JSON_PARTS:
        raise Refused(BAD_MODEL, f"{parts} lists, objects or texts, {MAX_JSON_PARTS} are allowed")
    try:
        # Decoded here: json would take UTF-16 and UTF-32 as well.
        return json.loads(content.decode(), **options)
    except (ValueError, RecursionError) as error:
        raise Refused(BAD_MODEL, f"not JSON: {error}") from None


def _no_constant(name: str) -> float:
    raise Refused(NOT_FINITE, f"it holds {name}")


def tensors_from_json(content: Mapping[str, Any]) -> dict[str, Array]:
    """Turn numbers and nested lists into float64 arrays; a number has shape ``()``.

    Raises:
        Refused: bad_model, for anything else or ragged lists; not_finite.
    """
    tensors = {name: _array_from_json(name, value) for name, value in content.items()}
    check_tensors(tensors)
    return tensors


def _array_from_json(name: str, value: Any) -> Array:
    check_name(name)
    _check_numbers(name, value, 0)
    try:
        return np.asarray(value, dtype=np.float64)
    except ValueError:
        raise Refused(BAD_MODEL, f"'{name}' has lists of different lengths") from None


def _check_numbers(name: str, value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Refused(BAD_MODEL, f"'{name}' is nested deeper than {MAX_DEPTH}")
    if isinstance(value, list):
        for item in value:
            _check_numbers(name, item, depth + 1)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        # Not the repr of what is inside: it could be too deep for that.
        shown = repr(value[:40]) if isinstance(value, str) else type(value).__name__
        raise Refused(BAD_MODEL, f"'{name}' holds {shown}, which is no number")
    elif not is_finite(value):
        raise Refused(NOT_FINITE, f"'{name}' holds {value!r:.40}")


def is_finite(value: float) -> bool:
    """Tell whether a number of any size is finite as a float64."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def encode_model(model: Model) -> bytes:
    """Write a model in its own form; JSON numbers are the shortest that read back the same."""
    if model.form is ModelForm.JSON:
        content = {name: array.tolist() for name, array in model.tensors.items()}
        return json.dumps({**content, **model.metadata}, separators=(",", ":")).encode()
    return encode_safetensors(model.tensors, {k: str(v) for k, v in model.metadata.items()})


def encode_safetensors(tensors: Tensors, metadata: Mapping[str, str]) -> bytes:
    """Write arrays as a safetensors file."""
    little = {
        name: np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        for name, array in tensors.items()
    }
    shapes = ((name, array.dtype.str, array.shape) for name, array in little.items())
    header, layout = make_header(shapes, metadata)
    parts = sorted(layout.entries, key=lambda entry: (entry.start, entry.stop))
    return b"".join((header, *(little[entry.name].tobytes() for entry in parts)))
