"""The state traces of specs/vectors/phone, as events and wants of the simulated phone."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from roost.ios_bridge.simulator.core import states
from roost.ios_bridge.simulator.core.states import Drop, Halt, HandIn, Say, Want, Work
from roost.protocol.phone.messages import PhoneOrder, Reading
from roost.protocol.task.messages import FailureReason, Usage

_EVENTS: Mapping[str, Callable[..., Any]] = {
    "connected": states.Connected,
    "lost": states.Lost,
    "sleeps": states.Sleeps,
    "felt": states.Felt,
    "beat": states.Beat,
    "order": states.OrderCame,
    "began": states.Began,
    "progressed": states.Progressed,
    "ended": states.Ended,
    "handed_in": states.HandedIn,
    "hand_in_delayed": states.HandInDelayed,
}
_READ: Mapping[str, Callable[[Any], Any]] = {
    "key": tuple,
    "order": lambda value: PhoneOrder.decode(json.dumps(value).encode()),
    "reading": Reading.model_validate,
    "reason": lambda value: None if value is None else FailureReason(value),
    "usage": Usage.model_validate,
}


def event_of(found: Mapping[str, Any]) -> Any:
    """Return the event that a trace tells."""
    fields = {
        name: _READ[name](value) if name in _READ else value
        for name, value in found.items()
        if name not in ("type", "at_ms")
    }
    return _EVENTS[found["type"]](found["at_ms"] / 1000, **fields)


def want_of(want: Want) -> dict[str, Any]:
    """Return a want as a trace tells it."""
    match want:
        case Say(message):
            return {"say": type(message).__name__, "value": json.loads(message.encode())}
        case Work(task, wall_s):
            return {"work": [task.task_id, task.attempt], "wall_ms": round(wall_s * 1000)}
        case HandIn(task):
            return {"hand_in": [task.task_id, task.attempt]}
        case Halt(key):
            return {"halt": list(key)}
        case Drop(key):
            return {"drop": list(key)}
