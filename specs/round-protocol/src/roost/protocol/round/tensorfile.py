"""Safetensors files read in place, so that memory does not grow with the model.

The header is checked as the format demands (rule MODEL-010): offsets ascend without holes or
overlaps, lengths agree with shapes, and the last tensor ends where the file ends. Only then is
any tensor touched. Arrays are views of the file's bytes, whether those are in memory or mapped.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from typing import Any, Final, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt
from roost.protocol.round.refusals import BAD_MODEL, NOT_FINITE
from roost.wire.refusal import Refused

Array: TypeAlias = npt.NDArray[Any]
Buffer: TypeAlias = bytes | bytearray | memoryview | mmap

MAX_TENSORS: Final = 4096
MAX_DIMENSIONS: Final = 8
MAX_NAME: Final = 256
MAX_HEADER_BYTES: Final = 4 * 1024 * 1024
BLOCK_BYTES: Final = 1024 * 1024
DTYPES: Final = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
_NAMES: Final = {numpy_name: name for name, numpy_name in DTYPES.items()}
_METADATA: Final = "__metadata__"
_LENGTH_BYTES: Final = 8
_ALIGNMENT: Final = 8
_LONGEST_COUNT: Final = 19
_FIELDS: Final = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies.

    Attributes:
        name: Its name.
        dtype: NumPy's name of the type: ``<f2``, ``<f4`` or ``<f8``.
        shape: Its dimensions; ``()`` is a single number.
        start: First byte, counted from the file's begin.
        stop: First byte after it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the header of a file says.

    Attributes:
        entries: All tensors in order of name.
        metadata: The file's ``__metadata__``.
    """

    entries: tuple[Entry, ...]
    metadata: Mapping[str, str]


def read_layout(content: Buffer) -> Layout:
    """Read and check the header of a safetensors file.

    Raises:
        Refused: bad_model, naming what is wrong.
    """
    header, data_start = _header(content)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise _bad("its metadata is not text by name")
    if not 0 < len(header) <= MAX_TENSORS:
        raise _bad(f"it has {len(header)} tensors, allowed are 1 to {MAX_TENSORS}")
    size = len(content)
    entries = [_entry(name, fields, data_start, size) for name, fields in header.items()]
    _check_contiguous(entries, data_start, size)
    return Layout(tuple(sorted(entries, key=lambda entry: entry.name)), metadata)


def _bad(problem: str) -> Refused:
    return Refused(BAD_MODEL, f"not a usable safetensors file: {problem}")


def _header(content: Buffer) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(bytes(content[:_LENGTH_BYTES]), "little")
    data_start = _LENGTH_BYTES + length
    if len(content) < _LENGTH_BYTES or length > MAX_HEADER_BYTES or data_start > len(content):
        raise _bad(f"{len(content)} bytes with a header of {length}")
    try:
        # Decoded here: json would take UTF-16 and UTF-32 as well.
        text = bytes(content[_LENGTH_BYTES:data_start]).decode()
        header = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_count,
            parse_float=_no_count,
            parse_constant=_no_count,
        )
        if "\\u" in text:
            json.dumps(header, ensure_ascii=False).encode()  # no half of a surrogate pair
    except (ValueError, RecursionError):
        raise _bad("its header is not JSON") from None
    if not isinstance(header, dict):
        raise _bad("its header is not a JSON object")
    return header, data_start


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that occurs twice: readers would differ about which one is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _bad("its header has one name twice")
    return found


def _count(digits: str) -> int:
    if len(digits) > _LONGEST_COUNT:
        raise _bad("its header has a number that no reader takes")
    return int(digits)


def _no_count(number: str) -> NoReturn:
    raise _bad(f"its header has {number:.20}, where only whole numbers belong")


def is_text(value: str) -> bool:
    """Tell whether a text can be written as UTF-8, which half of a surrogate pair cannot."""
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def check_name(name: str) -> None:
    """Refuse a tensor's name that the digest of a model could not hold (rule MODEL-012).

    Raises:
        Refused: bad_model.
    """
    if not 0 < len(name) <= MAX_NAME or "\0" in name or not is_text(name):
        shown = repr(name[:40])
        raise Refused(
            BAD_MODEL,
            f"a tensor's name has 1 to {MAX_NAME} characters of Unicode without NUL, "
            f"this one has {len(name)}: {shown}",
        )


def _entry(name: str, fields: Any, data_start: int, size: int) -> Entry:
    check_name(name)
    try:
        dtype, shape, (begin, end) = fields["dtype"], fields["shape"], fields["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise _bad(f"tensor '{name}' lacks dtype, shape or data_offsets") from None
    if len(fields) != _FIELDS:
        raise _bad(f"tensor '{name}' has more fields than dtype, shape and data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        shown = repr(dtype[:40]) if isinstance(dtype, str) else type(dtype).__name__
        raise _bad(f"tensor '{name}' is {shown}, not {', '.join(DTYPES)}")
    numbers = [*shape, begin, end] if isinstance(shape, list) else [None]
    if not all(type(number) is int and 0 <= number <= size for number in numbers):
        raise _bad(f"tensor '{name}' has an unreadable shape or offset")
    # Before anything is multiplied: thousands of large dimensions would take minutes.
    if len(shape) > MAX_DIMENSIONS:
        raise _bad(f"tensor '{name}' has {len(shape)} dimensions, {MAX_DIMENSIONS} are allowed")
    entry = Entry(name, DTYPES[dtype], tuple(shape), data_start + begin, data_start + end)
    if entry.stop - entry.start != entry.size * np.dtype(entry.dtype).itemsize:
        raise _bad(f"tensor '{name}' has not the bytes that its shape needs")
    return entry


def _check_contiguous(entries: Iterable[Entry], data_start: int, size: int) -> None:
    place = data_start
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.stop)):
        if entry.start != place:
            raise _bad(f"tensor '{entry.name}' does not begin where the one before it ends")
        place = entry.stop
    if place != size:
        raise _bad(f"its tensors end at byte {place}, the file at {size}")


def view(content: Buffer, entry: Entry) -> Array:
    """Return a tensor as a read-only view of the file's bytes."""
    array = np.frombuffer(content, dtype=entry.dtype, count=entry.size, offset=entry.start)
    array.flags.writeable = False
    return array.reshape(entry.shape)


def check_finite(name: str, array: Array, largest: float = math.inf) -> None:
    """Refuse NaN and infinity, block by block.

    Args:
        name: Of the tensor.
        array: Its numbers.
        largest: Refuse numbers beyond this size as well.

    Raises:
        Refused: not_finite, naming the tensor.
    """
    flat = array.reshape(-1)
    step = BLOCK_BYTES // array.dtype.itemsize
    for start in range(0, flat.size, step):
        block = flat[start : start + step]
        if not np.isfinite(block).all():
            raise Refused(NOT_FINITE, f"tensor '{name}' holds NaN or infinity")
        if largest < math.inf and not (np.abs(block) <= largest).all():
            raise Refused(NOT_FINITE, f"tensor '{name}' holds a number beyond {largest:.3g}")


def check_file(content: Buffer, largest: float = math.inf) -> Layout:
    """Read the header and make sure that every number is finite.

    Args:
        content: The file.
        largest: Refuse numbers of 64 bits beyond this size as well; smaller types hold none.

    Raises:
        Refused: bad_model or not_finite.
    """
    layout = read_layout(content)
    for entry in layout.entries:
        limit = largest if entry.dtype == DTYPES["F64"] else math.inf
        check_finite(entry.name, view(content, entry), limit)
    return layout


def digest_entry_header(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return what goes before a tensor's bytes in a model's digest (rule MODEL-003)."""
    return f"{name}\0{dtype}\0{','.join(map(str, shape))}\0".encode()


def digest_file(content: Buffer, layout: Layout) -> str:
    """Return a model's digest from its file: SHA-256 over the tensors in order of name."""
    sha = hashlib.sha256()
    for entry in layout.entries:
        sha.update(digest_entry_header(entry.name, entry.dtype, entry.shape))
        with memoryview(content) as whole, whole[entry.start : entry.stop] as part:
            sha.update(part)
    return sha.hexdigest()


def shapes_digest(tensors: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """Return the SHA-256 over names and shapes, whatever the types."""
    sha = hashlib.sha256()
    for name, shape in sorted(tensors):
        sha.update(digest_entry_header(name, "", shape))
    return sha.hexdigest()


def dtypes_digest(tensors: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 over names and NumPy's names of types."""
    sha = hashlib.sha256()
    for name, dtype in sorted(tensors):
        sha.update(digest_entry_header(name, dtype, ()))
    return sha.hexdigest()


def make_header(
    tensors: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[bytes, Layout]:
    """Return the first bytes of a file and where each tensor's bytes belong after them.

    Args:
        tensors: Name, NumPy's name of the type, and shape; laid out wide types first, as the
            format's own library does, so that every tensor is aligned to its type.
        metadata: Text by name.
    """
    given = sorted(tensors, key=lambda each: (-np.dtype(each[1]).itemsize, each[0]))
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    spans: list[tuple[str, str, tuple[int, ...], int, int]] = []
    place = 0
    for name, dtype, shape in given:
        end = place + math.prod(shape) * np.dtype(dtype).itemsize
        header[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [place, end],
        }
        spans.append((name, dtype, shape, place, end))
        place = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    start = _LENGTH_BYTES + len(text)
    entries = (Entry(n, d, s, start + begin, start + end) for n, d, s, begin, end in spans)
    layout = Layout(tuple(sorted(entries, key=lambda entry: entry.name)), dict(metadata))
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text, layout


def blocks(size: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of consecutive spans that cover ``size`` elements."""
    for start in range(0, size, step):
        yield start, min(start + step, size)
