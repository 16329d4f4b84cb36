"""Turns messages into events."""

from typing import Any, Final

from roost.chassis.received import Received
from roost.manager.core.events import LifeSign, Ordered, PresenceArrived, ReportArrived
from roost.protocol.task.messages import Presence, Report, Telemetry
from roost.protocol.task.topics import (
    CANCEL,
    LAUNCH,
    PRESENCE,
    REPORT,
    RESEND,
    TELEMETRY,
    WORKLOADS_RELOAD,
)
from roost.wire.refusal import MALFORMED, Refused

CONTROL: Final = (LAUNCH, CANCEL, RESEND, WORKLOADS_RELOAD, REPORT, PRESENCE, TELEMETRY)


def decode(received: Received, at: float) -> Any:
    """Return the event that a message is, or None.

    Orders go to the core undecoded: it refuses them where their senders can see it.

    Raises:
        Refused: what a proplet said is malformed.
    """
    if ids := REPORT.match(received.topic):
        report = Report.decode(received.payload)
        return ReportArrived(at, ids["proplet_id"], ids["task_id"], report)
    if ids := PRESENCE.match(received.topic):
        return _presence(received, ids["proplet_id"], at)
    if ids := TELEMETRY.match(received.topic):
        Telemetry.decode(received.payload)
        return None if received.retain else LifeSign(at, ids["proplet_id"])
    return Ordered(
        at,
        received.topic,
        received.payload,
        received.retain,
        received.response_topic,
        received.correlation,
    )


def _presence(received: Received, proplet_id: str, at: float) -> PresenceArrived | None:
    if not received.payload:
        return None  # an operator cleared the retained card of a proplet that is gone
    presence = Presence.decode(received.payload)
    if presence.proplet_id != proplet_id:
        text = f"the presence of '{presence.proplet_id}' came on {received.topic}"
        raise Refused(MALFORMED, text)
    return PresenceArrived(at, presence, received.retain)
