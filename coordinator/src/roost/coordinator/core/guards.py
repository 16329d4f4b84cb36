"""Where a round may go, and when: the table of its transitions and a guard per status."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from roost.coordinator.core import publishing
from roost.coordinator.core.facts import Facts
from roost.coordinator.core.state import Round
from roost.protocol.round.messages import RoundStatus
from roost.protocol.round.refusals import (
    TIMED_OUT,
    UNKNOWN_MODEL,
    UNKNOWN_PARTICIPANT,
    UNREACHABLE_QUORUM,
)
from roost.wire.refusal import Refusal

PRESENCES_S: Final = 2.0
INDEX_S: Final = 10.0
GRACE_S: Final = 2.0
_SHOWN: Final = 20


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


def _guard_preparing(round_: Round, facts: Facts, at: float) -> Push | None:
    unseen = [each for each in round_.policy.participants if each not in facts.seen]
    is_listed = facts.index is not None and facts.index.find(round_.model_uri) is not None
    if facts.connected_at is not None and is_listed and not unseen:
        return Push(Trigger.READY)
    if at >= round_.deadline:
        return _time_up(round_)
    if unseen and facts.connected_for(at) >= PRESENCES_S:
        known = _named(sorted(facts.seen))
        message = f"never seen: {_named(unseen)}; known are: {known}"
        return Push(Trigger.IMPOSSIBLE, UNKNOWN_PARTICIPANT, message)
    if not is_listed and min(facts.connected_for(at), at - round_.started_at) >= INDEX_S:
        lines = facts.index.models.values() if facts.index else ()
        known = _named([line.versions[-1].topic for line in lines if line.versions])
        message = f"no index lists {round_.model_uri}; the latest are: {known}"
        return Push(Trigger.IMPOSSIBLE, UNKNOWN_MODEL, message)
    return None


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


def _guard_open(round_: Round, _facts: Facts, at: float) -> Push | None:
    count, policy = len(round_.accepted), round_.policy
    if count >= policy.k:
        return Push(Trigger.QUORUM)
    since = round_.unreachable_since
    if since is not None and at - since >= GRACE_S:
        if count >= policy.fewest:
            return Push(Trigger.SETTLED)
        message = f"{count} of {policy.k} updates, and too few participants are left to send one"
        return Push(Trigger.UNREACHABLE, UNREACHABLE_QUORUM, message)
    if at >= round_.deadline:
        return Push(Trigger.CUT_OFF) if count >= policy.fewest else _time_up(round_)
    return None


def _time_up(round_: Round) -> Push:
    count, policy = len(round_.accepted), round_.policy
    message = f"{count} of {policy.k} updates within {policy.timeout_s:g} s"
    if round_.message:
        message += f"; {round_.message}"
    return Push(Trigger.TIME_UP, TIMED_OUT, message)


def _guard_aggregating(round_: Round, _facts: Facts, _at: float) -> Push | None:
    if round_.publication is not None:
        return Push(Trigger.AVERAGED)
    return Push(Trigger.NO_AVERAGE) if round_.reason is not None else None


def _guard_publishing(round_: Round, facts: Facts, _at: float) -> Push | None:
    publication, index = round_.publication, facts.index
    if publication is None or index is None or publishing.listed(publication, index) is None:
        return None
    return Push(Trigger.LISTED)


def _guard_final(_round: Round, _facts: Facts, _at: float) -> Push | None:
    return None


GUARDS: Final[Mapping[RoundStatus, Callable[[Round, Facts, float], Push | None]]] = {
    _S.PREPARING: _guard_preparing,
    _S.OPEN: _guard_open,
    _S.AGGREGATING: _guard_aggregating,
    _S.PUBLISHING: _guard_publishing,
    _S.COMPLETED: _guard_final,
    _S.FAILED: _guard_final,
}
