"""What a model's file says about itself beside its tensors (rules MODEL-020 ff.).

JSON models carry the label as keys beside ``w`` and ``b``; safetensors files as texts in their
``__metadata__``, where ``metrics`` is a JSON object. Whatever else a file says stays in it.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field, ValidationError
from roost.protocol.round.messages import DEFAULT_MODEL_NAME, MAX_VERSION, Metrics, ModelName
from roost.protocol.round.model import ModelForm
from roost.protocol.round.refusals import BAD_MODEL
from roost.wire.ids import DerivedId, Sha256
from roost.wire.message import Part, describe
from roost.wire.refusal import Refused

_NUMBERS: Final = ("version", "parent")


class ModelLabel(Part):
    """Which version of which model a file is."""

    name: ModelName = DEFAULT_MODEL_NAME
    version: int = Field(default=0, ge=0, le=MAX_VERSION)
    parent: int | None = Field(
        default=None, ge=0, le=MAX_VERSION, description="version it was made from"
    )
    publish_id: DerivedId | None = Field(
        default=None, description="what made it: a round's id; only a version 0 may lack it"
    )
    digest: Sha256 | None = Field(default=None, description="over the tensors")
    metrics: Metrics = Field(default_factory=dict)
    architecture: str | None = Field(default=None, max_length=4096)


_FIELDS: Final = frozenset(ModelLabel.model_fields)
_REPLACED: Final = _FIELDS - {"architecture"}


def read_label(form: ModelForm, metadata: Mapping[str, Any]) -> ModelLabel:
    """Read the label of a model.

    Raises:
        Refused: bad_model, naming the field at fault.
    """
    given = {name: metadata[name] for name in _FIELDS if metadata.get(name) is not None}
    try:
        if form is ModelForm.SAFETENSORS:
            given = {name: _from_text(name, value) for name, value in given.items()}
        return ModelLabel.model_validate(given)
    except ValidationError as error:
        raise Refused(BAD_MODEL, f"its label: {describe(error)}") from None
    except (ValueError, RecursionError) as error:
        raise Refused(BAD_MODEL, f"its label: {error}") from None


def _from_text(name: str, text: str) -> Any:
    if name in _NUMBERS:
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"{name} is {text!r:.40}, not a number")
        return int(text)
    return json.loads(text) if name == "metrics" else text


def with_label(form: ModelForm, metadata: Mapping[str, Any], label: ModelLabel) -> dict[str, Any]:
    """Return a file's metadata with its label replaced by this one."""
    others = without_label(metadata)
    said = label.model_dump(exclude_none=True)
    said.pop("architecture", None)
    if not label.metrics:
        del said["metrics"]
    if form is ModelForm.SAFETENSORS:
        return {**others, **{name: _to_text(value) for name, value in said.items()}}
    return {**others, **said}


def without_label(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says beside its label; the architecture is the model's own and stays."""
    return {name: value for name, value in metadata.items() if name not in _REPLACED}


def _to_text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, dict) else str(value)
