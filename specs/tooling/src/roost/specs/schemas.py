"""JSON Schemas (2020-12) of all messages, as pydantic checks them on arrival."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from roost.wire.message import Message
from roost.wire.topic import Topic


def messages(topics: Iterable[Topic]) -> dict[str, type[Message]]:
    """Return the JSON messages that the topics carry, by name.

    Raises:
        ValueError: two different messages have one name.
    """
    found: dict[str, type[Message]] = {}
    for topic in topics:
        message = topic.payload
        if message is None:
            continue
        if found.setdefault(message.__name__, message) is not message:
            raise ValueError(f"two messages are called {message.__name__}")
    return dict(sorted(found.items()))


def json_schema(message: type[Message]) -> dict[str, Any]:
    """Return a message's schema: what a reader accepts, unknown fields included."""
    schema = message.model_json_schema(mode="validation")
    _drop_titles(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": message.__name__,
        **schema,
    }


def _drop_titles(node: Any) -> None:
    """Remove the titles that pydantic derives from names: they say nothing new."""
    if isinstance(node, dict):
        if isinstance(node.get("title"), str):
            del node["title"]
        for value in node.values():
            _drop_titles(value)
    elif isinstance(node, list):
        for value in node:
            _drop_titles(value)


def as_json(document: Mapping[str, Any]) -> str:
    """Write a document as JSON for people."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
