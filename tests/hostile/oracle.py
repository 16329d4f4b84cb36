"""What is acceptable, judged by other means than the code under test.

Messages by their published schemas and the standard library; tensors by the reference library of
safetensors and by NumPy. None means: the rules leave it open.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import msgpack
import numpy as np
import safetensors
from safetensors.numpy import load

from .schema import fits, schema

MAX_JSON: Final = 4 * 1024 * 1024
MAX_TENSOR_JSON: Final = 32 * 1024 * 1024
DEEP: Final = 150
LONG_NUMBER: Final = 400
NON_CHARACTERS: Final = frozenset({*range(0xFDD0, 0xFDF0)})


class Open(Exception):  # noqa: N818 - names an outcome
    """The rules leave it open."""


def _number(text: str) -> int:
    if len(text) > LONG_NUMBER:
        raise Open
    return int(text)


def _constant(name: str) -> float:
    return float(name.replace("Infinity", "inf"))


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level:
        depth += any(isinstance(each, dict | list) for each in level)
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth


def parse(payload: bytes) -> Any:
    """Read JSON in UTF-8; ValueError for all else, half characters included."""
    shadowed: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            shadowed.extend(name for name, _ in pairs)
        return found

    try:
        value = json.loads(
            payload.decode(), parse_int=_number, parse_constant=_constant, object_pairs_hook=once
        )
    except RecursionError:
        raise ValueError from None
    if shadowed:
        raise Open  # the last one counts; a reader may look at the others all the same
    if b"\\u" in payload:
        json.dumps(value, ensure_ascii=False).encode()  # a UnicodeEncodeError is a ValueError
    if _depth(value) > DEEP:
        raise Open
    return value


def message(name: str, payload: bytes) -> bool | None:
    """Tell whether a payload is a message of this name."""
    if len(payload) > MAX_JSON:
        return False
    try:
        value = parse(payload)
    except Open:
        return None
    except ValueError:
        return False
    if not isinstance(value, dict):
        return False
    described = schema(name)
    known = {field: each for field, each in value.items() if field in described["properties"]}
    if not fits(known, described, described) or known.get("v", 1) > 1:
        return False
    return _beyond_schema(name, known)


def _beyond_schema(name: str, value: Mapping[str, Any]) -> bool:
    """Judge what JSON Schema cannot say: one source for each input, topics that can be sent."""
    task = value.get("task", {}) if name == "StartTask" else value
    if name in ("StartTask", "TaskRequest"):
        for item in task.get("inputs") or ():
            sources = ("topic", "blob", "text", "base64")
            if sum(item.get(source) is not None for source in sources) != 1:
                return False
        topics = [item.get("topic") for item in task.get("inputs") or ()]
        topics += [item["topic"] for item in task.get("outputs") or ()]
        return all(sendable(topic) for topic in topics if topic is not None)
    if name == "TaskState" and value.get("launch"):
        return sendable(value["launch"]["topic"])
    return True


def sendable(topic: str) -> bool:
    """Tell whether a broker takes a topic (MQTT 5.0, section 1.5.4), and Roost its levels."""
    codes = [ord(letter) for letter in topic]
    bad = any(
        c < 32 or 127 <= c < 160 or c in NON_CHARACTERS or c & 0xFFFE == 0xFFFE for c in codes
    )
    return not bad and topic.count("/") < 100 and len(topic.encode()) <= 4096


def tensors(update: Any) -> dict[str, Any] | None:
    """Return finite arrays by name, or None; lists become float64."""
    try:
        found = load(update) if isinstance(update, bytes) else _from_lists(update)
    except (ValueError, TypeError, OverflowError, KeyError, safetensors.SafetensorError):
        return None
    for name, array in found.items():
        if array.dtype not in (np.float16, np.float32, np.float64) or not name or "\0" in name:
            return None
        if array.ndim > 8 or len(name) > 256 or not np.isfinite(array).all():
            return None
    return found or None


def _from_lists(update: Any) -> dict[str, Any]:
    if not isinstance(update, dict) or len(update) > 4096:
        raise ValueError
    return {name: np.array(_numbers(value), np.float64) for name, value in update.items()}


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    if type(value) not in (int, float):
        raise ValueError
    return float(value)


def content(payload: bytes) -> Any:
    """Return what an update's map says, JSON or MessagePack; ValueError if it is neither."""
    text = payload[:64].lstrip()[:1] == b"{" and b"\0" not in payload[:8]
    if text and len(payload) > MAX_TENSOR_JSON:
        raise ValueError
    try:
        return _open_json(payload) if text else msgpack.unpackb(payload, strict_map_key=True)
    except (msgpack.UnpackException, TypeError, OverflowError, RecursionError):
        raise ValueError from None


def _open_json(payload: bytes) -> Any:
    try:
        return json.loads(payload.decode(), parse_int=_number)
    except RecursionError:
        raise ValueError from None


def update(payload: bytes, round_id: str, base_uri: str, base: Mapping[str, Any]) -> Any:
    """Return the weight and arrays of an update that counts for a round, False, or None.

    Args:
        payload: What came.
        round_id: Of the round.
        base_uri: Its base model's topic.
        base: The base model's arrays.
    """
    try:
        said = content(payload)
    except Open:
        return None
    except ValueError:
        return False
    if not isinstance(said, dict) or not _for_round(said, round_id, base_uri):
        return False
    arrays = tensors(said.get("update"))
    typed = isinstance(said.get("update"), bytes)
    if arrays is None or any((np.abs(a) > np.finfo("<f4").max).any() for a in arrays.values()):
        return False
    if _kinds(arrays, typed=typed) != _kinds(base, typed=typed):
        return False
    return said["num_samples"], arrays


def _for_round(said: Mapping[str, Any], round_id: str, base_uri: str) -> bool:
    version, weight = said.get("v", 1), said.get("num_samples")
    return (
        (type(version), version) == (int, 1)
        and (said.get("round_id"), said.get("base_model_uri")) == (round_id, base_uri)
        and type(weight) is int
        and 0 < weight <= 1_000_000_000
    )


def _kinds(arrays: Mapping[str, Any], *, typed: bool) -> dict[str, Any]:
    return {name: (a.shape, a.dtype if typed else None) for name, a in arrays.items()}


def mean(updates: list[tuple[int, Mapping[str, Any]]], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weighted mean in the base's types, computed in one go."""
    whole = math.fsum(weight for weight, _ in updates)
    return {
        name: (
            sum(weight * arrays[name].astype(np.float64) for weight, arrays in updates) / whole
        ).astype(array.dtype)
        for name, array in base.items()
    }
