"""The proplet's core: many tasks, their run slots, the connection, the presence."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from roost.chassis.core import (
    Connected,
    Decision,
    Disconnected,
    Key,
    Started,
    TimerFired,
    View,
)
from roost.chassis.effects import Effect, Publish, note
from roost.proplet.core.effects import Discard, Execute, SendOutputs, StopGuest, Sweep
from roost.proplet.core.events import MountsFound, SaidOffline, StartArrived
from roost.proplet.core.happenings import DeadlinePassed, RetryDue, SlotFreed
from roost.proplet.core.lifecycle import DEADLINE_TIMER, step
from roost.proplet.core.reports import final_report
from roost.proplet.core.states import Held, Identity, Link, Outcome, Phase
from roost.protocol.task import topics
from roost.protocol.task.messages import FailureReason, Presence, RunningTask

TASK: Final = "task"
LINK: Final = "link"
_BROKER: Final = "broker"
MAX_HELD: Final = 10_000


@dataclass(slots=True)
class _Draft:
    """A decision in the making: what is put is seen by what follows."""

    view: View
    puts: dict[Key, Any] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)

    def held(self) -> dict[str, Held]:
        tasks: dict[str, Held | None] = dict(self.view.all(TASK))
        tasks |= {key[1]: state for key, state in self.puts.items() if key[0] == TASK}
        return {task_id: held for task_id, held in tasks.items() if held is not None}

    def task(self, task_id: str) -> Held | None:
        if (TASK, task_id) in self.puts:
            found: Held | None = self.puts[TASK, task_id]
        else:
            found = self.view.get(TASK, task_id)
        return found

    @property
    def link(self) -> Link:
        found: Link | None = self.puts.get((LINK, _BROKER)) or self.view.get(LINK, _BROKER)
        return found or Link()

    @link.setter
    def link(self, link: Link) -> None:
        self.puts[LINK, _BROKER] = link


@dataclass
class PropletCore:
    """All decisions of one proplet.

    Attributes:
        card: Its presence as far as it never changes.
        slots: How many tasks may run at once.
    """

    card: Presence
    slots: int
    kinds: Mapping[str, type[Any]] = field(default_factory=lambda: {TASK: Held})
    volatile: frozenset[str] = frozenset({LINK})
    effects: tuple[type[Any], ...] = (Execute, StopGuest, SendOutputs, Discard, Sweep)

    @property
    def me(self) -> Identity:
        """Who reports."""
        return Identity(self.card.proplet_id, self.card.boot_id)

    def handle(self, event: Any, view: View) -> Decision:
        """Decide what one event changes."""
        draft = _Draft(view)
        match event:
            case Started():
                draft.effects += [*_stop_again(draft.held()), _sweep(draft.held())]
            case Connected():
                draft.link = replace(draft.link, connected=True, presence=b"")
                self._say_again(event.at, draft)
            case Disconnected():
                draft.link = replace(draft.link, connected=False)
            case SaidOffline():
                # As if nothing had been said: it is said again below.
                draft.link = replace(draft.link, presence=b"")
            case MountsFound(mounts=mounts):
                draft.link = replace(draft.link, mounts=mounts)
            case TimerFired(at=at, key=key):
                kind, _, task_id = key.partition("/")
                due = DeadlinePassed if kind == DEADLINE_TIMER else RetryDue
                self._step(due(at, task_id), draft)
            case StartArrived() if self._full(event, draft):
                self._turn_away(event, draft)
            case _:
                self._step(event, draft)
        if draft.puts:
            self._fill_slots(event.at, draft)
            self._show_presence(draft)
        return Decision(draft.puts, tuple(draft.effects))

    def _step(self, event: Any, draft: _Draft) -> None:
        before = draft.task(event.task_id)
        made = step(before, event, self.me)
        if made.held != before:
            draft.puts[TASK, event.task_id] = made.held
        connected = draft.link.connected
        # Without a broker reports would pile up in memory; they are said when it is back.
        draft.effects += [
            effect for effect in made.effects if connected or not isinstance(effect, Publish)
        ]

    def _say_again(self, at: float, draft: _Draft) -> None:
        """Repeat what the broker may have lost, and what could not be said without it."""
        for task_id, held in draft.held().items():
            waiting = held.phase is Phase.SENDING and held.tries > 0
            if waiting or held.phase is Phase.ENDED:
                self._step(RetryDue(at, task_id), draft)

    @staticmethod
    def _full(event: StartArrived, draft: _Draft) -> bool:
        return draft.task(event.task_id) is None and len(draft.view.all(TASK)) >= MAX_HELD

    def _turn_away(self, event: StartArrived, draft: _Draft) -> None:
        why = f"this proplet holds {MAX_HELD} tasks already: wait until some are over"
        outcome = Outcome(FailureReason.INTERNAL, why)
        refused = Held(event.task_id, event.attempt, Phase.ENDED, event.at, outcome=outcome)
        draft.effects += [
            final_report(refused, self.me),
            note("start.ignored", "error", "full", task=event.task_id),
        ]

    def _fill_slots(self, at: float, draft: _Draft) -> None:
        tasks = draft.held()
        free = self.slots - sum(held.phase.busy for held in tasks.values())
        queued = [
            task_id
            for task_id, held in tasks.items()
            if held.phase is Phase.QUEUED and held.deadline > at  # else its timer is due now
        ]
        for task_id in queued[: max(0, free)]:
            self._step(SlotFreed(at, task_id), draft)

    def _show_presence(self, draft: _Draft) -> None:
        """Publish the presence if it is news; every connection begins without one."""
        link = draft.link
        if not link.connected:
            return
        running = tuple(
            RunningTask(task_id=task_id, attempt=held.attempt)
            for task_id, held in draft.held().items()
            if held.phase.present
        )
        card = self.card.model_copy(update={"mounts": link.mounts, "running": running})
        payload = card.encode()
        if payload != link.presence:
            draft.link = replace(link, presence=payload)
            topic = topics.PRESENCE.format(proplet_id=self.card.proplet_id)
            draft.effects.append(Publish(topic, payload, retain=True, durable=False))


def _stop_again(tasks: Mapping[str, Held]) -> Iterator[StopGuest]:
    """Yield the stops of attempts whose run may be left in the journal.

    A stop is done at once, the run that it ended a moment later: a process that was killed in
    between would begin the run again, before anything else of its task.
    """
    for task_id, held in tasks.items():
        over = held.attempt if held.phase is Phase.STOPPED else held.attempt - 1
        if over > 0:
            yield StopGuest(task_id, over)


def _sweep(tasks: Mapping[str, Held]) -> Sweep:
    """Return what removes the files of all other attempts than those that are held."""
    held = ((task_id, held.attempt) for task_id, held in tasks.items() if held.spec is not None)
    return Sweep(tuple(held))
