"""Orders as they arrive, turned into events."""

from collections.abc import Callable
from typing import Any, Final

from roost.chassis.received import Received
from roost.proplet.core.events import ResendArrived, SaidOffline, StartArrived, StopArrived
from roost.protocol.task import topics
from roost.protocol.task.messages import Presence, PresenceStatus, StartTask, StopTask
from roost.wire.refusal import BAD_TOPIC, RETAINED_ORDER, Refused

ORDERS: Final = (topics.START, topics.STOP, topics.RESEND_OUTPUTS)


def subscriptions(proplet_id: str) -> list[str]:
    """Return the filters of the orders to one proplet."""
    return [row.filter.replace("+", proplet_id, 1) for row in ORDERS]


def own_presence(proplet_id: str) -> str:
    """Return the topic of this proplet's own presence."""
    return topics.PRESENCE.format(proplet_id=proplet_id)


def decode(received: Received, at: float) -> Any:
    """Turn an order, or what is said of this proplet's presence, into its event.

    Raises:
        Refused: it is retained, malformed, or on a topic with a bad id.
    """
    if topics.PRESENCE.match(received.topic) is not None:
        return _presence(received, at)
    if received.retain:
        raise Refused(RETAINED_ORDER, f"an order on {received.topic} came retained")
    for row in ORDERS:
        ids = row.match(received.topic)
        if ids is not None:
            return _READERS[row.template](received.payload, ids["task_id"], at)
    raise Refused(BAD_TOPIC, f"{received.topic} is no order's topic")


def _presence(received: Received, at: float) -> SaidOffline | None:
    """Look for a last will; what the broker keeps is replaced after each connect anyway."""
    if received.retain or not received.payload:
        return None
    online = Presence.decode(received.payload).status is PresenceStatus.ONLINE
    return None if online else SaidOffline(at)


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
