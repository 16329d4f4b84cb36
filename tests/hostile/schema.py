"""An independent reader of JSON Schema, as far as the generated schemas use it.

It knows nothing of the message classes: what they accept is held against what is published.
"""

import json
import math
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

SCHEMAS: Final = Path(__file__).parents[2] / "specs" / "generated" / "schemas"
_TYPES: Final = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
}


@cache
def schema(name: str) -> Any:
    """Return the published schema of a message."""
    return json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))


def fits(value: Any, rule: Any, root: Any) -> bool:
    """Tell whether a value is what a schema describes; numbers must be finite."""
    if "$ref" in rule:
        return fits(value, root["$defs"][rule["$ref"].rpartition("/")[2]], root)
    if "anyOf" in rule:
        return any(fits(value, each, root) for each in rule["anyOf"])
    if "enum" in rule and value not in rule["enum"]:
        return False
    return _typed(value, rule.get("type")) and _bounded(value, rule, root)


def _typed(value: Any, name: str | None) -> bool:
    if name is None:
        return _finite(value)
    if name in ("integer", "number"):
        kinds = (int,) if name == "integer" else (int, float)
        return type(value) in kinds and abs(value) <= sys.float_info.max
    return type(value) is _TYPES[name]


def _finite(value: Any) -> bool:
    """JSON of any form: its numbers are finite."""
    pending = [value]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            pending.extend(found.values())
        elif isinstance(found, list):
            pending.extend(found)
        elif isinstance(found, float) and not math.isfinite(found):
            return False
    return True


def _bounded(value: Any, rule: Any, root: Any) -> bool:
    if isinstance(value, str):
        size = rule.get("minLength", 0) <= len(value) <= rule.get("maxLength", math.inf)
        # $ means the very end here, which is \Z to Python.
        pattern = rule.get("pattern", "").replace("$", r"\Z")
        return size and re.search(pattern, value) is not None
    if isinstance(value, list):
        within = len(value) <= rule.get("maxItems", math.inf)
        return within and all(fits(each, rule.get("items", {}), root) for each in value)
    if isinstance(value, dict):
        return _object(value, rule, root)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value, rule)
    return True


def _number(value: float, rule: Any) -> bool:
    low, high = rule.get("minimum", -math.inf), rule.get("maximum", math.inf)
    above, below = rule.get("exclusiveMinimum", -math.inf), rule.get("exclusiveMaximum", math.inf)
    return bool(low <= value <= high and above < value < below)


def _object(value: dict[str, Any], rule: Any, root: Any) -> bool:
    properties = rule.get("properties", {})
    sized = len(value) <= rule.get("maxProperties", math.inf)
    if not sized or not all(name in value for name in rule.get("required", ())):
        return False
    names = {"type": "string", **rule.get("propertyNames", {})}
    return all(
        fits(name, names, root) and _member(name, each, rule, root)
        for name, each in value.items()
        if name not in properties
    ) and all(fits(value[name], properties[name], root) for name in properties if name in value)


def _member(name: str, value: Any, rule: Any, root: Any) -> bool:
    """Tell whether a member may stand in an object whose schema does not name it."""
    patterns = rule.get("patternProperties", {})
    if patterns:
        return all(
            re.search(pattern.replace("$", r"\Z"), name) is not None and fits(value, inner, root)
            for pattern, inner in patterns.items()
        )
    more = rule.get("additionalProperties")
    if more is None:
        return True  # a field that nobody knows, which is ignored
    return fits(value, {} if more is True else more, root) if more else False
