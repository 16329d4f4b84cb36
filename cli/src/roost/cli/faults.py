"""Why participants brought no update, from what their tasks left behind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from roost.cli.wire_client import Wire, read
from roost.protocol.round.messages import RoundComplete, RoundState
from roost.protocol.task.messages import FailureReason, TaskState, TaskStatus
from roost.protocol.task.topics import STATE
from roost.wire.ids import ID_PATTERN, derive

__all__ = ["fault_lines", "faults_of", "kind"]

_NO_FAULT = ("accepted", "missing", "not_asked")
#: So many participants are looked up; a round may have invited thousands.
_LOOKED_UP = 20
_NAMED = 8


def faults_of(report: RoundComplete | RoundState) -> Mapping[str, str]:
    """Participants that failed, each with the reason the coordinator gives."""
    said = report.verdicts if isinstance(report, RoundComplete) else report.failed
    return {who: why for who, why in sorted(said.items()) if kind(why) not in _NO_FAULT}


def kind(verdict: str) -> str:
    """The name of a verdict, without the words that may follow it."""
    return verdict.partition(":")[0]


def fault_lines(wire: Wire, round_id: str, faults: Mapping[str, str]) -> list[str]:
    """A few lines on the participants that failed, for people; the same reason is said once.

    Args:
        wire: to the broker that keeps the states of tasks.
        round_id: the round.
        faults: reason by participant.
    """
    known = _task_states(wire, round_id, list(faults)[:_LOOKED_UP])
    alike: dict[tuple[str, ...], list[str]] = {}
    for who, why in faults.items():
        more = _more(known[who], why) if who in known else []
        alike.setdefault((why, *more), []).append(who)
    lines = []
    for (why, *more), names in alike.items():
        lines += [f"  {_some(names)}: {why}", *(f"    {text}" for text in more)]
    if known:
        task_id = next(iter(known.values())).task_id
        lines.append(f"  `roost task show {task_id}` shows all that is known of such a task")
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
    # "it ended with exit code 2" is nothing new beside the reason and the program's own words.
    known = bool(stderr) and state.reason == FailureReason.EXIT_CODE
    told = [*([] if known else [state.message or ""]), *stderr]
    return [text.strip() for text in dict.fromkeys(told) if text.strip() not in said]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
