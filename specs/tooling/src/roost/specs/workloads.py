"""The topics that workload bindings name, taken from the manager's own reader of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from roost.manager.core.binding import Bindings, LaunchRule, Leaf, Sequence, Table
from roost.manager.core.substitute import Ref, Template

USER: Final = "%u"
_ANY: Final = "+"


@dataclass(frozen=True, slots=True)
class WorkloadTopics:
    """What bindings name, as MQTT filters; ``%u`` stands for the proplet that runs a task.

    Attributes:
        launches: Topics whose messages launch tasks.
        sources: Topics whose messages are forwarded.
        destinations: Topics that they are forwarded to.
        inputs: Topics that tasks read.
        outputs: Topics that tasks write.
    """

    launches: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def topics_of(bindings: Bindings) -> WorkloadTopics:
    """Return the topics that bindings name, each once, in the order of the files.

    Args:
        bindings: As ``roost.manager.bindings.load`` reads them.
    """
    launches, forwards = bindings.launches, bindings.forwards
    return WorkloadTopics(
        launches=_once(rule.topic for rule in launches),
        sources=_once(rule.source for rule in forwards),
        destinations=_once(rule.to for rule in forwards),
        inputs=_once(topic for rule in launches for topic in _named(rule, "inputs")),
        outputs=_once(topic for rule in launches for topic in _named(rule, "outputs")),
    )


def _once(topics: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(topics))


def _named(rule: LaunchRule, name: str) -> Iterator[str]:
    """Yield the topics of a task's inputs or outputs that have a fixed part.

    A topic that comes whole out of the message, such as ``{uri}``, names nothing: what a task may
    read or write there is for the topic tables to say.
    """
    found = rule.task.get(name)
    proplet = rule.task.get("proplet")
    pinned = proplet.template if isinstance(proplet, Leaf) else None
    for item in found.items if isinstance(found, Sequence) else ():
        topic = item.get("topic") if isinstance(item, Table) else None
        if isinstance(topic, Leaf) and any(_fixed(part) for part in topic.template.parts):
            yield _filter(topic.template, pinned)


def _fixed(part: str | Ref) -> bool:
    return isinstance(part, str) and part.strip("/") != ""


def _filter(topic: Template, pinned: Template | None) -> str:
    """Write a topic's template as a filter; the field that names the proplet becomes ``%u``."""
    proplet = pinned.parts[0] if pinned is not None and len(pinned.parts) == 1 else None
    marked = "".join(
        part if isinstance(part, str) else ("\0" if part == proplet else "\1")
        for part in topic.parts
    )
    return "/".join(_level(level) for level in marked.split("/"))


def _level(level: str) -> str:
    if level == "\0":
        return USER
    return _ANY if "\0" in level or "\1" in level else level
