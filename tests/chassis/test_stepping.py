"""The runner step by step: what a simulation sees of it, and its order after a restart."""

import queue
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from roost.chassis.core import NOTHING, Decision, Started, TimerFired, View
from roost.chassis.effects import Publish, SetTimer
from roost.chassis.metrics import Metrics
from roost.chassis.received import Received
from roost.chassis.runner import Runner
from roost.chassis.store import Store
from roost.chassis.testing import MemoryBroker


@dataclass(frozen=True)
class Ring:
    """Effect: ring a bell."""

    name: str

    @property
    def lane(self) -> str:
        """One bell."""
        return "bell"


@dataclass(frozen=True)
class Rung:
    """The bell rang."""

    at: float
    name: str


class BellCore:
    """Says on one topic what it did last, at the start too."""

    kinds = {}  # noqa: RUF012 - constant of a test
    volatile = frozenset[str]()
    effects = (Ring,)

    def handle(self, event: Any, _view: View) -> Decision:
        """Decide."""
        match event:
            case Started():
                return Decision(effects=(Publish("bell", b"started"),))
            case Rung(at=at, name=name):
                wait = SetTimer("bell", at + 5)
                return Decision(effects=(Publish("bell", name.encode()), wait))
            case TimerFired():
                return Decision(effects=(Ring("timer"),))
        return NOTHING


class Jobs:
    """Carries nothing out until it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.closed = False

    def submit(self, lane: str, job: Callable[[], None]) -> None:
        """Take a job."""
        assert lane == "bell"
        self.waiting.append(job)

    def close(self) -> None:
        """Take no more."""
        self.closed = True


class Shell:
    """A runner on this very thread, over a broker in memory."""

    def __init__(self, path: Path) -> None:
        self.now = 100.0
        self.said: list[bytes] = []
        self.jobs = Jobs()
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.store = Store(path, BellCore.kinds, BellCore.effects)
        self.broker = MemoryBroker()
        self.session = self.broker.session()
        self.runner = Runner(
            BellCore(),
            self.store,
            self.session,
            lambda received, at: Rung(at, received.payload.decode()),
            {Ring: lambda ring: [Rung(self.now, ring.name)]},
            lambda: self.now,
            Metrics(),
            pause=lambda _seconds: None,
            inbox=self.inbox,
            lanes=self.jobs,
        )
        self.runner.subscribe(["rope"])
        hearer = self.broker.session()
        hearer.subscribe("bell", self._hear)
        hearer.start()

    def _hear(self, received: Received, _token: Any) -> None:
        self.said.append(received.payload)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Return a connected shell that has not begun."""
    shell = Shell(tmp_path / "s")
    shell.session.start()
    yield shell
    shell.store.close()


def test_what_was_left_comes_before_what_the_start_says(shell: Shell) -> None:
    """Order per topic outlives a restart: the start's publish is newer than the journal's."""
    with shell.store as store:
        store.add_to_outbox(Publish("bell", b"left"))
        store.add_to_outbox(Ring("left"))
    shell.runner.begin()
    assert shell.said == [b"left", b"started"]
    assert len(shell.jobs.waiting) == 1


def test_nothing_that_was_left_is_done_before_the_start_is_written(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the start waits, and so does what it may no longer want."""
    with shell.store as store:
        store.add_to_outbox(Publish("bell", b"left"))

    def full(*_: object) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(shell.store, "add_to_outbox", full)
        shell.runner.begin()
        assert not shell.runner.step()
        assert shell.said == []
    assert shell.runner.step()
    assert shell.said == [b"left", b"started"]


def test_steps_do_one_thing_after_the_other(shell: Shell) -> None:
    """Each step takes what waits, or what is due, or writes down what is done; then rests."""
    shell.runner.begin()
    assert shell.runner.waiting == 2, "connected, and the start's publish is acknowledged"
    assert shell.runner.step()
    assert len(shell.store.outbox()) == 1, "done, but not written down"
    assert shell.runner.patience_s == 0.2, "soon"
    assert shell.runner.step()
    assert shell.store.outbox() == []
    assert not shell.runner.step()
    assert shell.runner.patience_s == 1.0
    shell.broker.route(Publish("rope", b"pulled"))
    assert shell.runner.step()
    assert shell.said == [b"started", b"pulled"]
    while shell.runner.step():
        pass
    shell.now += 5
    assert shell.runner.patience_s == 0.0, "the timer is due"
    assert shell.runner.step()
    (job,) = shell.jobs.waiting
    assert [entry.effect for entry in shell.store.outbox()] == [Ring("timer")]
    job()
    assert shell.runner.step()
    assert shell.said[-1] == b"timer"
    shell.runner.end()
    assert shell.jobs.closed
