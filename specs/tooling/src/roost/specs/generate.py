"""Everything that is generated below ``specs/``, as text by path."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from roost.protocol.phone.refusals import PHONE_REFUSALS
from roost.protocol.phone.topics import TOPICS as PHONE_TOPICS
from roost.protocol.round.refusals import ROUND_REFUSALS
from roost.protocol.round.topics import TOPICS as ROUND_TOPICS
from roost.protocol.task.refusals import TASK_REFUSALS
from roost.protocol.task.topics import TOPICS as TASK_TOPICS
from roost.specs.asyncapi import document
from roost.specs.diagrams import MACHINES, diagram
from roost.specs.pages import fill
from roost.specs.schemas import as_json, json_schema, messages
from roost.specs.settings import settings_page
from roost.specs.tables import message_tables, refusal_table, topic_table
from roost.wire.blob import TOPICS as BLOB_TOPICS
from roost.wire.refusal import WIRE_REFUSALS
from roost.wire.topic import Topic

GENERATED: Final = Path("generated")
PAGES: Final = ("wire.md", "task-protocol.md", "round-protocol.md", "phone.md")
ALL_TOPICS: Final = (*BLOB_TOPICS, *TASK_TOPICS, *ROUND_TOPICS, *PHONE_TOPICS)


def generated(folder: Path) -> dict[Path, str]:
    """Return the content that each generated file should have.

    Args:
        folder: ``specs/``, whose pages have generated parts.
    """
    files = {GENERATED / "settings.md": settings_page()}
    for name, message in messages(ALL_TOPICS).items():
        files[GENERATED / "schemas" / f"{name}.json"] = as_json(json_schema(message))
    files[GENERATED / "asyncapi-task.json"] = as_json(
        document(
            "Roost task protocol",
            "Launching, running, watching and cancelling tasks; blobs.",
            (*TASK_TOPICS, *BLOB_TOPICS),
        )
    )
    files[GENERATED / "asyncapi-round.json"] = as_json(
        document("Roost round protocol", "Rounds, updates, models, experiments.", ROUND_TOPICS)
    )
    files[GENERATED / "asyncapi-phone.json"] = as_json(
        document("Roost phone protocol", "What phones and their bridge say.", PHONE_TOPICS)
    )
    parts = all_parts()
    for page in PAGES:
        files[Path(page)] = fill((folder / page).read_text(encoding="utf-8"), parts)
    return files


def all_parts() -> Mapping[str, Callable[[], str]]:
    """Return what can stand between the markers of a page."""
    parts: dict[str, Callable[[], str]] = {
        "topics of blobs": partial(topic_table, BLOB_TOPICS),
        "topics of tasks": partial(topic_table, TASK_TOPICS),
        "topics of rounds": partial(topic_table, ROUND_TOPICS),
        "topics of phones": partial(topic_table, PHONE_TOPICS),
        "refusals of the wire": partial(refusal_table, WIRE_REFUSALS),
        "refusals of tasks": partial(refusal_table, TASK_REFUSALS),
        "refusals of rounds": partial(refusal_table, ROUND_REFUSALS),
        "refusals of phones": partial(refusal_table, PHONE_REFUSALS),
        "messages of blobs": partial(_messages, BLOB_TOPICS),
        "messages of tasks": partial(_messages, TASK_TOPICS),
        "messages of rounds": partial(_messages, ROUND_TOPICS),
        "messages of phones": partial(_messages, PHONE_TOPICS),
    }
    return {**parts, **{f"states of {name}": partial(diagram, name) for name in MACHINES}}


def _messages(topics: tuple[Topic, ...]) -> str:
    return message_tables(messages(topics).values())
