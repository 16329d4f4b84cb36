"""Orders as they arrive, turned into events."""

from collections.abc import Callable
from typing import Any, Final

from roost.chassis.received import Received
from roost.proplet.core.events import ResendArrived, StartArrived, StopArrived
from roost.protocol.task import topics
from roost.protocol.task.messages import StartTask, StopTask
from roost.wire.refusal import BAD_TOPIC, RETAINED_ORDER, Refused

ORDERS: Final = (topics.START, topics.STOP, topics.RESEND_OUTPUTS)


def subscriptions(proplet_id: str) -> list[str]:
    """Return the filters of the orders to one proplet."""
    return [row.filter.replace("+", proplet_id, 1) for row in ORDERS]


def decode(received: Received, at: float) -> Any:
    """Turn an order into its event.

    Raises:
        Refused: it is retained, malformed, or on a topic with a bad id.
    """
    if received.retain:
        raise Refused(RETAINED_ORDER, f"an order on {received.topic} came retained")
    for row in ORDERS:
        ids = row.match(received.topic)
        if ids is not None:
            return _READERS[row.template](received.payload, ids["task_id"], at)
    raise Refused(BAD_TOPIC, f"{received.topic} is no order's topic")


def _start(payload: bytes, task_id: str, at: float) -> StartArrived:
    order = StartTask.decode(payload)
    return StartArrived(at, task_id, order.attempt, order.remaining_s, order.task)


def _stop(payload: bytes, task_id: str, at: float) -> StopArrived:
    order = StopTask.decode(payload)
    return StopArrived(at, task_id, order.attempt, order.reason)


def _resend(_payload: bytes, task_id: str, at: float) -> ResendArrived:
    return ResendArrived(at, task_id)


_READERS: Final[dict[str, Callable[[bytes, str, float], Any]]] = {
    topics.START.template: _start,
    topics.STOP.template: _stop,
    topics.RESEND_OUTPUTS.template: _resend,
}
