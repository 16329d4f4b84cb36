"""What became of each participant, in words that outcome and messages share."""

from typing import Final

from roost.coordinator.core.case import Case
from roost.coordinator.core.facts import TaskFact
from roost.protocol.round.messages import RoundStatus
from roost.protocol.round.refusals import UNKNOWN_PARTICIPANT
from roost.protocol.task.messages import TaskStatus

UNINVITED: Final = "(uninvited)"
ACCEPTED: Final = "accepted"
MISSING: Final = "missing"
NOT_ASKED: Final = "not_asked"


def verdicts(case: Case) -> dict[str, str]:
    """Return what became of each participant, in the order of the start."""
    absent = absences(case) if case.round.status is RoundStatus.FAILED else {}
    said = {
        who: ACCEPTED if seat.accepted else seat.trouble or absent.get(who, MISSING)
        for who, seat in case.seats()
    }
    others = case.round.uninvited
    return {**said, **({UNINVITED: f"{others} refused"} if others else {})}


def troubles(case: Case) -> dict[str, str]:
    """Return what is known to have gone wrong, by participant, in the order of the start."""
    return {who: seat.trouble for who, seat in case.missing() if seat.trouble is not None}


def absences(case: Case) -> dict[str, str]:
    """Say of everyone of whom no update and no trouble is known how that stands."""
    return {who: _absence(case, who) for who, seat in case.missing() if seat.trouble is None}


def _absence(case: Case, who: str) -> str:
    if case.round.base is None:
        culprit = case.round.reason == UNKNOWN_PARTICIPANT.name and not case.saw(who)
        return UNKNOWN_PARTICIPANT.name if culprit else NOT_ASKED
    away = "it is offline, " if case.is_offline(who) else ""
    return f"{MISSING}: {away}{_task(case.task(who))}"


def _task(task: TaskFact | None) -> str:
    if task is None:
        return "no task of it is known, does the manager run?"
    if task.status is TaskStatus.SUCCEEDED:
        return "its task succeeded, but no update came"
    return f"its task is {task.status}"
