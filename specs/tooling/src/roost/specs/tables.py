"""Markdown tables: topics, messages, refusals."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from pydantic import TypeAdapter
from roost.specs.schemas import json_schema
from roost.wire.ids import DerivedId, Id, Sha256
from roost.wire.message import Message
from roost.wire.refusal import Refusal
from roost.wire.topic import Topic

EMPTY: Final = "-"

Schema: TypeAlias = dict[str, Any]


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


def message_tables(messages: Iterable[type[Message]]) -> str:
    """Return a table of fields for each message, then one for each part that they share."""
    texts, parts = [], dict[str, str]()
    for message in messages:
        schema = json_schema(message)
        known = schema.get("$defs", {})
        texts.append(f"### {message.__name__}\n\n{_about_class(schema)}{_fields(schema, known)}")
        for name, part in known.items():
            if "properties" in part:
                parts[name] = f"### {name}\n\n{_about_class(part)}{_fields(part, known)}"
    return "\n".join([*texts, *(text for _, text in sorted(parts.items()))])


def _about_class(schema: Schema) -> str:
    said = str(schema.get("description", "")).splitlines()
    return f"{said[0].replace('``', '`')}\n\n" if said else ""


def _fields(schema: Schema, known: Schema) -> str:
    """Return one row for each field but ``v``, which every message has."""
    required = schema.get("required", ())
    rows = (
        (f"`{name}`", _kind(field, known), _presence(field, required=name in required),
         str(field.get("description", EMPTY)))
        for name, field in schema.get("properties", {}).items()
        if name != "v"
    )  # fmt: skip
    return markdown(("field", "type", "if absent", "meaning"), rows)


def _presence(field: Schema, *, required: bool) -> str:
    if required:
        return "refused"
    default = field.get("default")
    return EMPTY if default in (None, [], {}) else f"`{default}`"


def _kind(field: Schema, known: Schema) -> str:
    """Name a field's type as briefly as the schema allows."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[-1]
        return _kind(known[name], known) if "enum" in known[name] else f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(_kind(e, known) for e in field["anyOf"] if e.get("type") != "null")
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    kind = str(field.get("type", "any"))
    if kind == "array" and isinstance(field.get("items"), dict):
        return f"list of {_kind(field['items'], known)}"
    if kind == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"object of {_kind(field['additionalProperties'], known)}"
    return _PATTERNS.get(field.get("pattern", ""), kind) + _bounds(field)


def _bounds(field: Schema) -> str:
    names = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}"}
    said = [text.format(f"{field[name]:g}") for name, text in names.items() if name in field]
    pattern = field.get("pattern", "")
    if "maxLength" in field and pattern not in _PATTERNS:
        said.append(f"at most {field['maxLength']} characters")
    if pattern and pattern not in _PATTERNS:
        said.append(f"matches `{pattern}`")
    return f" ({', '.join(said)})" if said else ""


def _pattern(type_: Any) -> str:
    return str(TypeAdapter(type_).json_schema()["pattern"])


_PATTERNS: Final = {
    _pattern(Id): "id",
    _pattern(DerivedId): "derived id",
    _pattern(Sha256): "SHA-256",
}
"""What the page calls texts of these patterns."""
