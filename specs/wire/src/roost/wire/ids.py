"""Identifiers on the wire (rules WIRE-001 and WIRE-002)."""

from typing import Annotated, Final

from pydantic import StringConstraints

ID_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
DERIVED_SEPARATOR: Final = ":"
MAX_DERIVED_LENGTH: Final = 200

Id = Annotated[str, StringConstraints(pattern=rf"^{ID_PATTERN}$")]
"""An id that a person or a device chose."""

DerivedId = Annotated[
    str,
    StringConstraints(
        pattern=rf"^{ID_PATTERN}({DERIVED_SEPARATOR}{ID_PATTERN})*$",
        max_length=MAX_DERIVED_LENGTH,
    ),
]
"""An id, or ids joined by a service with ``:``, which nobody else may use."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 digest as 64 lower-case hexadecimal digits."""


def derive(*parts: str) -> str:
    """Join ids into one derived id, so that doing an effect twice names the same thing."""
    return DERIVED_SEPARATOR.join(parts)
