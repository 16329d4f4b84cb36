"""What the manager demands of a launching message (BIND-010), demanded here of a start as well.

A start that only one of the two refuses would run until its time is up without any task.
"""

import json
from typing import Any, Final

from roost.wire.refusal import MALFORMED, Refused

MAX_DEPTH: Final = 64


def check_strict(payload: bytes) -> None:
    """Look at JSON that could be read already.

    Raises:
        Refused: malformed, for a name that an object has twice, or deep nesting.
    """
    if _depth(json.loads(payload, object_pairs_hook=_names_once)) > MAX_DEPTH:
        raise Refused(MALFORMED, f"it is nested deeper than {MAX_DEPTH}")


def _names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(MALFORMED, f"the field '{twice}' is there twice")
    return content


def _depth(content: Any) -> int:
    level, depth = [content], 0
    while level:
        depth += any(isinstance(each, dict | list) for each in level)
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth
