"""AsyncAPI 3.0 documents: one per protocol, from its topic table.

Channels are the topics. Each role has an operation per channel, named after what the role does
there: ``manager sends tasks/{task_id}/state``.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from roost.specs.schemas import json_schema, messages
from roost.specs.templates import fields
from roost.wire.ids import DERIVED_SEPARATOR, ID_PATTERN
from roost.wire.message import Message
from roost.wire.topic import Topic

VERSION: Final = "0.1.0"
_DERIVED: Final = f"^{ID_PATTERN}({DERIVED_SEPARATOR}{ID_PATTERN})*$"
_BYTES: Final = "Bytes"


def document(title: str, about: str, topics: Iterable[Topic]) -> dict[str, Any]:
    """Return the AsyncAPI document of a topic table.

    Args:
        title: Name of the protocol.
        about: What it is for.
        topics: Its table.
    """
    table = tuple(topics)
    said = {name: _message(message) for name, message in messages(table).items()}
    if any(topic.payload is None for topic in table):
        said[_BYTES] = {"name": _BYTES, "summary": "Bytes, or a form told apart by its content."}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": title,
            "version": VERSION,
            "description": about,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_name(topic): _channel(topic) for topic in table},
        "operations": dict(each for topic in table for each in _operations(topic)),
        "components": {
            "messages": said,
            "operationBindings": {"order": {"mqtt": {"qos": 1, "retain": False}},
                                  "copy": {"mqtt": {"qos": 1, "retain": True}}},
        },
    }  # fmt: skip


def _name(topic: Topic) -> str:
    """Return a channel's name: the template without the signs that JSON pointers escape."""
    return topic.template.replace("/", ".").replace("{", "").replace("}", "")


def _message(message: type[Message]) -> dict[str, Any]:
    schema = json_schema(message)
    _move_references(schema, message.__name__)
    return {
        "name": message.__name__,
        "summary": (message.__doc__ or "").splitlines()[0],
        "contentType": "application/json",
        "payload": {key: value for key, value in schema.items() if key != "$schema"},
    }


def _move_references(node: Any, name: str) -> None:
    """Let references point to where the message's schema stands in the document."""
    if isinstance(node, dict):
        place = f"#/components/messages/{name}/payload/"
        if isinstance(node.get("$ref"), str):
            node["$ref"] = node["$ref"].replace("#/", place)
        for value in node.values():
            _move_references(value, name)
    elif isinstance(node, list):
        for value in node:
            _move_references(value, name)


def _payload(topic: Topic) -> str:
    return _BYTES if topic.payload is None else topic.payload.__name__


def _channel(topic: Topic) -> dict[str, Any]:
    payload = _payload(topic)
    patterns = dict(topic.patterns)
    channel: dict[str, Any] = {
        "address": topic.template,
        "description": topic.about,
        "messages": {payload: {"$ref": f"#/components/messages/{payload}"}},
    }
    parameters = {
        name: {"description": f"matches {patterns.get(name, _DERIVED)}"}
        for name in fields(topic.template)
    }
    return {**channel, "parameters": parameters} if parameters else channel


def _operations(topic: Topic) -> Iterator[tuple[str, dict[str, Any]]]:
    name = _name(topic)
    binding = "copy" if topic.retained else "order"
    for verb, action, roles in (
        ("sends", "send", topic.writers),
        ("receives", "receive", topic.readers),
    ):
        for role in roles:
            yield (
                f"{role} {verb} {name}",
                {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{name}"},
                    "title": f"{role} {verb} {topic.template}",
                    "bindings": {"$ref": f"#/components/operationBindings/{binding}"},
                    "messages": [{"$ref": f"#/channels/{name}/messages/{_payload(topic)}"}],
                },
            )
