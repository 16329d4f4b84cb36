"""Why participants brought no update, from what their tasks left behind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from roost.cli.wire_client import Wire, read
from roost.protocol.round.messages import RoundComplete, RoundState
from roost.protocol.task.messages import TaskState, TaskStatus
from roost.protocol.task.topics import STATE
from roost.wire.ids import ID_PATTERN, derive

__all__ = ["fault_lines", "faults_of"]

_NO_FAULT = ("accepted", "missing")
#: So many participants are looked up; a round may have invited thousands.
_LOOKED_UP = 20


def faults_of(report: RoundComplete | RoundState) -> Mapping[str, str]:
    """Participants that failed, each with the reason the coordinator gives."""
    said = report.verdicts if isinstance(report, RoundComplete) else report.failed
    return {who: why for who, why in sorted(said.items()) if why not in _NO_FAULT}


def fault_lines(wire: Wire, round_id: str, faults: Mapping[str, str]) -> list[str]:
    """A few lines on each participant that failed, for people.

    Args:
        wire: to the broker that keeps the states of tasks.
        round_id: the round.
        faults: reason by participant.
    """
    known = _task_states(wire, round_id, list(faults)[:_LOOKED_UP])
    lines = []
    for who, why in faults.items():
        lines.append(f"  {who}: {why}")
        if (state := known.get(who)) is not None:
            lines += [f"    {text}" for text in _more(state, why)]
            lines.append(f"    `roost task show {state.task_id}` shows all of it")
    return lines


def _task_states(wire: Wire, round_id: str, names: Iterable[str]) -> dict[str, TaskState]:
    """The tasks of these participants that ended without success."""
    topics = {
        STATE.format(task_id=derive(round_id, who)): who
        for who in names
        if re.fullmatch(ID_PATTERN, who)
    }
    found = {}
    for received in wire.collect(*topics) if topics else ():
        state = read(STATE, received, TaskState)
        if state is not None and state.state.final and state.state is not TaskStatus.SUCCEEDED:
            found[topics[received.topic]] = state
    return found


def _more(state: TaskState, said: str) -> list[str]:
    """What the task says beyond what was said: its message, the last line of its stderr."""
    stderr = (state.stderr_tail or "").strip().splitlines()[-1:]
    more: list[str] = []
    for text in [state.message or "", *stderr]:
        if text.strip() and text.strip() not in said and not any(text.strip() in m for m in more):
            more.append(text.strip())
    return more
