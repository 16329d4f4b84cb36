"""What retained topics tell, as rows for tables."""

from __future__ import annotations

import re
from collections.abc import Sequence, Sized

from roost.cli.options import Call
from roost.cli.wire_client import Wire, read
from roost.protocol.round import topics as rounds
from roost.protocol.round.messages import ModelIndex, RoundComplete, RoundState
from roost.protocol.task import topics as tasks
from roost.protocol.task.messages import Presence, PresenceStatus, TaskState, TaskStatus, Telemetry
from roost.wire.ids import DERIVED_SEPARATOR

__all__ = [
    "Row",
    "model_index",
    "newest",
    "online_proplets",
    "proplet_rows",
    "round_rows",
    "task_rows",
    "task_states",
    "tell_if_cut",
]

Row = dict[str, object]
#: The time in an id that `fresh_id` made.
_MADE_AT = re.compile(r"(?<=-)[0-9]{4}-[0-9]{6}(?=-)")


#: The embedded broker hands out no more retained messages than this for one wildcard.
_EMBEDDED_LIMIT = 100


def tell_if_cut(call: Call, rows: Sized) -> None:
    """Say so where the embedded broker may have left some of a list out."""
    instance = call.state.read_instance()
    embedded = instance is not None and instance.kind == "embedded"
    if embedded and len(rows) >= _EMBEDDED_LIMIT:
        call.out.note("There may be more: the embedded broker lists 100 at most, mosquitto all.")


def proplet_rows(wire: Wire) -> list[Row]:
    """One row a proplet, from its presence and its last telemetry."""
    presences: dict[str, Presence] = {}
    telemetry: dict[str, Telemetry] = {}
    for received in wire.collect(tasks.PRESENCE.filter, tasks.TELEMETRY.filter):
        if presence := read(tasks.PRESENCE, received, Presence):
            presences[presence.proplet_id] = presence
        elif last := read(tasks.TELEMETRY, received, Telemetry):
            ids = tasks.TELEMETRY.match(received.topic) or {}
            telemetry[ids["proplet_id"]] = last
    return [_proplet_row(p, telemetry.get(name)) for name, p in sorted(presences.items())]


def _proplet_row(presence: Presence, telemetry: Telemetry | None) -> Row:
    online = presence.status is PresenceStatus.ONLINE
    resources = presence.resources
    return {
        "proplet": presence.proplet_id,
        "status": presence.status.value,
        "mounts": list(presence.mounts),
        "running": len(presence.running),
        "load": telemetry.load if telemetry and online else None,
        "memory_free_mb": telemetry.memory_free_mb if telemetry and online else None,
        "cpus": resources.cpus if resources else None,
        "arch": resources.arch if resources else None,
        "labels": dict(presence.labels),
    }


def online_proplets(wire: Wire) -> list[str]:
    """Ids of the proplets whose presence says online."""
    found = (read(tasks.PRESENCE, r, Presence) for r in wire.collect(tasks.PRESENCE.filter))
    return [p.proplet_id for p in found if p is not None and p.status is PresenceStatus.ONLINE]


def model_index(wire: Wire) -> ModelIndex | None:
    """The model server's index, or None if it never wrote one."""
    return read(rounds.MODEL_INDEX, wire.retained(rounds.MODEL_INDEX.template), ModelIndex)


def round_rows(wire: Wire) -> list[Row]:
    """One row a round that the broker still knows of."""
    found = wire.collect(rounds.ROUND_STATE.filter, rounds.ROUND_COMPLETE.filter)
    rows: dict[str, Row] = {}
    for received in found:
        if state := read(rounds.ROUND_STATE, received, RoundState):
            rows[state.round_id] = _state_row(state)
    for received in found:  # after the states: the outcome is the last word
        if complete := read(rounds.ROUND_COMPLETE, received, RoundComplete):
            rows[complete.round_id] = {**rows.get(complete.round_id, {}), **_complete_row(complete)}
    return [rows[name] for name in sorted(rows)]


def _state_row(state: RoundState) -> Row:
    return {
        "round": state.round_id,
        "state": state.state.value,
        "base": state.model_uri,
        "updates": state.updates,
        "of": state.participants,
        "k": state.k_of_n,
        "message": state.message,
    }


def _complete_row(complete: RoundComplete) -> Row:
    return {
        "round": complete.round_id,
        "state": complete.outcome.value,
        "updates": complete.updates,
        "samples": complete.samples,
        "model": complete.model_topic,
        "seconds": complete.duration_s,
        "message": complete.message,
    }


def task_states(wire: Wire) -> list[TaskState]:
    """Every task whose state the broker still keeps."""
    found = (read(tasks.STATE, r, TaskState) for r in wire.collect(tasks.STATE.filter))
    return [state for state in found if state is not None]


def newest(rows: Sequence[Row], number: int) -> list[Row]:
    """The last `number` rows of tasks, newest last, as far as states and ids tell."""
    return sorted(rows, key=_age)[-number:]


def _age(row: Row) -> tuple[bool, bool, str, list[tuple[int, str]]]:
    name = str(row["task"])
    made = _MADE_AT.search(name)
    parts = [(int(p) if p.isdigit() else -1, p) for p in re.split(r"([0-9]+)", name)]
    running = not TaskStatus(str(row["state"])).final
    return running, DERIVED_SEPARATOR not in name, made[0] if made else "", parts


def task_rows(wire: Wire) -> list[Row]:
    """One row a task."""
    return [
        {
            "task": state.task_id,
            "state": state.state.value,
            "proplet": state.proplet,
            "attempt": state.attempt,
            "seconds": state.durations.running_s,
            "reason": state.reason,
            "message": state.message,
        }
        for state in task_states(wire)
    ]
