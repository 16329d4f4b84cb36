"""Updates on the wire (rules UPDATE-001 ff.): what a participant returns.

JSON: ``{"round_id","base_model_uri","num_samples","metrics","update"}`` with ``update`` as
numbers and nested lists. MessagePack: the same map, with ``update`` as a safetensors file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgpack
from roost.protocol.round.messages import ModelUri
from roost.protocol.round.model import (
    ModelForm,
    Tensors,
    encode_safetensors,
    is_finite,
    is_json,
    load_json,
    tensors_from_json,
)
from roost.protocol.round.refusals import BAD_MODEL, BAD_UPDATE
from roost.protocol.round.tensorfile import Layout, check_file, is_text
from roost.wire.ids import DerivedId
from roost.wire.message import Message
from roost.wire.refusal import Refused

MAX_METRICS: Final = 64
MAX_METRIC_NAME: Final = 128
LARGEST: Final = 3.4028234663852886e38
"""Of the numbers of an update: the largest of 32 bits. A mean over one beyond it could leave the
range of the base model's type, and fail the round for all others."""
MAX_PACKED_ITEMS: Final = 65_536
"""Of one list or map of MessagePack; the tensors are one piece of bytes."""


class UpdateHeader(Message):
    """The fields of an update beside its tensors."""

    round_id: DerivedId
    base_model_uri: ModelUri
    num_samples: int


@dataclass(frozen=True)
class Update:
    """An update as read.

    Attributes:
        round_id: The round it says it is for; its sender is known from the topic alone.
        base_model_uri: The model it was trained from.
        num_samples: Its weight; judged by the coordinator.
        metrics: Finite numbers by name; others are left out.
        form: JSON or safetensors tensors.
        file: The tensors as a safetensors file; float64 in JSON form.
        layout: Where each tensor lies in ``file``.
    """

    round_id: str
    base_model_uri: str
    num_samples: int
    metrics: Mapping[str, float]
    form: ModelForm
    file: bytes
    layout: Layout


def parse_update(payload: bytes | memoryview) -> Update:
    """Read an update of either form.

    Raises:
        Refused: malformed, newer_version, bad_update or not_finite, naming what is wrong.
    """
    try:
        content = _content(payload)
        header = _header(content)
        form, file = _file(content.get("update"))
        layout = check_file(file, LARGEST)
    except Refused as error:
        refusal = BAD_UPDATE if error.refusal is BAD_MODEL else error.refusal
        raise Refused(refusal, error.detail) from None
    metrics = _metrics(content.get("metrics"))
    return Update(
        header.round_id, header.base_model_uri, header.num_samples, metrics, form, file, layout
    )


def _content(payload: bytes | memoryview) -> Mapping[str, Any]:
    content = load_json(payload) if is_json(payload) else _unpack(payload)
    if not isinstance(content, dict):
        raise Refused(BAD_UPDATE, f"a {type(content).__name__} instead of an object")
    return content


def _unpack(payload: bytes | memoryview) -> Any:
    try:
        return msgpack.unpackb(
            payload,
            strict_map_key=True,
            # Memory is set aside for as many as are announced, however few there are.
            max_array_len=MAX_PACKED_ITEMS,
            max_map_len=MAX_PACKED_ITEMS,
        )
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise Refused(BAD_UPDATE, f"neither JSON nor MessagePack: {error}") from None


def _header(content: Mapping[str, Any]) -> UpdateHeader:
    fields = {name: content[name] for name in UpdateHeader.model_fields if name in content}
    try:
        text = json.dumps(fields)
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(BAD_UPDATE, f"a field that JSON cannot say: {error}") from None
    return UpdateHeader.decode(text.encode())


def _file(content: object) -> tuple[ModelForm, bytes]:
    if isinstance(content, bytes):
        return ModelForm.SAFETENSORS, content
    if isinstance(content, dict):
        return ModelForm.JSON, encode_safetensors(tensors_from_json(content), {})
    raise Refused(BAD_UPDATE, "'update' is neither numbers and lists by name nor safetensors")


def _metrics(content: object) -> Mapping[str, float]:
    if not isinstance(content, dict):
        return {}
    numbers = {
        name: float(value)
        for name, value in content.items()
        if isinstance(name, str)
        and len(name) <= MAX_METRIC_NAME
        and is_text(name)
        and isinstance(value, int | float)
        and is_finite(value)
    }
    return dict(list(numbers.items())[:MAX_METRICS])


def encode_update(header: UpdateHeader, metrics: Mapping[str, float], tensors: Tensors) -> bytes:
    """Write an update as JSON."""
    content = {**_said(header, metrics), "update": {n: a.tolist() for n, a in tensors.items()}}
    return json.dumps(content, separators=(",", ":")).encode()


def encode_binary_update(
    header: UpdateHeader, metrics: Mapping[str, float], tensors: Tensors
) -> bytes:
    """Write an update as MessagePack with its tensors as a safetensors file."""
    content = {**_said(header, metrics), "update": encode_safetensors(tensors, {})}
    packed: bytes = msgpack.packb(content)
    return packed


def _said(header: UpdateHeader, metrics: Mapping[str, float]) -> dict[str, Any]:
    return {
        "round_id": header.round_id,
        "base_model_uri": header.base_model_uri,
        "num_samples": header.num_samples,
        "metrics": dict(metrics),
    }
