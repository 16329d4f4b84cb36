"""From a launching message to task requests, by the rule of a workload binding."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from roost.manager.core.binding import LaunchRule, Leaf, Node, Sequence, Table
from roost.manager.core.control import refuse_control_outputs
from roost.manager.core.jsontext import read_object
from roost.manager.core.substitute import Source, fill, look_up
from roost.protocol.task.messages import TaskRequest
from roost.protocol.task.refusals import LAUNCH_FIELD, LAUNCH_LIST, LAUNCH_TASK
from roost.wire.ids import DERIVED_SEPARATOR, ID_PATTERN, MAX_DERIVED_LENGTH, derive
from roost.wire.message import describe
from roost.wire.refusal import TOO_LARGE, Refused

MAX_TASKS: Final = 10_000
MAX_EXPANDED_BYTES: Final = 64 * 1024 * 1024
_ID: Final = re.compile(ID_PATTERN)
_KEY: Final = re.compile(rf"{ID_PATTERN}(?:{DERIVED_SEPARATOR}{ID_PATTERN})*")
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Wish:
    """A launching message that was read as far as its key.

    Attributes:
        key: Names the launch.
        message: Its fields.
    """

    key: str
    message: dict[str, Any]


def read_wish(rule: LaunchRule, payload: bytes) -> Wish:
    """Read a launching message's key, which tells whether it is worth expanding.

    Raises:
        Refused: malformed, launch_field or launch_task.
    """
    message = read_object(payload)
    key = fill(rule.key, Source(message, dict(rule.defaults)))
    if _KEY.fullmatch(key) is None or len(key) > MAX_DERIVED_LENGTH:
        raise Refused(LAUNCH_TASK, f"the key {key[:80]!r} ({rule.key.where}) is no id")
    return Wish(key, message)


def expand(rule: LaunchRule, wish: Wish) -> Iterator[TaskRequest]:
    """Yield a message's tasks by a rule's templates, in the order of its list.

    Raises:
        Refused: too_large, launch_field, launch_list or launch_task.
    """
    try:
        yield from _bounded(_requests(rule, wish.key, wish.message))
    except Refused as error:
        raise Refused(error.refusal, f"launch '{wish.key}': {error.detail}") from error


def _requests(rule: LaunchRule, key: str, message: dict[str, Any]) -> Iterator[TaskRequest]:
    defaults = dict(rule.defaults)
    if rule.for_each is None:
        yield _request(rule, key, Source(message, defaults))
        return
    for each in _elements(rule, message):
        yield _request(rule, derive(key, each), Source(message, defaults, each))


def _elements(rule: LaunchRule, message: dict[str, Any]) -> list[str]:
    name = rule.for_each or ""
    found, value = look_up(message, name)
    if not found:
        raise Refused(LAUNCH_FIELD, f"the field '{name}' is missing ({rule.where} needs it)")
    if not isinstance(value, list) or not value:
        raise Refused(LAUNCH_LIST, f"'{name}' must be a list with at least one id")
    if len(value) > MAX_TASKS:
        raise Refused(LAUNCH_LIST, f"'{name}' has {len(value)} elements, at most {MAX_TASKS}")
    seen: set[str] = set()
    for element in value:
        # A JSON number is read as its text, but only a text is an id.
        if type(element) is not str or _ID.fullmatch(element) is None:
            raise Refused(LAUNCH_LIST, f"{str(element)[:80]!r} in '{name}' is no id")
        if element in seen:
            raise Refused(LAUNCH_LIST, f"'{element}' occurs twice in '{name}'")
        seen.add(element)
    return value


def _bounded(requests: Iterator[TaskRequest]) -> Iterator[TaskRequest]:
    """Pass requests on until they are too much for one launch."""
    size = 0
    for request in requests:
        size += sum(len(text) for text in request.env.values()) + sum(
            len(item.text or item.base64 or "") for item in request.inputs
        )
        if size > MAX_EXPANDED_BYTES:
            raise Refused(TOO_LARGE, f"its tasks together exceed {MAX_EXPANDED_BYTES} bytes")
        yield request


def _request(rule: LaunchRule, task_id: str, source: Source) -> TaskRequest:
    document = render(rule.task, source)
    try:
        request = TaskRequest.model_validate({**document, "task_id": task_id})
    except ValidationError as error:
        text = f"task '{task_id[:120]}' ({rule.where}): {describe(error)}"
        raise Refused(LAUNCH_TASK, text) from None
    refuse_control_outputs(request)
    return request


def render(node: Node, source: Source) -> Any:
    """Fill a template of a task request.

    Raises:
        Refused: launch_field, or launch_task where a number is wanted.
    """
    match node:
        case Table(items=pairs):
            return {name: render(item, source) for name, item in pairs}
        case Sequence(items=items):
            return tuple(render(item, source) for item in items)
        case _:
            return _render_leaf(node, source)


def _render_leaf(leaf: Leaf, source: Source) -> str | int | float:
    text = fill(leaf.template, source)
    if not leaf.number:
        return text
    value = number(text)
    if value is None:
        raise Refused(LAUNCH_TASK, f"{text[:60]!r} ({leaf.template.where}) is no number")
    return value


def number(text: str) -> int | float | None:
    """Read a JSON number; None if it is none."""
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else None
