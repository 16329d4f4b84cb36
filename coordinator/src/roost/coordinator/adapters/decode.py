"""Messages to events. What cannot be read is refused here, with its reason, and still told."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from roost.chassis.received import Received
from roost.coordinator.adapters.spool import Spool
from roost.coordinator.adapters.strict import check_strict
from roost.coordinator.core.events import (
    AdoptionOrdered,
    ExperimentOrdered,
    ExperimentStopOrdered,
    IndexRead,
    OrderRefused,
    PropletSeen,
    RollbackOrdered,
    RoundOrdered,
    RoundUnreadable,
    TaskChanged,
    UpdateArrived,
    UpdateOffered,
    UpdateUnreadable,
)
from roost.coordinator.core.facts import TaskFact
from roost.protocol.round.messages import (
    Adopt,
    ExperimentStart,
    ExperimentStop,
    ModelIndex,
    Rollback,
    RoundStart,
)
from roost.protocol.round.refusals import BAD_SOURCE
from roost.protocol.round.topics import (
    EXPERIMENT_START,
    EXPERIMENT_STOP,
    FORWARDED_UPDATE,
    MODEL_ADOPT,
    MODEL_INDEX,
    MODEL_ROLLBACK,
    ROUND_START,
    ROUND_UPDATE,
)
from roost.protocol.task.messages import FailureReason, Presence, PresenceStatus, TaskState
from roost.protocol.task.topics import PRESENCE
from roost.protocol.task.topics import STATE as TASK_STATE
from roost.wire.blob import MANIFEST_CONTENT_TYPE, Manifest
from roost.wire.ids import DERIVED_SEPARATOR, ID_PATTERN, MAX_DERIVED_LENGTH
from roost.wire.refusal import MALFORMED, RETAINED_ORDER, Refused

# The index comes before orders, so that a start after a connect finds it.
SUBSCRIPTIONS: Final = (
    MODEL_INDEX,
    PRESENCE,
    TASK_STATE,
    ROUND_START,
    FORWARDED_UPDATE,
    MODEL_ROLLBACK,
    MODEL_ADOPT,
    EXPERIMENT_START,
    EXPERIMENT_STOP,
)
SOURCE_TOPIC: Final = "source-topic"
_DERIVED: Final = rf"{ID_PATTERN}(?:{DERIVED_SEPARATOR}{ID_PATTERN})*"
_ID: Final = re.compile(_DERIVED)
_ROUND_ID: Final = re.compile(rf'"round_id"\s*:\s*"({_DERIVED})"'.encode())
_LONGEST_DETAIL: Final = 300
# The guest itself says best why it gave up or broke.
_SAID_BY_GUEST: Final = (FailureReason.EXIT_CODE, FailureReason.TRAP)

Decoder: TypeAlias = Callable[[Received, float], Any]


class Decode:
    """Turns messages into events; updates are on disk when their event exists."""

    def __init__(self, spool: Spool) -> None:
        """Keep updates in this spool."""
        self._spool = spool
        self._exact: Mapping[str, Decoder] = {
            ROUND_START.template: _order(_round_start),
            FORWARDED_UPDATE.template: self._update,
            MODEL_INDEX.template: _index,
            MODEL_ROLLBACK.template: _order(_rollback),
            MODEL_ADOPT.template: _order(_adopt),
            EXPERIMENT_START.template: _order(_experiment_start),
        }

    def __call__(self, received: Received, at: float) -> Any:
        """Return the event that a message means, or None.

        Raises:
            Refused: others' retained topic holds what cannot be read.
        """
        decoder = self._exact.get(received.topic)
        if decoder is not None:
            return decoder(received, at)
        if (ids := TASK_STATE.match(received.topic)) is not None:
            return _task_state(received, at, ids["task_id"])
        if (ids := PRESENCE.match(received.topic)) is not None:
            return _presence(received, at, ids["proplet_id"])
        return _order(_experiment_stop)(received, at)

    def _update(self, received: Received, at: float) -> Any:
        sources = [value for name, value in received.properties if name == SOURCE_TOPIC]
        # The manager removes all that came and adds one. Where there are more, it was not he.
        ids = ROUND_UPDATE.match(sources[0]) if len(sources) == 1 else None
        if ids is None:
            detail = f"an update with the source topics {sources[:3]!r:.200}"
            return OrderRefused(at, BAD_SOURCE, detail)
        round_id, sender = ids["round_id"], ids["proplet_id"]
        try:
            if received.content_type == MANIFEST_CONTENT_TYPE:
                return UpdateOffered(at, round_id, sender, Manifest.decode(received.payload))
            arrival = self._spool.take_in(round_id, sender, received.payload)
        except Refused as error:
            return UpdateUnreadable(at, round_id, sender, error.refusal, error.detail)
        return UpdateArrived(at, round_id, arrival)


def _order(decoder: Decoder) -> Decoder:
    """Refuse retained orders, and make every refusal an event that is counted and shown."""

    def decode(received: Received, at: float) -> Any:
        if received.retain:
            detail = f"{received.topic} is retained"
            return OrderRefused(at, RETAINED_ORDER, detail)
        try:
            return decoder(received, at)
        except Refused as error:
            return OrderRefused(at, error.refusal, f"{received.topic}: {error.detail}")

    return decode


def _sha256(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def _round_start(received: Received, at: float) -> RoundOrdered | RoundUnreadable:
    payload, sha256 = received.payload, _sha256(received.payload)
    try:
        start = RoundStart.decode(payload)
        check_strict(payload)
    except Refused as error:
        round_id = _readable_id(payload)
        if round_id is None:
            raise
        return RoundUnreadable(at, round_id, sha256, error.refusal, error.detail)
    return RoundOrdered(at, start, payload.decode(), sha256)


def _readable_id(payload: bytes) -> str | None:
    """Return the round_id of a start that cannot be read as a whole, if it has one."""
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        found = _ROUND_ID.search(payload)
        said = found[1].decode() if found else ""
    else:
        text = content.get("round_id") if isinstance(content, dict) else None
        said = text if isinstance(text, str) and _ID.fullmatch(text) else ""
    return said if 0 < len(said) <= MAX_DERIVED_LENGTH else None


def _rollback(received: Received, at: float) -> RollbackOrdered:
    return RollbackOrdered(at, Rollback.decode(received.payload))


def _adopt(received: Received, at: float) -> AdoptionOrdered:
    return AdoptionOrdered(at, Adopt.decode(received.payload))


def _experiment_start(received: Received, at: float) -> ExperimentOrdered:
    payload = received.payload
    order = ExperimentStart.decode(payload)
    return ExperimentOrdered(at, order, payload.decode(), _sha256(payload))


def _experiment_stop(received: Received, at: float) -> ExperimentStopOrdered | None:
    ids = EXPERIMENT_STOP.match(received.topic)
    if ids is None:
        return None
    stop = ExperimentStop.decode(received.payload or b"{}")
    return ExperimentStopOrdered(at, ids["experiment_id"], stop.reason)


def _index(received: Received, at: float) -> IndexRead | None:
    return IndexRead(at, ModelIndex.decode(received.payload)) if received.payload else None


def _presence(received: Received, at: float, proplet_id: str) -> PropletSeen | None:
    """Take a presence in; one that cannot be read still tells that there is such a proplet."""
    if not received.payload:
        return None
    try:
        offline = Presence.decode(received.payload).status is PresenceStatus.OFFLINE
    except Refused:
        offline = False
    return PropletSeen(at, proplet_id, offline=offline)


def _task_state(received: Received, at: float, task_id: str) -> TaskChanged | None:
    """Take a state in if a start launched the task; the launch's key is the round's id."""
    if ROUND_START.template.encode() not in received.payload:
        return None
    state = TaskState.decode(received.payload)
    if state.task_id != task_id:
        text = f"the state of task '{state.task_id}' came on {received.topic}"
        raise Refused(MALFORMED, text)
    launch = state.launch
    if launch is None or launch.topic != ROUND_START.template:
        return None
    participant = state.task_id.removeprefix(launch.key + DERIVED_SEPARATOR)
    detail = _detail(state)
    fact = TaskFact(state.task_id, state.state, launch.sha256, state.reason, detail)
    return TaskChanged(at, launch.key, participant, fact)


def _detail(state: TaskState) -> str | None:
    """Say in one line why a task failed: the guest's last words, or the proplet's message."""
    if not state.state.final:
        return None
    lines = [line for line in (state.stderr_tail or "").splitlines() if line.strip()]
    said = lines[-1:] if state.reason in _SAID_BY_GUEST else []
    if not said or state.reason != FailureReason.EXIT_CODE:
        said.append(state.message or "")
    line = " ".join("; ".join(filter(None, said)).split())
    if len(line) > _LONGEST_DETAIL:
        line = line[: _LONGEST_DETAIL - 1] + "…"
    return line or None
