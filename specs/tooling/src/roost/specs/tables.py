"""Markdown tables: topics, messages, refusals."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from roost.specs.schemas import json_schema
from roost.wire.message import Message
from roost.wire.refusal import Refusal
from roost.wire.topic import Topic

EMPTY: Final = "-"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; bars in its cells are escaped."""
    lines = [_row(header), _row(["---"] * len(header)), *(_row(row) for row in rows)]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def topic_table(topics: Iterable[Topic]) -> str:
    """Return one row for each topic of a protocol."""
    rows = (
        (
            f"`{topic.template}`",
            ", ".join(topic.writers),
            ", ".join(topic.readers),
            "yes" if topic.retained else "no",
            _payload(topic),
            topic.about,
        )
        for topic in topics
    )
    return markdown(("topic", "written by", "read by", "retained", "payload", "what for"), rows)


def _payload(topic: Topic) -> str:
    if topic.payload is None:
        return "bytes"
    name = topic.payload.__name__
    return f"[{name}](generated/schemas/{name}.json)"


def refusal_table(refusals: Iterable[Refusal]) -> str:
    """Return one row for each refusal, by number."""
    ordered = sorted(refusals, key=lambda refusal: refusal.code)
    rows = ((str(each.code), f"`{each.name}`", each.cure) for each in ordered)
    return markdown(("number", "name", "what its sender can do"), rows)


def message_table(message: type[Message]) -> str:
    """Return one row for each field of a message, and a table for each of its parts."""
    schema = json_schema(message)
    parts = [f"`{message.__name__}`\n\n{_fields(schema)}"]
    for name, part in sorted(schema.get("$defs", {}).items()):
        if "properties" in part:
            parts.append(f"`{name}`, a part of it\n\n{_fields(part)}")
    return "\n".join(parts)


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = (
        (f"`{name}`", _kind(field), _presence(field, required=name in required), _about(field))
        for name, field in schema.get("properties", {}).items()
    )
    return markdown(("field", "type", "if absent", "meaning"), rows)


def _about(field: dict[str, Any]) -> str:
    return str(field.get("description", EMPTY))


def _presence(field: dict[str, Any], *, required: bool) -> str:
    if required:
        return "refused"
    default = field.get("default")
    return EMPTY if default in (None, [], {}) else f"`{default}`"


def _kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return f"`{field['$ref'].rsplit('/', 1)[-1]}`"
    if "anyOf" in field:
        return " or ".join(_kind(each) for each in field["anyOf"] if each.get("type") != "null")
    kind = str(field.get("type", "any"))
    if kind == "array" and isinstance(field.get("items"), dict):
        return f"list of {_kind(field['items'])}"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    return kind + _bounds(field)


def _bounds(field: dict[str, Any]) -> str:
    names = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}"}
    said = [text.format(f"{field[name]:g}") for name, text in names.items() if name in field]
    if "maxLength" in field:
        said.append(f"at most {field['maxLength']} characters")
    return f" ({', '.join(said)})" if said else ""
