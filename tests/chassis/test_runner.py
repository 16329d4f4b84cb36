"""The runner: commit, acknowledge, then effects; nothing lost, nothing counted twice."""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from roost.chassis.core import NOTHING, Connected, Decision, Started, TimerFired, View
from roost.chassis.effects import ClearTimer, Publish, SetTimer, note
from roost.chassis.errors import BrokerAway, StateNewer
from roost.chassis.metrics import Metrics
from roost.chassis.received import Received
from roost.chassis.runner import Performer, Runner
from roost.chassis.store import SCHEMA_VERSION, Store
from roost.chassis.testing import MemoryBroker, MemorySession
from roost.chassis.turn import Performed
from roost.wire.refusal import MALFORMED, Refused

DEADLINE_S = 10.0


@dataclass(frozen=True)
class Count:
    """How often a word came."""

    times: int


@dataclass(frozen=True)
class Word:
    """A word came."""

    at: float
    word: str


@dataclass(frozen=True)
class Shout:
    """Effect: make the word loud."""

    word: str

    @property
    def lane(self) -> str:
        """One lane a word."""
        return self.word


@dataclass(frozen=True)
class Shouted:
    """The word is loud."""

    at: float
    word: str


class WordCore:
    """Counts words, shouts them, and answers timers."""

    kinds = {"count": Count, "once": Count}  # noqa: RUF012 - constant of a test
    cold = frozenset({"once"})
    volatile = frozenset({"seen"})
    effects = (Shout,)

    def handle(self, event: Any, view: View) -> Decision:  # noqa: C901, PLR0911
        """Decide."""
        match event:
            case Word(word="raise"):
                raise RuntimeError("planted")
            case Word(at=at, word="timer"):
                return Decision(effects=(SetTimer("t", at + 5), SetTimer("gone", at + 5)))
            case Word(at=at, word="alarms"):
                return Decision(effects=tuple(SetTimer(key, at + 5) for key in ("a", "b", "c")))
            case Word(word="untimer"):
                return Decision(effects=(ClearTimer("gone"), ClearTimer("never")))
            case Word(word="volatile"):
                return Decision({("seen", "x"): Count(1)}, (note("word.seen"),))
            case Word(word=word) if word.startswith("once "):
                found = view.get("once", word)
                times = 1 + (found.times if found else 0)
                return Decision(
                    {("once", word): Count(times)}, (Publish("count/once", b"%d" % times),)
                )
            case Word(word=word):
                found = view.get("count", word)
                times = 1 + (found.times if found else 0)
                return Decision(
                    {("count", word): Count(times)},
                    (Publish(f"count/{word}", b"%d" % times, retain=True), Shout(word)),
                )
            case Shouted(word=word):
                return Decision(effects=(Publish(f"loud/{word}", word.upper().encode()),))
            case TimerFired(at=at, key="a"):
                return Decision(
                    effects=(Publish("timer/a"), ClearTimer("b"), SetTimer("c", at + 5))
                )
            case TimerFired(key=key):
                return Decision(effects=(Publish(f"timer/{key}"),))
            case Connected(generation=generation):
                return Decision(effects=(Publish("up", b"%d" % generation, durable=False),))
            case Started():
                return NOTHING
        return NOTHING


def decode(received: Received, at: float) -> Word:
    """Turn a message into a word."""
    if received.payload == b"bad":
        raise Refused(MALFORMED, "planted")
    if received.payload == b"crash":
        raise RuntimeError("planted")
    return Word(at, received.payload.decode())


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Watched(queue.SimpleQueue[Any]):
    """A runner's inbox that tells when an effect was given up."""

    def __init__(self) -> None:
        super().__init__()
        self.given_up = threading.Event()

    def put(self, item: Any, *_: Any, **__: Any) -> None:
        """Add an item."""
        super().put(item)
        if isinstance(item, Performed) and item.problem is not None:
            self.given_up.set()


class House:
    """A broker, an operator's session, and a service that can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.sqlite"
        self.broker = MemoryBroker()
        self.operator = self.broker.session()
        self.operator.start()
        self.inbox: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self.clock = Clock()
        self.metrics = Metrics()
        self.thread: threading.Thread | None = None
        for topic_filter in ("count/+", "loud/+", "timer/+", "up"):
            self.operator.subscribe(topic_filter, self._take, retained=False)

    def _take(self, received: Received, token: Any) -> None:
        self.operator.ack(token)
        self.inbox.put((received.topic, received.payload))

    def build(self, performer: Performer | None = None) -> None:
        """Make a service over the same store."""
        self.watched = Watched()
        self.session: MemorySession = self.broker.session()
        self.store = Store(self.path, WordCore.kinds, WordCore.effects)
        self.runner = Runner(
            WordCore(),
            self.store,
            self.session,
            decode,
            {Shout: performer or (lambda shout: [Shouted(self.clock(), shout.word)])},
            self.clock,
            self.metrics,
            pause=lambda _seconds: None,
            inbox=self.watched,
        )
        self.runner.subscribe(["word"])

    def start(self, performer: Performer | None = None) -> None:
        """Start the service and connect it."""
        self.build(performer)
        self.thread = threading.Thread(target=self.runner.run)
        self.thread.start()
        self.session.start()

    def stop(self) -> None:
        """End the service."""
        self.runner.stop()
        assert self.thread is not None
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()
        self.session.stop()
        self.store.close()
        self.thread = None

    def say(self, word: bytes) -> None:
        """Send a word."""
        self.operator.publish(Publish("word", word))

    def next(self) -> tuple[str, bytes]:
        """Wait for what the service publishes."""
        return self.inbox.get(timeout=DEADLINE_S)

    def expect(self, *messages: tuple[str, bytes]) -> None:
        """Wait for these messages, in any order between topics."""
        assert sorted(self.next() for _ in messages) == sorted(messages)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Return a house whose service is stopped at the end."""
    house = House(tmp_path)
    yield house
    if house.thread is not None:
        house.stop()


def test_event_to_effects_to_event(house: House) -> None:
    """A message changes a state, its effects are done, and their events come back."""
    house.start()
    house.expect(("up", b"1"))
    house.say(b"hi")
    house.expect(("count/hi", b"1"), ("loud/hi", b"HI"))
    house.say(b"hi")
    house.expect(("count/hi", b"2"), ("loud/hi", b"HI"))


def test_states_survive_a_restart(house: House) -> None:
    """What was committed is there after the next start."""
    house.start()
    house.expect(("up", b"1"))
    house.say(b"hi")
    house.expect(("count/hi", b"1"), ("loud/hi", b"HI"))
    house.stop()
    house.start()
    house.expect(("up", b"1"), ("count/hi", b"1"))
    house.say(b"hi")
    house.expect(("count/hi", b"2"), ("loud/hi", b"HI"))


def test_effects_left_by_a_crash_are_done_after_the_start(house: House) -> None:
    """What was committed and not done is carried out, for publishes and the service's effects."""
    with Store(house.path, WordCore.kinds, WordCore.effects) as store:
        store.add_to_outbox(Publish("loud/left", b"\0\1", correlation=b"c"))
        store.add_to_outbox(Shout("left"))
    store.close()
    house.build()
    house.thread = threading.Thread(target=house.runner.run)
    house.thread.start()
    house.session.start()
    house.expect(("up", b"1"), ("loud/left", b"\0\1"), ("loud/left", b"LEFT"))
    house.stop()
    house.build()
    assert house.store.outbox() == []
    house.store.close()


def test_a_message_is_acknowledged_only_after_its_commit(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the commit fails the message is not acknowledged, so that it comes again (WIRE-016)."""
    house.build()
    acknowledged: list[Any] = []
    monkeypatch.setattr(house.session, "ack", acknowledged.append)

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(house.store, "put", fail)
    house.session.start()
    house.say(b"hi")
    with pytest.raises(OSError, match="disk full"):
        house.runner.run()
    assert acknowledged == []
    assert house.store.outbox() == []
    house.store.close()


def test_what_decoding_wrote_is_durable_before_the_commit(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for a group of messages; if it fails none of them is acknowledged (WIRE-016)."""
    house.build()
    happened: list[str] = []
    monkeypatch.setattr(house.session, "ack", lambda _token: happened.append("acknowledged"))
    put, broken = house.store.put, [False]

    def keep(*given: Any) -> None:
        happened.append("stored")
        put(*given)

    def settle() -> None:
        if broken[0]:
            raise RuntimeError("not on disk")
        happened.append("settled")

    monkeypatch.setattr(house.store, "put", keep)
    monkeypatch.setattr(house.runner, "_before_commit", settle)
    house.session.start()
    house.runner.begin()
    while house.runner.step():
        pass
    happened.clear()
    for word in (b"a", b"b"):
        house.say(word)
    house.runner.step()
    assert happened[:5] == ["settled", "stored", "stored", "acknowledged", "acknowledged"]
    happened.clear()
    broken[0] = True
    house.say(b"c")
    with pytest.raises(RuntimeError, match="not on disk"):
        house.runner.step()
    assert happened == []
    house.store.close()


def test_a_service_that_is_asked_to_end_leaves_what_waits(house: House) -> None:
    """Thousands of messages may wait; not acknowledged, they come again (WIRE-016)."""
    house.build()
    for _ in range(1_000):
        house.runner.post(Word(house.clock(), "volatile"))
    house.runner.stop()
    house.runner.run()
    assert 500 < house.runner.waiting < 1_000
    house.store.close()


def test_a_core_that_raises_sets_the_event_aside(house: House) -> None:
    """The event is kept for a person, acknowledged, and the next one is taken (WIRE-030)."""
    house.start()
    house.expect(("up", b"1"))
    house.say(b"raise")
    house.say(b"hi")
    house.expect(("count/hi", b"1"), ("loud/hi", b"HI"))
    ((at, event, error),) = house.store.set_aside_events()
    assert (at, "raise" in event, error) == (1000.0, True, "RuntimeError('planted')")


def test_refused_and_undecodable_messages_are_counted(house: House) -> None:
    """Neither a refusal nor a decoder that raises stops the service (WIRE-020, WIRE-022)."""
    house.start()
    house.expect(("up", b"1"))
    house.say(b"bad")
    house.say(b"crash")
    house.say(b"hi")
    house.expect(("count/hi", b"1"), ("loud/hi", b"HI"))
    value = house.metrics.registry.get_sample_value
    assert value("roost_messages_total", {"outcome": "refused"}) == 1
    assert value("roost_messages_total", {"outcome": "failed"}) == 1
    assert value("roost_events_total", {"event": "message.refused", "reason": "malformed"}) == 1


def test_timers_fire_once_and_survive_a_restart(house: House) -> None:
    """A timer set before a crash fires after it; a cleared one never does."""
    house.start()
    house.expect(("up", b"1"))
    house.say(b"timer")
    house.say(b"untimer")
    house.say(b"hi")
    house.expect(("count/hi", b"1"), ("loud/hi", b"HI"))
    house.stop()
    house.clock.now += 6
    house.build()
    house.thread = threading.Thread(target=house.runner.run)
    house.thread.start()
    house.session.start()
    house.expect(("up", b"1"), ("count/hi", b"1"), ("timer/t", b""))
    house.stop()
    house.build()
    assert house.store.timers() == {}
    house.store.close()


def test_what_one_timer_does_to_others_that_are_due_with_it_counts(house: House) -> None:
    """One that it cleared does not fire, one that it put off fires later (WIRE-033)."""
    house.build()
    house.session.start()
    house.runner.begin()
    house.say(b"alarms")
    house.runner.step(0)
    house.clock.now += 6
    house.runner.step(0)
    assert house.store.timers() == {"c": house.clock.now + 5}
    house.clock.now += 6
    house.runner.step(0)
    house.expect(("up", b"1"), ("timer/a", b""), ("timer/c", b""))
    assert house.store.timers() == {}
    house.store.close()


def test_retained_topics_are_published_again_after_a_reconnect(house: House) -> None:
    """A broker that forgot everything gets the owner's retained topics back (WIRE-008)."""
    house.start()
    house.expect(("up", b"1"))
    house.say(b"hi")
    house.expect(("count/hi", b"1"), ("loud/hi", b"HI"))
    house.broker.forget()
    house.session.drop()
    house.session.start()
    house.expect(("up", b"2"), ("count/hi", b"1"))
    assert house.broker.retained["count/hi"].payload == b"1"


def test_an_effect_that_raises_is_tried_again_then_set_aside(house: House) -> None:
    """A passing failure is repaired; a lasting one does not loop, and is kept (WIRE-040)."""
    tries: dict[str, int] = {}

    def perform(shout: Shout) -> list[Any]:
        tries[shout.word] = tries.get(shout.word, 0) + 1
        if shout.word == "never" or tries[shout.word] < 3:
            raise OSError("planted")
        return [Shouted(0.0, shout.word)]

    house.start(perform)
    house.expect(("up", b"1"))
    house.say(b"never")
    assert house.next() == ("count/never", b"1")
    house.say(b"third")
    house.expect(("count/third", b"1"), ("loud/third", b"THIRD"))
    assert house.watched.given_up.wait(DEADLINE_S)
    assert tries == {"never": 5, "third": 3}
    house.stop()
    house.build()
    ((_, effect, problem),) = house.store.set_aside_events()
    assert (effect, problem) == ("Shout(word='never')", "Shout: OSError('planted')")
    assert house.store.outbox() == []
    house.store.close()


def test_an_effect_waits_for_the_broker_however_long(house: House) -> None:
    """It is no fault of the effect's, and nothing may be forgotten (WIRE-040).

    Regression: what had to be cleared was given up when the broker was away for three minutes.
    """
    tries = 0

    def perform(shout: Shout) -> list[Any]:
        nonlocal tries
        tries += 1
        if tries < 20:
            raise BrokerAway("no broker within 30 s")
        return [Shouted(0.0, shout.word)]

    house.start(perform)
    house.expect(("up", b"1"))
    house.say(b"late")
    house.expect(("count/late", b"1"), ("loud/late", b"LATE"))
    assert tries == 20
    assert house.store.set_aside_events() == []


def test_a_publish_that_the_broker_refuses_is_set_aside(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried again: the answer would be the same (WIRE-040)."""
    house.start()
    house.expect(("up", b"1"))
    publish = house.session.publish

    def refuse(message: Publish, done: Any = None) -> None:
        if message.topic == "count/hi" and done is not None:
            done("not authorized")
        else:
            publish(message, done)

    monkeypatch.setattr(house.session, "publish", refuse)
    house.say(b"hi")
    house.expect(("loud/hi", b"HI"))
    house.stop()
    house.build()
    ((_, effect, problem),) = house.store.set_aside_events()
    assert "count/hi" in effect
    assert problem == "not authorized"
    house.store.close()


def test_volatile_states_are_not_stored(house: House) -> None:
    """Presence and the like live in memory only."""
    house.start()
    house.expect(("up", b"1"))
    house.say(b"volatile")
    house.say(b"hi")
    house.expect(("count/hi", b"1"), ("loud/hi", b"HI"))
    assert dict(house.store.load_states()) == {("count", "hi"): Count(1)}


def test_cold_states_are_looked_up_on_disk(house: House) -> None:
    """Within one turn, in later ones, and after a restart; none is kept in memory (WIRE-043)."""
    house.build()
    house.session.start()
    for word in (b"once a", b"once b", b"once a"):
        house.say(word)
    house.thread = threading.Thread(target=house.runner.run)
    house.thread.start()
    house.expect(*(("count/once", times) for times in (b"1", b"1", b"2")), ("up", b"1"))
    house.stop()
    assert house.runner._states._kinds.get("once") is None
    assert house.runner._states._uncommitted == {}
    house.start()
    house.expect(("up", b"1"))
    house.say(b"once a")
    house.expect(("count/once", b"3"))
    with pytest.raises(AssertionError, match="'once' is not kept in memory"):
        house.runner._states.all("once")


def test_a_newer_state_is_refused(tmp_path: Path) -> None:
    """A state written by a newer Roost is left alone, with the cure in the message (WIRE-041)."""
    store = Store(tmp_path / "s", {}, ())
    store._db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    store.close()
    with pytest.raises(StateNewer, match="update Roost"):
        Store(tmp_path / "s", {}, ())


def test_retained_copies_expire(tmp_path: Path) -> None:
    """An expired copy is not published again; a living one with the time that is left."""
    store = Store(tmp_path / "s", {}, ())
    store.keep_retained(Publish("short", b"1", retain=True, expiry_s=5), 100.0)
    store.keep_retained(Publish("long", b"2", retain=True, expiry_s=50), 100.0)
    store.keep_retained(Publish("first", b"3", retain=True), 100.0)
    store.keep_retained(Publish("long", b"4", retain=True, expiry_s=50), 100.0)
    kept = [(p.topic, p.payload, p.expiry_s) for p in store.retained(110.0)]
    assert kept == [("first", b"3", None), ("long", b"4", 40.0)]
    assert store._db.execute("SELECT count(*) FROM retained").fetchone() == (2,), "gone for good"
    store.keep_retained(Publish("first", retain=True), 110.0)
    assert [p.topic for p in store.retained(110.0)] == ["long"]
    store.close()


def test_lanes_keep_order(tmp_path: Path) -> None:
    """Jobs of one lane run one after the other, also when one raises."""
    from roost.chassis.lanes import Lanes  # noqa: PLC0415

    lanes = Lanes(4)
    seen: list[int] = []
    done = threading.Event()

    def job(n: int) -> Callable[[], None]:
        def run() -> None:
            seen.append(n)
            if n == 50:
                raise ValueError
            if n == 99:
                done.set()

        return run

    for n in range(100):
        lanes.submit("one", job(n))
    assert done.wait(DEADLINE_S)
    lanes.close()
    assert seen == list(range(100))
