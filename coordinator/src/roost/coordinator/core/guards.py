"""Where a round may go, and when: the table of its transitions and a guard per status."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from roost.coordinator.core import lineages, publishing
from roost.coordinator.core.case import Case
from roost.coordinator.core.verdicts import absences, troubles
from roost.protocol.round.messages import RoundStatus
from roost.protocol.round.refusals import (
    TIMED_OUT,
    UNKNOWN_LINEAGE,
    UNKNOWN_MODEL,
    UNKNOWN_PARTICIPANT,
    UNREACHABLE_QUORUM,
)
from roost.wire.refusal import Refusal

PRESENCES_S: Final = 2.0
INDEX_S: Final = 10.0
GRACE_S: Final = 2.0
_SHOWN: Final = 20
_TOLD: Final = 3


class Trigger(StrEnum):
    """Why a round goes on to its next status."""

    READY = "model listed, participants seen"
    IMPOSSIBLE = "policy, model or participant refused"
    QUORUM = "k updates"
    SETTLED = "nobody left to wait for, enough updates"
    UNREACHABLE = "k cannot be reached"
    TIME_UP = "timeout, too few updates"
    CUT_OFF = "timeout, enough updates"
    AVERAGED = "average on disk"
    NO_AVERAGE = "averaging failed"
    LISTED = "index lists version and digest"


_S: TypeAlias = RoundStatus
TRANSITIONS: Final[Mapping[RoundStatus, Mapping[Trigger, RoundStatus]]] = {
    _S.PREPARING: {
        Trigger.READY: _S.OPEN,
        Trigger.IMPOSSIBLE: _S.FAILED,
        Trigger.TIME_UP: _S.FAILED,
    },
    _S.OPEN: {
        Trigger.QUORUM: _S.AGGREGATING,
        Trigger.SETTLED: _S.AGGREGATING,
        Trigger.CUT_OFF: _S.AGGREGATING,
        Trigger.UNREACHABLE: _S.FAILED,
        Trigger.TIME_UP: _S.FAILED,
    },
    _S.AGGREGATING: {Trigger.AVERAGED: _S.PUBLISHING, Trigger.NO_AVERAGE: _S.FAILED},
    _S.PUBLISHING: {Trigger.LISTED: _S.COMPLETED},
    _S.COMPLETED: {},
    _S.FAILED: {},
}


@dataclass(frozen=True, slots=True)
class Push:
    """What moves a round: the trigger, and for a failure its name and what there was."""

    trigger: Trigger
    refusal: Refusal | None = None
    message: str | None = None


def _guard_preparing(case: Case) -> Push | None:
    all_seen, link = case.pass_roll(), case.link
    is_listed = case.index is not None and case.index.find(case.round.model_uri) is not None
    refused = _refuse(case, all_seen=all_seen, is_listed=is_listed)
    if refused is not None:
        return refused
    if link is not None and is_listed and all_seen:
        return Push(Trigger.READY)
    if case.at < case.round.deadline:
        return None
    if link is None:
        return _time_up(case, ["there is no connection to the broker"])
    awaited = [] if all_seen else [f"not seen yet: {_named(_unseen(case))}"]
    return _time_up(case, awaited if is_listed else [*awaited, _not_listed(case)])


def _refuse(case: Case, *, all_seen: bool, is_listed: bool) -> Push | None:
    """Say why the round cannot begin however long it waits."""
    round_, link, at = case.round, case.link, case.at
    if is_listed and not case.is_lineage_known:
        return Push(Trigger.IMPOSSIBLE, UNKNOWN_LINEAGE, _not_ours(case))
    if not all_seen and link is not None and at >= link.heard_at + PRESENCES_S:
        known = _named(case.proplets)
        message = f"never seen: {_named(_unseen(case))}; known are: {known}"
        return Push(Trigger.IMPOSSIBLE, UNKNOWN_PARTICIPANT, message)
    patient = link is not None and at >= max(link.connected_at, round_.started_at) + INDEX_S
    time_up = at >= round_.deadline and case.index is not None
    if not is_listed and (patient or time_up):
        return Push(Trigger.IMPOSSIBLE, UNKNOWN_MODEL, _not_listed(case))
    return None


def _not_ours(case: Case) -> str:
    name = publishing.model_name(case.round.model_uri)
    return lineages.foreign(name, case.index.models.get(name) if case.index else None)


def _unseen(case: Case) -> list[str]:
    return [each for each in case.roster if not case.saw(each)]


def _not_listed(case: Case) -> str:
    model_uri = case.round.model_uri
    if case.index is None:
        return f"no index came that could list {model_uri}: does the model server run?"
    lines = case.index.models.values()
    known = _named([line.versions[-1].topic for line in lines if line.versions])
    return f"no index lists {model_uri}; the latest are: {known}"


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


def _first(told: Mapping[str, str]) -> list[str]:
    """Return a few of what is known of participants, and how many more there are.

    What is the same of several is said once.
    """
    alike: dict[str, list[str]] = {}
    for who, what in told.items():
        alike.setdefault(what, []).append(who)
    first = list(alike.items())[:_TOLD]
    rest = len(told) - sum(len(names) for _, names in first)
    lines = [f"{_named(names)}: {what}" for what, names in first]
    return [*lines, f"and {rest} more"] if rest else lines


def _guard_open(case: Case) -> Push | None:
    round_ = case.round
    count, policy = round_.updates, round_.policy
    if count >= policy.k:
        return Push(Trigger.QUORUM)
    since = round_.unreachable_since
    if since is not None and case.at - since >= GRACE_S:
        if count >= policy.fewest:
            return Push(Trigger.SETTLED)
        why = "; ".join(_first(troubles(case)))
        message = f"{count} of {policy.k} updates, too few participants are left to send one: {why}"
        return Push(Trigger.UNREACHABLE, UNREACHABLE_QUORUM, message)
    if case.at >= round_.deadline:
        if count >= policy.fewest:
            return Push(Trigger.CUT_OFF)
        return _time_up(case, _first({**troubles(case), **absences(case)}))
    return None


def _time_up(case: Case, awaited: list[str]) -> Push:
    round_ = case.round
    count, policy = round_.updates, round_.policy
    head = f"{count} of {policy.k} updates within {policy.timeout_s:g} s"
    more = [round_.message] if round_.message else []
    return Push(Trigger.TIME_UP, TIMED_OUT, "; ".join([head, *more, *awaited]))


def _guard_aggregating(case: Case) -> Push | None:
    if case.round.publication is not None:
        return Push(Trigger.AVERAGED)
    return Push(Trigger.NO_AVERAGE) if case.round.reason is not None else None


def _guard_publishing(case: Case) -> Push | None:
    publication, index = case.round.publication, case.index
    if publication is None or index is None or publishing.listed(publication, index) is None:
        return None
    return Push(Trigger.LISTED)


def _guard_final(_case: Case) -> Push | None:
    return None


GUARDS: Final[Mapping[RoundStatus, Callable[[Case], Push | None]]] = {
    _S.PREPARING: _guard_preparing,
    _S.OPEN: _guard_open,
    _S.AGGREGATING: _guard_aggregating,
    _S.PUBLISHING: _guard_publishing,
    _S.COMPLETED: _guard_final,
    _S.FAILED: _guard_final,
}
