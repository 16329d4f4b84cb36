"""Templates of workload bindings: ``text {field} {outer.inner} {{literal}}``, and no more.

There is no code in a template: a field is looked up in the launching message, else among the
binding's defaults, and written as text (rules in ``jsontext``). Anything else is refused when the
binding is read, or when the message lacks the field.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from roost.manager.core.jsontext import Json, as_text
from roost.protocol.task.refusals import LAUNCH_FIELD
from roost.wire.refusal import Refused

EACH: Final = "each"
_NAME: Final = r"[A-Za-z_][A-Za-z0-9_-]*"
_FIELD: Final = re.compile(rf"{_NAME}(?:\.{_NAME})*")
_TOKEN: Final = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+")


class TemplateError(ValueError):
    """A template is not well formed."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A place where a field's text goes."""

    field: str


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template.

    Attributes:
        parts: Literal text and references, in order.
        where: ``file:line`` for messages.
    """

    parts: tuple[str | Ref, ...]
    where: str

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that it needs."""
        return tuple(part.field for part in self.parts if isinstance(part, Ref))


@dataclass(frozen=True, slots=True)
class Source:
    """What templates are filled from: a message, the binding's defaults, the present element."""

    message: Mapping[str, Json]
    defaults: Mapping[str, str]
    each: str | None = None


def parse(text: str, where: str) -> Template:
    """Read a template.

    Raises:
        TemplateError: a brace has no partner, or the text between two is no field name.
    """
    parts: list[str | Ref] = []
    for token in _TOKEN.findall(text):
        if token in ("{{", "}}"):
            parts.append(token[0])
        elif token in ("{", "}"):
            raise TemplateError(f"'{token}' has no partner; write '{token}{token}' for the sign")
        elif token.startswith("{"):
            parts.append(Ref(_field_name(token)))
        else:
            parts.append(token)
    return Template(tuple(parts), where)


def is_field(name: str) -> bool:
    """Tell whether this could name a field: ``a``, ``a.b``."""
    return _FIELD.fullmatch(name) is not None


def _field_name(token: str) -> str:
    name = token[1:-1]
    if not is_field(name):
        raise TemplateError(f"'{token}' names no field; use letters, digits, _ and - as in {{a.b}}")
    return name


def fill(template: Template, source: Source) -> str:
    """Write the template with the fields' text.

    Raises:
        Refused: launch_field, naming the field and the binding's line.
    """
    return "".join(
        part if isinstance(part, str) else _text_of(part.field, template, source)
        for part in template.parts
    )


def _text_of(field: str, template: Template, source: Source) -> str:
    if field == EACH and source.each is not None:
        return source.each
    found, value = look_up(source.message, field)
    if found:
        return as_text(value)
    if field in source.defaults:
        return source.defaults[field]
    raise Refused(LAUNCH_FIELD, f"the field '{field}' is missing ({template.where} needs it)")


def look_up(message: Mapping[str, Json], field: str) -> tuple[bool, Json]:
    """Follow a dotted field name; return whether it is there, and its value."""
    value: Json = message
    for name in field.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return False, None
        value = value[name]
    return True, value
