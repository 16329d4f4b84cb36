"""What a round makes of its participants' tasks: failures, cancels, asking again."""

from dataclasses import replace
from typing import Final

from roost.chassis.effects import Effect, Publish, SetTimer
from roost.coordinator.core.events import TaskChanged
from roost.coordinator.core.facts import Facts, TaskFact
from roost.coordinator.core.judge import Judged
from roost.coordinator.core.outcome import MISSING, NOT_ASKED, missing
from roost.coordinator.core.state import Round
from roost.protocol.round.messages import OnTimeout
from roost.protocol.round.refusals import OTHER_LAUNCH, UNKNOWN_PARTICIPANT
from roost.protocol.round.topics import ROUND_START
from roost.protocol.task.messages import CancelTask, TaskStatus
from roost.protocol.task.topics import CANCEL, RESEND

FIRST_CHECK_S: Final = 3.0
LAST_CHECK_S: Final = 30.0
UPDATE_ON_ITS_WAY_S: Final = 2.0
_CANCEL_EXPIRY_S: Final = 60.0
# States are published at every change: of many failures the later ones are told by name alone.
_TOLD_IN_FULL: Final = 50


def check_timer(round_: Round) -> str:
    """Return the key of the timer that asks again for what is missing."""
    return f"check/{round_.round_id}"


def take_in(round_: Round, event: TaskChanged) -> Judged:
    """Learn how a participant's task stands."""
    who, fact = event.participant, event.fact
    invited = who in round_.policy.participants
    foreign = fact.start_sha256 != round_.start_sha256
    if not round_.collecting or not invited or foreign:
        unwanted = who not in round_.accepted or foreign
        effects = (cancel(fact, "not wanted"),) if unwanted and not fact.status.final else ()
        if round_.collecting and invited:
            round_ = _fail(round_, who, OTHER_LAUNCH.name)
        return round_, effects
    if who in round_.accepted or not fact.status.final:
        return round_, ()
    if fact.status is TaskStatus.SUCCEEDED:
        # Its update may be on its way still; if it does not come, it is asked for.
        timer = SetTimer(check_timer(round_), event.at + UPDATE_ON_ITS_WAY_S)
        return replace(round_, checks=0), (timer,)
    told = len(round_.failed) < _TOLD_IN_FULL
    return _fail(round_, who, fact.why if told else fact.reason or str(fact.status)), ()


def _fail(round_: Round, who: str, why: str) -> Round:
    return replace(round_, failed={**round_.failed, who: why})


def cancel(fact: TaskFact, reason: str) -> Publish:
    """Return the wish to end a task."""
    topic = CANCEL.format(task_id=fact.task_id)
    return Publish(topic, CancelTask(reason=reason).encode(), expiry_s=_CANCEL_EXPIRY_S)


def cancel_running(round_: Round, facts: Facts) -> tuple[Effect, ...]:
    """Cancel the tasks that run although their update is not wanted any more."""
    return tuple(
        cancel(fact, f"round {round_.status}")
        for who, fact in facts.tasks.items()
        if who not in round_.accepted and not fact.status.final
    )


def stuck(round_: Round, facts: Facts) -> bool:
    """Tell whether the quorum cannot be reached any more, nor waiting can help.

    A participant is out when its task failed, or succeeded with an update that was refused.
    Being offline is no failure.
    """
    policy = round_.policy
    possible = len(policy.participants) - sum(_out(round_, each, facts) for each in missing(round_))
    if possible >= policy.k:
        return False
    if policy.on_timeout is OnTimeout.FAIL:
        return True
    return possible < policy.min_updates or possible == len(round_.accepted)


def _out(round_: Round, who: str, facts: Facts) -> bool:
    task = facts.tasks.get(who)
    succeeded = task is not None and task.status is TaskStatus.SUCCEEDED
    return who in round_.failed or (who in round_.refused and succeeded)


def troubles(round_: Round) -> dict[str, str]:
    """Return what is known to have gone wrong, by participant, in the order of the start."""
    known = {**round_.failed, **round_.refused}
    return {each: known[each] for each in missing(round_) if each in known}


def absences(round_: Round, facts: Facts) -> dict[str, str]:
    """Say of everyone of whom no update and no trouble is known how that stands."""
    known = troubles(round_)
    return {each: _absence(round_, each, facts) for each in missing(round_) if each not in known}


def _absence(round_: Round, who: str, facts: Facts) -> str:
    if round_.base is None:
        culprit = round_.reason == UNKNOWN_PARTICIPANT.name and who not in facts.seen
        return UNKNOWN_PARTICIPANT.name if culprit else NOT_ASKED
    task = facts.tasks.get(who)
    if task is None:
        return f"{MISSING}: no task of it is known"
    if task.status is TaskStatus.SUCCEEDED:
        return f"{MISSING}: its task succeeded, but no update came"
    return f"{MISSING}: its task is {task.status}"


def ask_again(round_: Round, facts: Facts, at: float) -> Judged:
    """Ask for what should be there: task states by the start, updates by a resend."""
    absent = [each for each in missing(round_) if each not in round_.failed]
    known = [facts.tasks[each] for each in absent if each in facts.tasks]
    effects: list[Effect] = []
    if facts.connected_at is not None and len(known) < len(absent):
        left = max(1.0, round_.deadline - at)
        topic = ROUND_START.template
        effects.append(Publish(topic, facts.start.encode(), expiry_s=left, durable=False))
    waiting = {arrival.sender for arrival in round_.waiting}
    for who in absent:
        if _owes_update(round_, who, facts) and who not in waiting:
            topic = RESEND.format(task_id=facts.tasks[who].task_id)
            effects.append(Publish(topic, expiry_s=_CANCEL_EXPIRY_S, durable=False))
    wait = min(LAST_CHECK_S, FIRST_CHECK_S * 2.0**round_.checks)
    effects.append(SetTimer(check_timer(round_), at + wait))
    return replace(round_, checks=round_.checks + 1), tuple(effects)


def _owes_update(round_: Round, who: str, facts: Facts) -> bool:
    task = facts.tasks.get(who)
    return task is not None and task.status is TaskStatus.SUCCEEDED and who not in round_.refused
