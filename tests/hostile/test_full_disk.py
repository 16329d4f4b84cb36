"""A full disk: what cannot be written is not acknowledged, and is done once there is room."""

import errno
import queue
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from roost.chassis.core import Decision, View
from roost.chassis.effects import Publish
from roost.chassis.lanes import Job
from roost.chassis.logs import _StandardError
from roost.chassis.metrics import Metrics
from roost.chassis.received import Received
from roost.chassis.runner import MAX_WAITING, Runner
from roost.chassis.session import Token
from roost.chassis.store import Store
from roost.chassis.testing import MemoryBroker
from roost.chassis.trouble import RETRY_S, passes
from roost.coordinator.adapters.spool import Spool, write_durably
from roost.model_server.adapters.files import Files

from .shapes import BASE

FULL = OSError(errno.ENOSPC, "No space left on device")


@dataclass(frozen=True)
class Seen:
    """What came so far."""

    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Word:
    """A word came."""

    at: float
    word: str


@dataclass(frozen=True)
class Keep:
    """Effect: keep a word."""

    word: str

    @property
    def lane(self) -> str:
        """One after the other."""
        return "keep"


class Core:
    """Remembers and repeats words."""

    kinds = {"seen": Seen}  # noqa: RUF012
    volatile = frozenset[str]()
    effects = (Keep,)

    def handle(self, event: Any, view: View) -> Decision:
        """Remember a word, repeat it, have it kept."""
        if not isinstance(event, Word):
            return Decision()
        seen: Seen = view.get("seen", "") or Seen()
        effects = (Publish("said", event.word.encode()), Keep(event.word))
        return Decision({("seen", ""): Seen((*seen.words, event.word))}, effects)


class Now:
    """Lanes that carry a job out at once, on this thread."""

    def submit(self, _lane: str, job: Job) -> None:
        """Carry it out."""
        job()

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Bench:
    """A runner that is stepped by hand, on a disk that can be full."""

    folder: Path
    errors: list[OSError] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    fails_keeping: int = 0
    on_pause: Callable[[], None] = list

    def __post_init__(self) -> None:
        self.broker = MemoryBroker()
        self.session = self.broker.session()
        self.session.start()
        self.store = Store(self.folder / "state.sqlite", Core.kinds, Core.effects)
        self.metrics = Metrics()
        self.runner = Runner(
            Core(),
            self.store,
            self.session,
            self._decode,
            {Keep: self._keep},
            lambda: 1.0,
            self.metrics,
            pause=self._pause,
            lanes=Now(),
        )
        self.runner.subscribe(["words"])
        self.runner.begin()

    def _decode(self, received: Received, at: float) -> Word:
        if self.errors:
            raise self.errors.pop(0)
        return Word(at, received.payload.decode())

    def _keep(self, effect: Keep) -> None:
        if self.fails_keeping:
            self.fails_keeping -= 1
            raise FULL
        self.kept.append(effect.word)

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.on_pause()

    def say(self, *words: str) -> None:
        """Let words come."""
        for word in words:
            self.broker.route(Publish("words", word.encode()))

    @property
    def unacknowledged(self) -> list[str]:
        """Words that the broker would deliver again."""
        waiting = self.session._unacknowledged.values()
        return [entry.received.payload.decode() for entry in waiting]

    @property
    def said(self) -> list[str]:
        """What was repeated."""
        return [m.payload.decode() for m in self.broker.published if m.topic == "said"]

    def stored(self) -> tuple[str, ...]:
        """What the file holds."""
        other = Store(self.folder / "state.sqlite", Core.kinds, Core.effects)
        found = dict(other.load_states()).get(("seen", ""), Seen())
        other.close()
        return found.words

    @contextmanager
    def full(self) -> Iterator[None]:
        """Let the database be unable to grow."""
        pages = self.store._db.execute("PRAGMA page_count").fetchone()[0]
        self.store._db.execute(f"PRAGMA max_page_count={pages}")
        yield
        self.store._db.execute("PRAGMA max_page_count=100000")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a stepped runner."""
    bench = Bench(tmp_path)
    yield bench
    bench.store.close()


LONG = "w" * 50_000


def test_a_database_that_cannot_grow_acknowledges_nothing(bench: Bench) -> None:
    """SQLite itself says that it is full; later the same turn is written (WIRE-067)."""
    with bench.full():
        bench.say(LONG, "second")
        assert not bench.runner.step()
        assert not bench.runner.step()
        assert bench.unacknowledged == [LONG, "second"]
        assert (bench.said, bench.stored(), bench.kept) == ([], (), [])
        assert bench.runner.patience_s == RETRY_S
        assert bench.runner.trouble is not None
        assert str(bench.folder) in bench.runner.trouble
        bench.say("third")
        assert not bench.runner.step()
    assert bench.runner.step()
    assert bench.stored() == (LONG, "second")
    assert bench.runner.trouble is None
    while bench.runner.step():
        pass
    assert bench.unacknowledged == []
    assert bench.stored() == (LONG, "second", "third") == tuple(bench.said) == tuple(bench.kept)


def test_what_could_not_be_kept_waits_its_turn(bench: Bench) -> None:
    """A decoder writes large payloads to files first: those behind it wait too (WIRE-067)."""
    bench.errors = [FULL, FULL]
    bench.say("first", "second")
    assert bench.runner.step()
    assert bench.unacknowledged == ["first", "second"]
    assert bench.runner.trouble is not None
    bench.runner.step()
    assert bench.unacknowledged == ["first", "second"]
    bench.runner.step()
    assert bench.unacknowledged == []
    assert bench.stored() == ("first", "second")


def test_what_came_before_it_is_done_meanwhile(bench: Bench) -> None:
    """Only what needs room waits (WIRE-067)."""
    taken: list[str] = []

    def decode(received: Received, at: float) -> Word:
        taken.append(received.payload.decode())
        if taken == ["first", "second"]:
            raise FULL
        return Word(at, taken[-1])

    bench.runner._decode = decode
    bench.say("first", "second", "third")
    bench.runner.step()
    assert bench.stored() == ("first",)
    assert bench.unacknowledged == ["second", "third"]
    bench.runner.step()
    assert taken == ["first", "second", "second", "third"]
    assert bench.stored() == ("first", "second", "third")


def test_a_message_of_which_no_file_can_be_made_is_set_aside(bench: Bench) -> None:
    """An error that is not the disk's comes again for ever: it blocks nobody (WIRE-067)."""
    bench.errors = [OSError(errno.ENAMETOOLONG, "File name too long")]
    bench.say("first", "second")
    bench.runner.step()
    assert bench.unacknowledged == []
    assert bench.stored() == ("second",)


def test_an_effect_on_a_full_disk_is_tried_until_it_succeeds(bench: Bench) -> None:
    """Others are given up after five tries; what a full disk stopped is not lost (WIRE-067)."""
    bench.fails_keeping = 9
    bench.say("first")
    bench.runner.step()
    assert bench.kept == ["first"]
    assert len(bench.pauses) == 9
    assert max(bench.pauses) <= 8
    assert bench.runner.trouble is None


def test_it_can_be_ended_while_the_disk_is_full(bench: Bench) -> None:
    """It ends without a word to the broker: the next process gets everything again (WIRE-067)."""
    with bench.full():
        bench.say(LONG)
        bench.on_pause = bench.runner.stop
        bench.runner.run()
    assert bench.unacknowledged == [LONG]
    assert bench.pauses == [RETRY_S]


def test_an_effect_that_waits_for_room_is_left_to_the_next_process(bench: Bench) -> None:
    """It stays in the journal (WIRE-067)."""
    bench.on_pause = bench.runner.stop
    bench.fails_keeping = 9
    bench.say("first")
    bench.runner.step()
    assert bench.kept == []
    assert [entry.effect for entry in bench.store.outbox()][-1] == Keep("first")


def test_what_was_done_is_written_down_later(bench: Bench) -> None:
    """Done twice after a restart at worst, which every effect must bear (WIRE-067)."""
    bench.say("first")
    assert bench.runner.step()
    assert bench.runner.step(), "hears that its effects were carried out"
    real, bench.store._db = bench.store._db, _Failing(bench.store._db)  # type: ignore[assignment]
    assert not bench.runner.step()
    assert bench.runner.trouble is not None
    bench.store._db = real
    while bench.runner.step():
        pass
    assert bench.store.outbox() == []


class _Failing:
    """A database on a disk that is full."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def executemany(self, *_: Any) -> None:
        """Refuse to write."""
        raise sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (FULL, True),
        (OSError(errno.EDQUOT, "quota"), True),
        (OSError(errno.EFBIG, "limit"), True),
        (OSError(errno.ENAMETOOLONG, "long"), False),
        (FileNotFoundError(errno.ENOENT, "gone"), False),
        (sqlite3.OperationalError("database or disk is full"), True),
        (sqlite3.OperationalError("no such table: x"), False),
        (sqlite3.IntegrityError("constraint"), False),
        (ValueError("x"), False),
    ],
)
def test_which_errors_pass(error: Exception, answer: bool) -> None:
    """Those of the machine, not those of a payload (WIRE-067)."""
    assert passes(error) == answer


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Halves of files, one for each try, would keep the disk full (WIRE-067)."""

    def fail(_handle: int) -> None:
        raise FULL

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_durably(tmp_path / "folder" / "file", b"content", 1.0)
    spool = Spool(tmp_path / "spool", lambda: "1")
    payload = b'{"round_id":"r","base_model_uri":"%s","num_samples":1,"update":{"w":[1]}}'
    monkeypatch.setattr("os.utime", lambda *_: fail(0))
    with pytest.raises(OSError, match="No space"):
        spool.take_in("r", "a", payload % BASE.encode())
    files = Files(tmp_path / "models", lambda: "1")
    with pytest.raises(OSError, match="No space"):
        files.take_in(b'{"w":[1]}', 1.0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_log_on_a_full_disk_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be logged is not logged (WIRE-067)."""

    class Full:
        """Standard error redirected to a file on a full disk."""

        def write(self, _text: str) -> int:
            """Refuse to write."""
            raise FULL

        def flush(self) -> None:
            """Nothing was written."""

    monkeypatch.setattr("sys.stderr", Full())
    _StandardError().msg("something happened")


def test_a_flood_that_nobody_holds_back_is_dropped_at_a_bound(tmp_path: Path) -> None:
    """The broker waits for acknowledgements of QoS 1; QoS 0 has none (WIRE-066)."""
    bench = Bench(tmp_path)
    flood = Received("words", b"flood")
    for _ in range(MAX_WAITING + 500):
        bench.runner._receive(flood, Token(1, 0, 0))
    assert bench.runner.waiting == MAX_WAITING
    bench.runner._receive(Received("words", b"honest"), Token(1, 5, 1))
    while bench.runner.step():
        pass
    assert bench.said[-1] == "honest"
    dropped = bench.metrics.messages.labels("dropped")._value.get()
    assert dropped == 500
    bench.store.close()


def test_the_order_of_the_inbox_is_kept(bench: Bench) -> None:
    """A hundred words over a disk that is full now and then come out once, in order (WIRE-067)."""
    words = [str(n) for n in range(100)]
    asked = queue.SimpleQueue[bool]()
    for n in range(400):
        asked.put(n % 3 == 0)

    def decode(received: Received, at: float) -> Word:
        if asked.get():
            raise FULL
        return Word(at, received.payload.decode())

    bench.runner._decode = decode
    bench.say(*words)
    while bench.unacknowledged or bench.runner._held:
        bench.runner.step()
    assert bench.stored() == tuple(words) == tuple(bench.said)
