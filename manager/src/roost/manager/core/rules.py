"""What a set of binding files must keep, beyond being well formed.

Topics are checked so that no message is delivered twice (an MQTT 5 broker sends one copy for each
overlapping subscription), no forward feeds itself, and nothing is forwarded into the topics by
which Roost is controlled.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any, Final

from pydantic import ValidationError
from roost.manager.core.binding import (
    Binding,
    Bindings,
    BindingsInvalid,
    ForwardRule,
    LaunchRule,
    Leaf,
    Node,
    Problem,
    Sequence,
    Table,
)
from roost.manager.core.control import CONTROL_FILTERS, CONTROL_LEVELS, is_control
from roost.manager.core.launch import number
from roost.manager.core.substitute import EACH, Ref, Template
from roost.protocol.task.messages import TaskRequest
from roost.wire.topic import matches, overlaps, topic_problem

# Stands for a field's text when a task template is tried out: an id, a number and a file name.
_SAMPLE: Final = "1"


def check(files: Iterable[Binding]) -> Bindings:
    """Join files to one set.

    Raises:
        BindingsInvalid: with every problem found.
    """
    bindings = Bindings(tuple(files))
    problems = [
        *(problem for rule in bindings.launches for problem in _launch_problems(rule)),
        *(problem for rule in bindings.forwards for problem in _forward_problems(rule)),
        *_launch_clashes(bindings.launches),
        *_forward_clashes(bindings.forwards),
        *_loops(bindings.forwards),
    ]
    if problems:
        raise BindingsInvalid(problems)
    return bindings


def _problem(where: str, text: str) -> Problem:
    file, _, line = where.rpartition(":")
    return Problem(file, int(line), text)


def _launch_problems(rule: LaunchRule) -> Iterator[Problem]:
    for text in _filter_problems(rule.topic):
        yield _problem(rule.where, f"launch topic '{rule.topic}': {text}")
    if "#" in rule.topic:
        yield _problem(rule.where, f"launch topic '{rule.topic}': # is not possible here, + is")
    if is_control(rule.topic) or any(overlaps(rule.topic, own) for own in CONTROL_FILTERS):
        yield _problem(rule.where, f"launch topic '{rule.topic}' is one of Roost's own")
    if not rule.key.fields:
        yield _problem(rule.key.where, "the key names no field: it would launch once, for ever")
    if EACH in rule.key.fields:
        yield _problem(rule.key.where, f"the key names all tasks of a message: no {{{EACH}}} in it")
    if rule.for_each is None:
        for template in _templates(rule.task):
            if EACH in template.fields:
                yield _problem(template.where, f"{{{EACH}}} needs 'for_each'")
    yield from _task_problems(rule)


def _forward_problems(rule: ForwardRule) -> Iterator[Problem]:
    for text in _filter_problems(rule.source):
        yield _problem(rule.where, f"forward from '{rule.source}': {text}")
    for text in _filter_problems(rule.to):
        yield _problem(rule.where, f"forward to '{rule.to}': {text}")
    if "+" in rule.to or "#" in rule.to:
        yield _problem(rule.where, f"forward to '{rule.to}': it must be one topic, without + and #")
    if is_control(rule.to):
        levels = ", ".join(f"{level}/" for level in sorted(CONTROL_LEVELS))
        yield _problem(rule.where, f"forward to '{rule.to}': {levels} are Roost's own topics")


def _filter_problems(topic_filter: str) -> Iterator[str]:
    """What MQTT 5.0, section 4.7 forbids, and the broker's own topics."""
    levels = topic_filter.split("/")
    if any("+" in level and level != "+" for level in levels):
        yield "+ must be a whole level"
    if any("#" in level and level != "#" for level in levels) or "#" in levels[:-1]:
        yield "# must be the whole last level"
    if topic_filter.startswith("$"):
        yield "topics that begin with $ are the broker's own"
    problem = topic_problem(topic_filter)
    if problem is not None:
        yield problem


def _launch_clashes(rules: Iterable[LaunchRule]) -> Iterator[Problem]:
    for first, second in combinations(rules, 2):
        if overlaps(first.topic, second.topic):
            text = f"launch topic '{second.topic}' overlaps '{first.topic}' ({first.where})"
            yield _problem(second.where, f"{text}: one message may obey one rule only")


def _forward_clashes(rules: Iterable[ForwardRule]) -> Iterator[Problem]:
    for first, second in combinations(rules, 2):
        if (first.source, first.to) == (second.source, second.to):
            yield _problem(second.where, f"the same forward as {first.where}")
        elif first.source != second.source and overlaps(first.source, second.source):
            text = f"forward from '{second.source}' overlaps '{first.source}' ({first.where})"
            yield _problem(second.where, f"{text}: a broker would deliver two copies")


def _loops(rules: tuple[ForwardRule, ...]) -> Iterator[Problem]:
    """Forwards that feed themselves, by themselves or through others."""
    feeds = {a: [b for b in rules if matches(b.source, a.to)] for a in rules}
    for start in rules:
        way = _way_back(start, feeds)
        if way:
            text = "; ".join(str(rule) for rule in way)
            yield _problem(start.where, f"this forward feeds itself: {text}")


def _way_back(
    start: ForwardRule, feeds: dict[ForwardRule, list[ForwardRule]]
) -> tuple[ForwardRule, ...]:
    """Return the shortest chain of forwards from this one to itself, or nothing."""
    ways: list[tuple[ForwardRule, ...]] = [(start,)]
    seen: set[ForwardRule] = set()
    while ways:
        way = ways.pop(0)
        for rule in feeds[way[-1]]:
            if rule == start:
                return way
            if rule not in seen:
                seen.add(rule)
                ways.append((*way, rule))
    return ()


def _templates(node: Node) -> Iterator[Template]:
    match node:
        case Leaf(template=template):
            yield template
        case Sequence(items=items):
            for item in items:
                yield from _templates(item)
        case _:
            for _, item in node.items:
                yield from _templates(item)


def _task_problems(rule: LaunchRule) -> Iterator[Problem]:
    """Try the task template out, and report what no message could make right."""
    try:
        TaskRequest.model_validate({"task_id": _SAMPLE, **_sample(rule.task)})
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            where = _culprit(rule, problem["loc"])
            if where is not None:
                place = ".".join(str(part) for part in problem["loc"])
                yield _problem(where, f"task.{place}: {problem['msg']}")
    for output in _outputs(rule.task):
        first = output.template.parts[0] if output.template.parts else ""
        if isinstance(first, str) and is_control(first):
            yield _problem(output.template.where, "an output cannot go to Roost's own topics")


def _outputs(task: Table) -> Iterator[Leaf]:
    found = task.get("outputs")
    for item in found.items if isinstance(found, Sequence) else ():
        topic = item.get("topic") if isinstance(item, Table) else None
        if isinstance(topic, Leaf):
            yield topic


def _sample(node: Node) -> Any:
    match node:
        case Leaf(template=template, number=is_number):
            text = "".join(_SAMPLE if isinstance(p, Ref) else p for p in template.parts)
            return number(text) if is_number else text
        case Sequence(items=items):
            return tuple(_sample(item) for item in items)
        case _:
            return {name: _sample(item) for name, item in node.items}


def _culprit(rule: LaunchRule, place: tuple[int | str, ...]) -> str | None:
    """Return the line of the text that is wrong whatever the message says, if it is such."""
    node: Node | None = rule.task
    where = rule.where
    for part in place:
        if isinstance(node, Table) and isinstance(part, str):
            node = node.get(part)
        elif isinstance(node, Sequence) and isinstance(part, int):
            node = node.items[part]
        if node is None:
            return where
        templates = list(_templates(node))
        where = templates[0].where if templates else where
    if isinstance(node, Leaf) and node.template.fields and place[-1] != "[key]":
        return None
    return where
