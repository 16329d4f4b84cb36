"""The base of all JSON payloads: strict, bounded, versioned (rules WIRE-010 to WIRE-014)."""

import math
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from roost.wire.refusal import MALFORMED, NEWER_VERSION, TOO_LARGE, Refused

MAX_JSON_BYTES: Final = 4 * 1024 * 1024
_SHOWN_ERRORS: Final = 3
_SHOWN_VALUE: Final = 60

MAX_WHOLE: Final = 2**53 - 1
Whole = Annotated[int, Field(ge=-MAX_WHOLE, le=MAX_WHOLE)]
"""A whole number that every JSON reader can hold exactly."""

Count = Annotated[int, Field(ge=0, le=MAX_WHOLE)]
"""A whole number from 0."""

Seconds = Annotated[float, Field(ge=0, le=604_800)]
"""A duration in seconds, at most a week. Only durations cross the wire, never clock times."""


def _refuse_infinite(value: Any) -> Any:
    """Look for NaN and infinity in JSON of any form, which pydantic lets pass there."""
    pending = [value]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            pending.extend(found.values())
        elif isinstance(found, list):
            pending.extend(found)
        elif isinstance(found, float) and not math.isfinite(found):
            raise ValueError("NaN and infinity are no numbers here")
    return value


AnyJson = Annotated[Any, AfterValidator(_refuse_infinite)]
"""JSON of any form, its numbers finite."""


class Part(BaseModel):
    """A piece of a message: frozen, strict, unknown fields ignored, no NaN, no infinity."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class Message(Part):
    """A whole JSON payload with its version ``v`` (absent: 1; higher: refused)."""

    VERSION: ClassVar[int] = 1

    v: int = Field(default=1, ge=1, description="version of this payload; absent means 1")

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read a payload from outside.

        Raises:
            Refused: malformed, too_large or newer_version, naming the field at fault.
        """
        if len(payload) > MAX_JSON_BYTES:
            raise Refused(
                TOO_LARGE, f"{cls.__name__} of {len(payload)} bytes, limit {MAX_JSON_BYTES}"
            )
        try:
            message = cls.model_validate_json(payload)
        except ValidationError as error:
            raise Refused(MALFORMED, f"{cls.__name__}: {describe(error)}") from None
        if message.v > cls.VERSION:
            raise Refused(
                NEWER_VERSION, f"{cls.__name__} v {message.v}, this side reads v {cls.VERSION}"
            )
        return message

    def encode(self) -> bytes:
        """Return compact JSON; absent fields are left out."""
        return self.model_dump_json(exclude_none=True).encode()


def describe(error: ValidationError) -> str:
    """Say in one line which fields are wrong and why, at most three of them."""
    problems = [_describe_one(problem) for problem in error.errors(include_url=False)]
    shown = "; ".join(problems[:_SHOWN_ERRORS])
    hidden = len(problems) - _SHOWN_ERRORS
    return shown if hidden <= 0 else f"{shown}; and {hidden} more"


def _describe_one(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    message: str = problem["msg"][0].lower() + problem["msg"][1:]
    if problem["type"] == "missing":
        return f"field '{place}' is missing"
    if not place:
        return message
    value = repr(problem.get("input"))
    if len(value) > _SHOWN_VALUE:
        value = value[:_SHOWN_VALUE] + "…"
    return f"field '{place}': {message}, got {value}"
