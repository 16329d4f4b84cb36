"""Topics as data: the tables built from these are the only places with topic strings.

A template such as ``tasks/{task_id}/state`` yields the topic of one task, the filter that
subscribes to all of them, and the ids of a topic that arrived. From the same tables come
subscriptions, JSON Schemas, the ACL file and the pages of specs/.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from roost.wire.ids import DERIVED_SEPARATOR, ID_PATTERN, MAX_DERIVED_LENGTH
from roost.wire.message import Message

MAX_TOPIC_BYTES: Final = 4096
MAX_TOPIC_LEVELS: Final = 100
_FIELD = re.compile(r"\{(\w+)\}")
_UNSENDABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef]")
_NON_CHARACTERS = (0xFFFE, 0xFFFF)
_ID = rf"{ID_PATTERN}(?:{DERIVED_SEPARATOR}{ID_PATTERN})*"


@dataclass(frozen=True)
class Topic:
    """One row of a topic table.

    Attributes:
        template: Topic with ``{id}`` fields, each one whole level or part of one.
        payload: The JSON message it carries; None: bytes or a form told apart by content.
        writers: Roles that publish on it.
        readers: Roles that subscribe to it.
        retained: Whether the broker keeps the last message.
        about: One sentence for the table in specs/.
        patterns: Regular expressions of fields that are no plain ids, by field name.
    """

    template: str
    payload: type[Message] | None
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    retained: bool
    about: str
    patterns: tuple[tuple[str, str], ...] = ()

    @cached_property
    def filter(self) -> str:
        """The MQTT subscription filter that covers every topic of this row."""
        levels = self.template.split("/")
        return "/".join("+" if "{" in level else level for level in levels)

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        patterns = dict(self.patterns)
        parts = _FIELD.split(self.template)
        literal, names = parts[0::2], parts[1::2]
        regex = re.escape(literal[0])
        for name, text in zip(names, literal[1:], strict=True):
            regex += rf"(?P<{name}>{patterns.get(name, _ID)})" + re.escape(text)
        return re.compile(regex)

    def format(self, **ids: str | int) -> str:
        """Return the topic of these ids.

        Raises:
            ValueError: an id is not one, so that the topic would not be of this row.
        """
        topic = self.template.format_map(ids)
        if self.match(topic) is None:
            raise ValueError(f"{ids} do not make a topic of the form {self.template}")
        return topic

    def match(self, topic: str) -> Mapping[str, str] | None:
        """Return the ids of a topic of this row, or None for any other topic.

        A row without ids returns an empty mapping: compare with None. Ids longer than
        ``MAX_DERIVED_LENGTH`` are none: they become names of files, and topics in turn.
        """
        found = self._regex.fullmatch(topic)
        if found is None:
            return None
        ids = found.groupdict()
        return ids if all(len(id_) <= MAX_DERIVED_LENGTH for id_ in ids.values()) else None


def topic_problem(topic: str) -> str | None:
    """Say why a broker would end the connection of whoever names this topic or filter, or None.

    MQTT 5.0, section 1.5.4 allows it to; a client that repeats what was not acknowledged would
    then never keep a connection again.
    """
    if _UNSENDABLE.search(topic) or any(ord(c) & 0xFFFF in _NON_CHARACTERS for c in topic):
        return "it holds characters that MQTT does not allow"
    if not 0 < len(topic.encode()) <= MAX_TOPIC_BYTES:
        return f"it has not 1 to {MAX_TOPIC_BYTES} bytes"
    if topic.count("/") >= MAX_TOPIC_LEVELS:
        return f"it has more than {MAX_TOPIC_LEVELS} levels"
    return None


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether an MQTT filter covers a topic (MQTT 5.0, section 4.7)."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if levels[0].startswith("$") and wanted[0] in ("+", "#"):
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


def overlaps(filter_a: str, filter_b: str) -> bool:
    """Tell whether some topic is covered by both MQTT filters."""
    a, b = filter_a.split("/"), filter_b.split("/")
    for index in range(max(len(a), len(b))):
        left = a[index] if index < len(a) else None
        right = b[index] if index < len(b) else None
        if "#" in (left, right):
            return True
        if left is None or right is None:
            return False
        if left != right and "+" not in (left, right):
            return False
    return True
