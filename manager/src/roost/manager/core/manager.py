"""The manager's core: every event and what it leads to."""

from collections.abc import Mapping
from typing import Any, Final

from roost.chassis.core import Connected, Decision, Disconnected, Started, TimerFired, View
from roost.chassis.effects import Publish, SetTimer, note
from roost.manager.core import dispatch, orders, workloads
from roost.manager.core.draft import (
    BINDINGS,
    ENDED,
    LAUNCH,
    LINK,
    PLACE,
    PROPLET,
    TASK,
    WORKLOADS,
    Draft,
)
from roost.manager.core.events import (
    ApplyBindings,
    BindingsApplied,
    BindingsRead,
    BindingsRefused,
    ForwardDropped,
    LifeSign,
    Ordered,
    PresenceArrived,
    ReadBindings,
    ReportArrived,
)
from roost.manager.core.lifecycle import STATE_KEPT_S, TIMER_PREFIX
from roost.manager.core.orders import Launched
from roost.manager.core.task import Task
from roost.manager.core.workloads import Workloads
from roost.protocol.task.topics import STATE

MAX_ENDED: Final = 20_000
PRUNE_EVERY_S: Final = 3600.0
_PRUNE: Final = "prune"


class ManagerCore:
    """All decisions of the manager. Pure: time comes with the events."""

    def __init__(self) -> None:
        self.kinds: Mapping[str, type[Any]] = {
            TASK: Task,
            ENDED: Task,
            LAUNCH: Launched,
            WORKLOADS: Workloads,
        }
        self.volatile = frozenset({PROPLET, LINK, BINDINGS, PLACE})
        # Remembered for ever: 427 bytes each on disk, none in memory.
        self.cold = frozenset({LAUNCH})
        self.effects: tuple[type[Any], ...] = (ReadBindings, ApplyBindings)

    def handle(self, event: Any, view: View) -> Decision:
        """Decide what one event changes."""
        draft = Draft(view)
        _HANDLERS[type(event)](draft, event)
        return draft.decision()


def _on_started(draft: Draft, event: Started) -> None:
    draft.find_places()
    dispatch.on_link(draft, up=False, at=event.at)
    _prune(draft, event.at)


def _on_connected(draft: Draft, event: Connected) -> None:
    dispatch.on_link(draft, up=True, at=event.at)


def _on_disconnected(draft: Draft, event: Disconnected) -> None:
    dispatch.on_link(draft, up=False, at=event.at)


def _on_timer(draft: Draft, event: TimerFired) -> None:
    if event.key == _PRUNE:
        _prune(draft, event.at)
    elif event.key == workloads.TIMER:
        workloads.publish(draft, event.at)
    else:
        task = draft.get(TASK, event.key.removeprefix(TIMER_PREFIX))
        if task is not None:
            dispatch.on_task_timer(draft, task, event.at)


def _prune(draft: Draft, at: float) -> None:
    """Forget tasks that ended long ago, or that are too many; launches are never forgotten."""
    ended = draft.all(ENDED)
    surplus = len(ended) - MAX_ENDED
    for index, task in enumerate(ended.values()):
        if index >= surplus and task.since + STATE_KEPT_S > at:
            break
        draft.put(ENDED, task.id, None)
        draft.add(Publish(STATE.format(task_id=task.id), retain=True))
        draft.add(note("task.forgotten", "debug", task_id=task.id))
    draft.add(SetTimer(_PRUNE, at + PRUNE_EVERY_S))


_HANDLERS: Final[Mapping[type[Any], Any]] = {
    Started: _on_started,
    Connected: _on_connected,
    Disconnected: _on_disconnected,
    TimerFired: _on_timer,
    Ordered: orders.on_order,
    ReportArrived: dispatch.on_report,
    PresenceArrived: dispatch.on_presence,
    LifeSign: dispatch.on_life_sign,
    BindingsRead: workloads.on_read,
    BindingsRefused: workloads.on_refused,
    BindingsApplied: workloads.on_applied,
    ForwardDropped: workloads.on_forward_dropped,
}
