"""The only shell around a core: receive, decide, commit, acknowledge, carry out.

For a group of events the runner stores the new states and all effects in one transaction,
commits, acknowledges the MQTT messages, and only then performs the effects, each marked done
afterwards. So ``kill -9`` at any instant loses nothing and counts nothing twice: before the
commit the broker sends the messages again, after it the outbox holds what is left to do.
"""

import queue
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from roost.chassis.core import (
    Connected,
    Core,
    Decision,
    Disconnected,
    Started,
    TimerFired,
    cold_kinds,
)
from roost.chassis.doing import Doing, Performer
from roost.chassis.effects import ClearTimer, Note, Publish, SetTimer, note
from roost.chassis.lanes import Lanes, LanesPort
from roost.chassis.logs import get_logger
from roost.chassis.metrics import Metrics
from roost.chassis.ports import SessionPort
from roost.chassis.received import Received
from roost.chassis.session import Token
from roost.chassis.states import States
from roost.chassis.store import Store
from roost.chassis.timers import Timers
from roost.chassis.trouble import RETRY_S, Trouble, passes
from roost.chassis.turn import Happened, Inbox, Message, Performed, Stop, Turn
from roost.wire.refusal import Refused

GROUP: Final = 64
# Of what waits when the end is asked for; thousands may, and a supervisor has little patience.
_LAST_TURNS: Final = 4
_LONGEST_WAIT_S: Final = 1.0
_IDLE_WAIT_S: Final = 0.2
_EFFECT_WORKERS: Final = 8
_TOLD_CHARS: Final = 100_000
MAX_WAITING: Final = 10_000
"""So many events may wait before messages that were sent with QoS 0 are dropped."""

Clock: TypeAlias = Callable[[], float]
Decode: TypeAlias = Callable[[Received, float], Any]
"""Turns a message and its time into an event, or None for none; raises Refused."""


class Runner:
    """Runs one core over one store and one session, on one thread.

    ``run`` is a loop around ``begin``, ``step`` and ``end``; whoever has a clock and threads of
    another kind, such as a simulation, calls these instead.
    """

    def __init__(  # noqa: PLR0913 - a shell is the sum of its parts
        self,
        core: Core,
        store: Store,
        session: SessionPort,
        decode: Decode,
        performers: Mapping[type[Any], Performer],
        clock: Clock,
        metrics: Metrics,
        *,
        workers: int = _EFFECT_WORKERS,
        pause: Callable[[float], None],
        inbox: Inbox | None = None,
        lanes: LanesPort | None = None,
        before_commit: Callable[[], None] = lambda: None,
    ) -> None:
        """Put the parts together; ``run`` begins.

        Args:
            core: All decisions.
            store: Its durable side.
            session: The connection; its callbacks are taken over.
            decode: Turns messages into events.
            performers: A function for each of the core's own effects.
            clock: Unix seconds.
            metrics: Where events are counted.
            workers: How many service effects run side by side.
            pause: Waits between tries of an effect that raised.
            inbox: Where items wait for their turn; by default a queue between threads.
            lanes: Where service effects are carried out; by default on ``workers`` threads.
            before_commit: Makes durable what ``decode`` wrote beside the store, for a whole group
                of messages at once; what it raises keeps them from being acknowledged.
        """
        self._core, self._store, self._session = core, store, session
        self._decode, self._clock, self._before_commit = decode, clock, before_commit
        self._metrics, self._pause = metrics, pause
        self._log = get_logger()
        self._queue: Inbox = queue.SimpleQueue() if inbox is None else inbox
        self._states = States(cold_kinds(core), store.get)
        self._timers = Timers({})
        self._done: list[int] = []
        self._held: list[Any] = []
        self._unwritten: Turn | None = None
        self._left: list[tuple[int | None, Any]] = []
        self._trouble = Trouble(store.folder)
        self._asked_to_end = False
        self._lanes: LanesPort = Lanes(workers) if lanes is None else lanes
        self._doing = Doing(performers, self._lanes, self._queue.put, pause, self._trouble)
        self._stopping = False
        session.on_connected = lambda generation: self.post(Connected(clock(), generation))
        session.on_disconnected = lambda: self.post(Disconnected(clock()))

    def subscribe(self, topic_filters: Iterable[str], orders: Iterable[str] = ()) -> None:
        """Take the messages of these filters in.

        Args:
            topic_filters: MQTT filters.
            orders: Those of them that carry orders, which may not be published as retained.
        """
        flagged = set(orders)
        for topic_filter in topic_filters:
            as_published = topic_filter in flagged
            self._session.subscribe(topic_filter, self._receive, as_published=as_published)

    def post(self, event: Any) -> None:
        """Hand an event in, from any thread."""
        self._queue.put(Happened(event))

    def stop(self) -> None:
        """Let ``run`` end, from any thread; what waits beyond a few turns is left to come again."""
        self._asked_to_end = True
        self._doing.end()
        self._queue.put(Stop())

    @property
    def waiting(self) -> int:
        """Number of events that wait for their turn."""
        return self._queue.qsize()

    @property
    def trouble(self) -> str | None:
        """What keeps this service from writing its state now, or None."""
        return self._trouble.text

    def _receive(self, received: Received, token: Token) -> None:
        # The broker holds back what was sent with QoS 1 while some of it is not acknowledged.
        # QoS 0 has no such end: a flood of it would fill the memory.
        if token.qos == 0 and self._queue.qsize() >= MAX_WAITING:
            self._metrics.messages.labels("dropped").inc()
            return
        self._queue.put(Message(received, token))

    def run(self) -> None:
        """Load what is there, do what is left, then take turns until ``stop``.

        While the disk is full, nothing is taken in and nothing acknowledged.

        Raises:
            Exception: the store could not be written, and not because of a trouble that passes;
                the process must end and start again.
        """
        self.begin()
        last_turns = _LAST_TURNS
        while not self._stopping and last_turns:
            last_turns -= self._asked_to_end
            if self._stuck:
                if self._asked_to_end:
                    break
                self._pause(RETRY_S)
            self.step(self.patience_s)
        self.end()

    @property
    def _stuck(self) -> bool:
        """Whether something waits for the disk."""
        return self._unwritten is not None or bool(self._held)

    def begin(self) -> None:
        """Load what is there, do what an earlier process left, and take the turn of the start.

        Raises:
            Exception: as ``run``.
        """
        for key, state in self._store.load_states(but=cold_kinds(self._core)):
            self._states.put(key, state)
        self._timers = Timers(self._store.timers())
        # Before what the turn of the start wants done, which is newer, but not before its commit:
        # it may say what of all this is not wanted any more.
        self._left = [(entry.id, entry.effect) for entry in self._store.outbox()]
        self._turn([Happened(Started(self._clock()))])

    def step(self, wait_s: float = 0.0) -> bool:
        """Take one turn, if something came or a timer is due.

        Args:
            wait_s: How long to wait for something to come.

        Returns:
            Whether there was anything to do.

        Raises:
            Exception: as ``run``.
        """
        if self._unwritten is not None:
            return self._finish(self._unwritten)
        items = self._take(wait_s)
        if items or self._timer_due():
            return self._turn(items)
        return bool(self._done) and self._flush_done()

    def end(self) -> None:
        """Write down what was done; what was not is in the journal."""
        self._flush_done()
        self._lanes.close()

    @property
    def due_at(self) -> float | None:
        """When the next timer is due, on this service's clock."""
        return self._timers.due_at

    @property
    def patience_s(self) -> float:
        """Seconds until the next step is due although nothing comes."""
        if self._stuck:
            return RETRY_S
        longest = _IDLE_WAIT_S if self._done else _LONGEST_WAIT_S
        due = self.due_at
        return longest if due is None else min(longest, max(0.0, due - self._clock()))

    def _take(self, wait_s: float) -> list[Any]:
        """Wait for items; return at most a group."""
        if self._held:
            items, self._held = self._held, []
            return items
        try:
            items = [self._queue.get(timeout=wait_s)]
        except queue.Empty:
            return []
        while len(items) < GROUP:
            try:
                items.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return items

    def _timer_due(self) -> bool:
        due = self.due_at
        return due is not None and due <= self._clock()

    def _turn(self, items: Sequence[Any]) -> bool:
        turn = Turn()
        for index, item in enumerate(items):
            try:
                self._take_in(item, turn)
            except OSError as error:
                # Only decoding raises it, when a payload could not be kept. It waits its turn.
                self._trouble.met(error)
                self._held = list(items[index:])
                break
        self._fire_timers(turn)
        return self._finish(turn)

    def _finish(self, turn: Turn) -> bool:
        """Commit, acknowledge, carry out; or keep the turn for later while the disk is full."""
        try:
            entries = self._commit(turn)
        except (OSError, sqlite3.Error) as error:
            if not passes(error):
                raise
            self._trouble.met(error)
            self._unwritten = turn
            return False
        self._unwritten = None
        self._states.committed()
        if turn.durable and not self._held:
            self._trouble.over()
        for token in turn.tokens:
            self._session.ack(token)
        if turn.republish:
            self._republish()
        left, self._left = self._left, []
        self._perform([*left, *entries])
        self._metrics.queue.set(self._queue.qsize())
        return True

    def _take_in(self, item: Any, turn: Turn) -> None:
        match item:
            case Message(received, token):
                event = self._decoded(received)
                turn.tokens.append(token)
                if event is not None:
                    self._handle(event, turn)
            case Happened(event):
                if isinstance(event, Connected):
                    turn.republish = True
                self._metrics.connected.set(self._session.connected)
                self._handle(event, turn)
            case Performed(entry, events, problem, given_up):
                self._done.append(entry)
                if problem is not None:
                    self._note(note("effect.failed", "error", "effect", problem=problem))
                    turn.set_aside.append((self._clock(), _told(given_up), problem))
                for event in events:
                    self._handle(event, turn)
            case Stop():
                self._stopping = True

    def _decoded(self, received: Received) -> Any:
        try:
            event = self._decode(received, self._clock())
        except Refused as error:
            self._metrics.messages.labels("refused").inc()
            reason = error.refusal.name
            self._note(
                note("message.refused", "warning", reason, topic=received.topic, why=str(error))
            )
            return None
        except Exception as error:
            if isinstance(error, OSError) and passes(error):
                raise
            self._metrics.messages.labels("failed").inc()
            self._log.exception("message.set_aside", topic=received.topic)
            return None
        self._metrics.messages.labels("accepted").inc()
        return event

    def _handle(self, event: Any, turn: Turn) -> None:
        try:
            decision = self._core.handle(event, self._states)
        except Exception as error:  # noqa: BLE001 - a core that raises must not loop
            # The event never loops: it is kept for a person, and the next one is taken.
            self._log.exception("event.set_aside", event_type=type(event).__name__)
            turn.set_aside.append((self._clock(), _told(event), repr(error)))
            self._metrics.events.labels("event.set_aside", type(event).__name__).inc()
            return
        self._apply(decision, turn)

    def _apply(self, decision: Decision, turn: Turn) -> None:
        for key, state in decision.puts.items():
            self._states.put(key, state)
            if key[0] not in self._core.volatile:
                turn.puts[key] = state
        for effect in decision.effects:
            match effect:
                case SetTimer(key=timer, at=at):
                    self._timers.set(timer, at)
                    turn.timers[timer] = at
                case ClearTimer(key=timer):
                    if self._timers.clear(timer):
                        turn.timers[timer] = None
                case Note():
                    self._note(effect)
                case _:
                    turn.effects.append(effect)

    def _fire_timers(self, turn: Turn) -> None:
        now = self._clock()
        for at, key in self._timers.due(now, GROUP):
            if not self._timers.take(key, at):
                continue  # the one before it cleared it, or put it off
            turn.timers[key] = None
            self._handle(TimerFired(now, key), turn)

    def _commit(self, turn: Turn) -> list[tuple[int | None, Any]]:
        """Store the turn and return its effects with their outbox entries."""
        if not turn.durable:
            return [(None, effect) for effect in turn.effects]
        self._before_commit()
        now = self._clock()
        with self._metrics.commits.time(), self._store as store:
            for key, state in turn.puts.items():
                store.put(key, state)
            for timer, at in turn.timers.items():
                store.set_timer(timer, at)
            for aside in turn.set_aside:
                store.set_aside(*aside)
            entries = [(self._journal(store, effect, now), effect) for effect in turn.effects]
            store.mark_done(self._done)
        self._done.clear()
        return entries

    @staticmethod
    def _journal(store: Store, effect: Any, now: float) -> int | None:
        if not isinstance(effect, Publish):
            return store.add_to_outbox(effect)
        if not effect.durable:
            return None
        if effect.retain:
            store.keep_retained(effect, now)
        return store.add_to_outbox(effect)

    def _flush_done(self) -> bool:
        """Write down what was done; on a full disk it is done again after a restart."""
        try:
            with self._store as store:
                store.mark_done(self._done)
        except sqlite3.Error as error:
            if not passes(error):
                raise
            self._trouble.met(error)
            return False
        self._done.clear()
        return True

    def _republish(self) -> None:
        """Publish this owner's retained topics again: a broker may have forgotten them."""
        for publish in self._store.retained(self._clock()):
            self._session.publish(publish)

    def _perform(self, entries: Iterable[tuple[int | None, Any]]) -> None:
        for entry, effect in entries:
            if isinstance(effect, Publish):
                self._session.publish(
                    effect, None if entry is None else self._published(entry, effect)
                )
            elif entry is not None:
                self._doing.submit(entry, effect)

    def _published(self, entry: int, effect: Publish) -> Callable[[str | None], None]:
        return lambda problem: self._queue.put(Performed(entry, (), problem, effect))

    def _note(self, note_: Note) -> None:
        self._metrics.events.labels(note_.event, note_.reason or "").inc()
        fields = dict(note_.fields)
        if note_.reason is not None:
            fields["reason"] = note_.reason
        getattr(self._log, note_.level)(note_.event, **fields)


def _told(what: object) -> str:
    """Return what is kept of something that was set aside."""
    return repr(what)[:_TOLD_CHARS]
