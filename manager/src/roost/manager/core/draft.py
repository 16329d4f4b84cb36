"""A decision in the making: the present states with the changes so far laid over them."""

from collections import Counter
from typing import Any, Final

from roost.chassis.core import Decision, Key, View
from roost.chassis.effects import Effect
from roost.manager.core.binding import Bindings
from roost.manager.core.lifecycle import advance
from roost.manager.core.proplet import Link, Proplet
from roost.manager.core.task import Task, TaskEvent, slim
from roost.protocol.task.messages import TaskStatus

TASK, ENDED, LAUNCH, WORKLOADS = "task", "ended", "launch", "workloads"
PROPLET, LINK, BINDINGS, PLACE = "proplet", "link", "bindings", "place"
THE: Final = "the"
NOWHERE: Final = ""
_NOT_CONNECTED: Final = Link(up=False, since=0.0)


class Draft:
    """Local to one ``handle``: it reads through to the view and gathers what changes."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._puts: dict[Key, Any] = {}
        self._effects: list[Effect] = []
        self._load: Counter[str] | None = None

    def decision(self) -> Decision:
        """Return what was gathered."""
        return Decision(self._puts, tuple(self._effects))

    def get(self, kind: str, id_: str) -> Any:
        """Return the state of one entity, or None."""
        key = (kind, id_)
        return self._puts[key] if key in self._puts else self._view.get(kind, id_)

    def put(self, kind: str, id_: str, state: Any) -> None:
        """Change or, with None, delete one entity."""
        self._puts[kind, id_] = state

    def add(self, *effects: Effect) -> None:
        """Have effects carried out, after those so far."""
        self._effects += effects

    @property
    def bindings(self) -> Bindings:
        """The workload bindings in force."""
        found = self.get(BINDINGS, THE)
        return found if found is not None else Bindings()

    @property
    def link(self) -> Link:
        """The manager's connection."""
        found = self.get(LINK, THE)
        return found if found is not None else _NOT_CONNECTED

    def proplet(self, proplet_id: str) -> Proplet | None:
        """Return what is known of a proplet."""
        found: Proplet | None = self.get(PROPLET, proplet_id)
        return found

    def all(self, kind: str) -> dict[str, Any]:
        """Return all entities of a kind by id, oldest first."""
        merged = dict(self._view.all(kind))
        for (changed, id_), state in self._puts.items():
            if changed == kind and state is None:
                merged.pop(id_, None)
            elif changed == kind:
                merged[id_] = state
        return merged

    def open_tasks(self) -> list[Task]:
        """Return the tasks that have not ended, oldest first."""
        return list(self.all(TASK).values())

    def tasks_at(self, place: str) -> list[Task]:
        """Return the open tasks that are at a proplet or wait for it alone; see ``_place``."""
        ids: tuple[str, ...] = self.get(PLACE, place) or ()
        return [self.get(TASK, id_) for id_ in ids]

    def find_places(self) -> None:
        """Learn anew which open tasks are where; that is not stored."""
        places: dict[str, list[str]] = {}
        for task in self.open_tasks():
            places.setdefault(_place(task), []).append(task.id)
        for place, ids in places.items():
            self.put(PLACE, place, tuple(ids))

    def task(self, task_id: str) -> Task | None:
        """Return a task, open or ended."""
        found: Task | None = self.get(TASK, task_id) or self.get(ENDED, task_id)
        return found

    def load(self) -> Counter[str]:
        """Return the number of tasks by the proplet that has them now."""
        if self._load is None:
            self._load = Counter(filter(None, map(_holder, self.open_tasks())))
        return self._load

    def advance(self, task: Task, event: TaskEvent) -> Task:
        """Apply an event to a task, keep what became of it and have the effects carried out."""
        after, effects = advance(task, event)
        self.add(*effects)
        if after is not task:
            self.keep(after, _holder(task))
        return after

    def keep(self, task: Task, holder_before: str | None = None) -> None:
        """Keep a task, among the open ones or those that have ended."""
        self._move(self.get(TASK, task.id), task)
        if task.status.final:
            self.put(TASK, task.id, None)
            self.put(ENDED, task.id, slim(task))
        else:
            self.put(TASK, task.id, task)
        if self._load is not None:
            self._load.subtract(filter(None, [holder_before]))
            self._load.update(filter(None, [_holder(task)]))

    def _move(self, before: Task | None, task: Task) -> None:
        """Follow a task to another place."""
        left = None if before is None else _place(before)
        entered = None if task.status.final else _place(task)
        if left == entered:
            return
        if left is not None:
            ids = tuple(id_ for id_ in self.get(PLACE, left) or () if id_ != task.id)
            self.put(PLACE, left, ids or None)
        if entered is not None:
            self.put(PLACE, entered, (*(self.get(PLACE, entered) or ()), task.id))


def _place(task: Task) -> str:
    """Return the proplet that an open task is at or waits for, or ``NOWHERE``: any may take it."""
    return _holder(task) or task.request.proplet or NOWHERE


def _holder(task: Task) -> str | None:
    return task.proplet if task.status in (TaskStatus.DISPATCHED, TaskStatus.RUNNING) else None
