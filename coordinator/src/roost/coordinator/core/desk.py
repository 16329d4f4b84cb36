"""The coordinator's core: hands every event to the rounds, experiments and rollbacks it is for."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from roost.chassis.core import Connected, Decision, Disconnected, Started, TimerFired, View
from roost.chassis.effects import SetTimer, note
from roost.coordinator.core import experiments, lineages, orders, rollbacks, rounds
from roost.coordinator.core.draft import Draft
from roost.coordinator.core.effects import SERVICE_EFFECTS, DropSpools
from roost.coordinator.core.events import (
    AdoptionOrdered,
    Averaged,
    AverageFailed,
    BaseRead,
    BaseUnavailable,
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
from roost.coordinator.core.facts import Keep, Link, Sight, TaskFact
from roost.coordinator.core.ledger import count_refusal, show_running
from roost.coordinator.core.seats import Roster, Seat, seat_id
from roost.coordinator.core.state import (
    Experiment,
    Ledger,
    Lineage,
    Outcome,
    Past,
    Rollback,
    Round,
    Start,
)
from roost.coordinator.core.tasks import cancel
from roost.protocol.round.messages import RoundStatus
from roost.protocol.round.refusals import LATE, UNKNOWN_ROUND

STRAY_S: Final = 10.0


class Desk:
    """All decisions of the coordinator.

    Attributes:
        kinds: What is stored.
        volatile: What others tell again after a reconnect, so it is not stored.
        effects: What the adapters carry out.
    """

    kinds: Mapping[str, type[Any]] = {
        "round": Round,
        "roster": Roster,
        "seat": Seat,
        "start": Start,
        "outcome": Outcome,
        "past": Past,
        "experiment": Experiment,
        "rollback": Rollback,
        "lineage": Lineage,
        "ledger": Ledger,
    }
    cold = frozenset({"outcome", "past"})
    volatile = frozenset({"link", "index", "proplet", "task", "stray", "roll", "told"})
    effects: tuple[type[Any], ...] = SERVICE_EFFECTS

    def __init__(self, keep: Keep) -> None:
        """Say how long ended rounds are kept."""
        self._keep = keep

    def handle(self, event: Any, view: View) -> Decision:
        """Decide what one event changes."""
        draft = Draft(view)
        _HANDLERS[type(event)](draft, event, self._keep)
        return draft.decision()


def _started(draft: Draft, event: Started, keep: Keep) -> None:
    rounds.tidy(draft, event.at, keep, killed=True)
    show_running(draft)


def _connected(draft: Draft, event: Connected, keep: Keep) -> None:
    draft.put("link", "", Link(event.at, event.at))
    rounds.step_all(draft, event, keep)


def _disconnected(draft: Draft, _event: Disconnected, _keep: Keep) -> None:
    draft.put("link", "", None)
    draft.put("index", "", None)


def _index_read(draft: Draft, event: IndexRead, keep: Keep) -> None:
    draft.put("index", "", event.index)
    lineages.learn(draft, event.index)
    rollbacks.step_all(draft, event.at)
    rounds.step_all(draft, event, keep)


def _proplet_seen(draft: Draft, event: PropletSeen, keep: Keep) -> None:
    before: Sight | None = draft.get("proplet", event.proplet_id)
    sight = Sight(offline=event.offline)
    if before == sight:
        return
    draft.put("proplet", event.proplet_id, sight)
    if before is not None:
        rounds.tell_sight(draft, event.proplet_id, event.at, keep)
        return
    link: Link | None = draft.get("link", "")
    if link is not None:
        draft.put("link", "", replace(link, heard_at=event.at))
    rounds.step_all(draft, event, keep, only=RoundStatus.PREPARING)


def _task_changed(draft: Draft, event: TaskChanged, keep: Keep) -> None:
    round_id, fact = event.round_id, replace(event.fact, at=event.at)
    id_ = seat_id(round_id, event.participant)
    round_: Round | None = draft.get("round", round_id)
    if round_ is not None:
        if not round_.status.final and draft.get("seat", id_) is not None:
            draft.put("task", id_, fact)
        rounds.step_one(draft, round_id, event, keep)
    elif draft.get("past", round_id) is not None:
        if not fact.status.final:
            draft.emit(cancel(fact, "round closed"))
    else:
        draft.put("task", id_, fact)
        if draft.get("stray", round_id) is None:
            draft.put("stray", round_id, True)  # noqa: FBT003 - as above
            draft.emit(SetTimer(f"stray/{round_id}", event.at + STRAY_S))


def _stray(draft: Draft, round_id: str) -> None:
    """Cancel the tasks of a round that nobody here was told of, and forget them."""
    draft.put("stray", round_id, None)
    is_known = draft.get("round", round_id) is not None
    for id_, fact in _tasks_of(draft, round_id).items():
        if draft.get("seat", id_) is not None:
            continue
        draft.put("task", id_, None)
        if not (is_known or fact.status.final):
            draft.emit(cancel(fact, "unknown round"))
            draft.emit(note("task.cancelled", "warning", "unknown_round", task_id=fact.task_id))


def _tasks_of(draft: Draft, round_id: str) -> dict[str, TaskFact]:
    prefix = seat_id(round_id, "")
    return {id_: each for id_, each in draft.all("task").items() if id_.startswith(prefix)}


def _update(
    draft: Draft, event: UpdateArrived | UpdateOffered | UpdateUnreadable, keep: Keep
) -> None:
    if draft.get("round", event.round_id) is not None:
        rounds.step_one(draft, event.round_id, event, keep)
        return
    past = draft.get("past", event.round_id)
    refusal = UNKNOWN_ROUND if past is None else LATE
    detail = f"update for round '{event.round_id}'"
    count_refusal(draft, refusal, detail + (f", which {past.outcome}" if past else ""))
    if isinstance(event, UpdateArrived):
        draft.emit(DropSpools((event.arrival.spool,)))


def _for_model(draft: Draft, event: BaseRead | BaseUnavailable, keep: Keep) -> None:
    if draft.get("rollback", event.for_id) is not None:
        rollbacks.fetched(draft, event)
    else:
        rounds.step_one(draft, event.for_id, event, keep)


def _averaged(draft: Draft, event: Averaged | AverageFailed, keep: Keep) -> None:
    rounds.step_one(draft, event.round_id, event, keep)


def _timer_fired(draft: Draft, event: TimerFired, keep: Keep) -> None:
    kind, _, id_ = event.key.partition("/")
    if kind == "stray":
        _stray(draft, id_)
    elif kind == rounds.TELL_TIMER:
        rounds.tell_rest(draft, id_, event.at, keep)
    elif kind == "experiment":
        experiments.timer_fired(draft, id_, event.at, keep)
    elif draft.get("rollback", id_) is not None:
        rollbacks.timer_fired(draft, id_, event.at)
    else:
        rounds.step_one(draft, id_, event, keep)


def _refused(draft: Draft, event: OrderRefused, _keep: Keep) -> None:
    count_refusal(draft, event.refusal, event.detail)


def _adoption(draft: Draft, event: AdoptionOrdered, _keep: Keep) -> None:
    lineages.adopt(draft, event)


def _rollback(draft: Draft, event: RollbackOrdered, _keep: Keep) -> None:
    rollbacks.order(draft, event)


_HANDLERS: Final[Mapping[type[Any], Callable[[Draft, Any, Keep], None]]] = {
    Started: _started,
    Connected: _connected,
    Disconnected: _disconnected,
    TimerFired: _timer_fired,
    IndexRead: _index_read,
    PropletSeen: _proplet_seen,
    TaskChanged: _task_changed,
    UpdateArrived: _update,
    UpdateOffered: _update,
    UpdateUnreadable: _update,
    BaseRead: _for_model,
    BaseUnavailable: _for_model,
    Averaged: _averaged,
    AverageFailed: _averaged,
    RoundOrdered: orders.round_ordered,
    RoundUnreadable: orders.round_unreadable,
    OrderRefused: _refused,
    RollbackOrdered: _rollback,
    AdoptionOrdered: _adoption,
    ExperimentOrdered: experiments.ordered,
    ExperimentStopOrdered: experiments.stop_ordered,
}
