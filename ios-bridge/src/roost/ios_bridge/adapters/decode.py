"""Messages as they arrive, turned into events."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from roost.chassis.received import Received
from roost.ios_bridge.core.events import (
    InviteArrived,
    OperatorRefused,
    PhoneReported,
    PhoneSlept,
    PhoneTold,
    ReadingCame,
    ResendArrived,
    RevokeArrived,
    StartArrived,
    StopArrived,
)
from roost.protocol.phone import topics as phones
from roost.protocol.phone.messages import (
    InvitePhone,
    PhoneAsleep,
    PhoneReport,
    PhoneState,
    Reading,
)
from roost.protocol.task import topics as tasks
from roost.protocol.task.messages import StartTask, StopTask
from roost.wire.ids import ID_PATTERN
from roost.wire.refusal import BAD_TOPIC, MALFORMED, RETAINED_ORDER, Refused
from roost.wire.topic import Topic

TASK_ORDERS: Final = (tasks.START, tasks.STOP, tasks.RESEND_OUTPUTS)
PHONE_NEWS: Final = (phones.STATE, phones.REPORT, phones.ASLEEP)
OPERATORS: Final = (phones.INVITE, phones.REVOKE)
OWNTRACKS: Final = Topic(
    "owntracks/{user}/{device}",
    None,
    ("owntracks",),
    ("bridge",),
    retained=True,
    about="What the OwnTracks app tells of a phone.",
    patterns=(("user", ID_PATTERN), ("device", ID_PATTERN)),
)
_CHARGING: Final = {1: False, 2: True, 3: True}
"""OwnTracks' battery status; 0 is unknown."""


def subscriptions(*, owntracks: bool) -> list[str]:
    """Return the filters of all that the bridge takes in."""
    rows = (*TASK_ORDERS, *PHONE_NEWS, *OPERATORS, *((OWNTRACKS,) if owntracks else ()))
    return [row.filter for row in rows]


def orders() -> list[str]:
    """Return those filters that carry orders or news, of which none may be retained."""
    return [row.filter for row in (*TASK_ORDERS, *PHONE_NEWS, *OPERATORS)]


def decode(received: Received, at: float) -> Any:
    """Turn a message into its event.

    Raises:
        Refused: it is retained, malformed, or on a topic with a bad id.
    """
    for row, read in _READERS.items():
        ids = row.match(received.topic)
        if ids is None:
            continue
        if row is OWNTRACKS:
            return read(received.payload, ids, at)
        if not received.retain:
            return _checked(row, read, received, ids, at)
        refusal = Refused(RETAINED_ORDER, f"an order on {received.topic} came retained")
        if row in OPERATORS:
            return OperatorRefused(at, refusal.refusal, refusal.detail)
        raise refusal
    raise Refused(BAD_TOPIC, f"{received.topic} is no topic of the bridge")


def _checked(
    row: Topic, read: "_Read", received: Received, ids: Mapping[str, str], at: float
) -> Any:
    """Read a message; what is wrong with an operator's is shown to operators."""
    try:
        return read(received.payload, ids, at)
    except Refused as error:
        if row in OPERATORS:
            return OperatorRefused(at, error.refusal, error.detail)
        raise


def _start(payload: bytes, ids: Mapping[str, str], at: float) -> StartArrived:
    order = StartTask.decode(payload)
    who = (ids["proplet_id"], ids["task_id"])
    return StartArrived(at, *who, order.attempt, order.remaining_s, order.task)


def _stop(payload: bytes, ids: Mapping[str, str], at: float) -> StopArrived:
    order = StopTask.decode(payload)
    return StopArrived(at, ids["proplet_id"], ids["task_id"], order.attempt, order.reason)


def _resend(_payload: bytes, ids: Mapping[str, str], at: float) -> ResendArrived:
    return ResendArrived(at, ids["proplet_id"], ids["task_id"])


def _state(payload: bytes, ids: Mapping[str, str], at: float) -> PhoneTold:
    return PhoneTold(at, ids["device"], PhoneState.decode(payload))


def _report(payload: bytes, ids: Mapping[str, str], at: float) -> PhoneReported:
    return PhoneReported(at, ids["device"], PhoneReport.decode(payload))


def _asleep(payload: bytes, ids: Mapping[str, str], at: float) -> PhoneSlept:
    return PhoneSlept(at, ids["device"], PhoneAsleep.decode(payload).connection_id)


def _invite(payload: bytes, _ids: Mapping[str, str], at: float) -> InviteArrived:
    return InviteArrived(at, InvitePhone.decode(payload))


def _revoke(_payload: bytes, ids: Mapping[str, str], at: float) -> RevokeArrived:
    return RevokeArrived(at, ids["device"])


def _owntracks(payload: bytes, ids: Mapping[str, str], at: float) -> ReadingCame | None:
    """Read ``batt`` and ``bs``; other messages of the app say nothing of the battery."""
    try:
        found = json.loads(payload)
    except ValueError as error:
        raise Refused(MALFORMED, f"OwnTracks: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("batt"), (int, float)):
        return None
    battery = float(min(100, max(0, found["batt"])))
    reading = Reading(battery=battery, on_power=_CHARGING.get(found.get("bs", 0)))
    return ReadingCame(at, ids["device"], reading)


_Read = Callable[[bytes, Mapping[str, str], float], Any]
_READERS: Final[Mapping[Topic, _Read]] = {
    tasks.START: _start,
    tasks.STOP: _stop,
    tasks.RESEND_OUTPUTS: _resend,
    phones.STATE: _state,
    phones.REPORT: _report,
    phones.ASLEEP: _asleep,
    phones.INVITE: _invite,
    phones.REVOKE: _revoke,
    OWNTRACKS: _owntracks,
}
