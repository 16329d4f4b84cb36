"""What one participant costs does not depend on how many there are; on the coordinator's core."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roost.chassis.core import Connected, TimerFired
from roost.chassis.effects import Publish
from roost.chassis.states import States
from roost.coordinator.core.case import Case
from roost.coordinator.core.desk import Desk
from roost.coordinator.core.draft import Draft
from roost.coordinator.core.events import PropletSeen, TaskChanged, UpdateArrived
from roost.coordinator.core.facts import Keep, TaskFact
from roost.coordinator.core.outcome import make_outcome
from roost.coordinator.core.rounds import SMALL, TELL_EVERY_S
from roost.coordinator.core.state import Base, Policy, Round
from roost.protocol.round.messages import (
    MAX_PARTICIPANTS,
    RoundComplete,
    RoundState,
    RoundStatus,
)
from roost.protocol.task.messages import TaskStatus

from .world import World

STATE = "fl/rounds/r/state"
MANY = tuple(f"p{number:03d}" for number in range(100))


class Watched:
    """A view that counts what is read of it."""

    def __init__(self, world: World) -> None:
        self._states = world.states
        self.reads: list[tuple[str, str]] = []

    def get(self, kind: str, id_: str, /) -> Any:
        """Return an entity and count it."""
        self.reads.append((kind, id_))
        return self._states.get(kind, id_)

    def all(self, kind: str, /) -> Any:
        """Return a kind and count all of it."""
        found = self._states.all(kind)
        self.reads += [(kind, id_) for id_ in found]
        return found


def watched(world: World, event: Any) -> tuple[Watched, Any]:
    """Let the core decide about an event and count what it reads."""
    view = Watched(world)
    return view, Desk(Keep()).handle(event, view)


def opened(who: tuple[str, ...], **more: Any) -> World:
    """Return a world with an open round of which the state was just told."""
    world = World()
    world.open("r", who, len(who), **more)
    world.pass_time(1.0)
    world.arrive(who[0])
    assert world.state().updates == 1
    return world


def events_of(world: World, who: str) -> list[Any]:
    """Return what may come of one participant."""
    fact = TaskFact(f"r:{who}", TaskStatus.SUCCEEDED, world.round().start_sha256)
    failed = TaskFact(f"r:{who}", TaskStatus.FAILED, world.round().start_sha256, "trap")
    return [
        UpdateArrived(world.now, "r", world.arrival(who)),
        UpdateArrived(world.now, "r", world.arrival(who, shapes="others")),
        TaskChanged(world.now, "r", who, fact),
        TaskChanged(world.now, "r", who, failed),
        PropletSeen(world.now, "new"),
    ]


@pytest.mark.parametrize("number", range(5))
def test_news_of_one_participant_touches_no_other(number: int) -> None:
    """Whatever it is, as much is read, stored and published among 30 as among 100 (ROUND-036)."""
    costs = []
    for who in (MANY[:30], MANY):
        world = opened(who)
        event = events_of(world, who[5])[number]
        view, decision = watched(world, event)
        seats = {id_ for kind, id_ in (*view.reads, *decision.puts) if kind == "seat"}
        assert seats <= {f"r/{who[5]}"}
        assert not [each for each in decision.effects if isinstance(each, Publish)]
        costs.append((len(view.reads), len(decision.puts), len(decision.effects)))
    assert costs[0] == costs[1]


def test_presences_are_taken_in_one_by_one_while_a_round_waits_for_them() -> None:
    """Each is looked at once, however many wait (ROUND-036)."""
    world = World()
    world.connect()
    world.index()
    world.order("r", MANY, 1)
    reads = 0
    for each in MANY:
        view, _ = watched(world, PropletSeen(world.now, each))
        reads += sum(kind == "proplet" for kind, _ in view.reads)
        world.see(each)
    assert world.round().status is RoundStatus.OPEN
    assert reads <= 4 * len(MANY)


def test_a_state_is_told_at_intervals_and_completely_in_the_end() -> None:
    """Five times a second at most; the last change is told 0.2 s after it (ROUND-030)."""
    world = opened(MANY)
    before = len(world.told(STATE))
    for each in MANY[1:50]:
        world.arrive(each)
        world.pass_time(0.01)
    assert 2 <= len(world.told(STATE)) - before <= 3
    world.pass_time(TELL_EVERY_S)
    assert world.state().updates == 50
    assert world.state().missing == MANY[50:]
    told = len(world.told(STATE))
    world.pass_time(1.0)
    assert len(world.told(STATE)) == told, "nothing changed, nothing is told"
    world.arrive(MANY[50])
    assert (len(world.told(STATE)), world.state().updates) == (told + 1, 51)


def test_a_change_of_status_is_told_at_once() -> None:
    """And no older state comes after it (ROUND-030)."""
    world = opened(MANY[:30])
    for each in MANY[1:30]:
        world.arrive(each)
    states = [RoundState.decode(each) for each in world.told(STATE)]
    assert [each.state for each in states[-3:]] == ["aggregating", "publishing", "completed"]
    assert "state/r" not in world.timers


def test_a_small_round_tells_every_step() -> None:
    """Up to twenty participants (ROUND-030)."""
    assert SMALL == 20
    world = opened(MANY[:SMALL])
    before = len(world.told(STATE))
    for each in MANY[1:10]:
        world.arrive(each)
    assert len(world.told(STATE)) - before == 9


def test_what_was_to_be_told_is_told_after_a_restart() -> None:
    """The timer outlives the process, what was told before does not (ROUND-030)."""
    world = opened(MANY)
    world.arrive(MANY[1])
    assert world.state().updates == 1
    world.states.put(("told", "r"), None)
    world.pass_time(TELL_EVERY_S)
    assert world.state().updates == 2
    assert not world.happen(TimerFired(world.now, "state/nobody"))


def test_seats_are_kept_as_long_as_the_updates_are() -> None:
    """Of older rounds the outcome is told again, and every update is late (ROUND-034)."""
    world = World(keep=Keep(rounds=3, spools=1))
    world.open("r", ("a", "b"), 1)
    world.arrive("a")
    told = world.told("fl/rounds/r/complete")
    world.arrive("a")
    assert world.state().refusals == {"duplicate": 1}
    world.order("s", ("a", "b"), 1)
    world.arrive("a", "s")
    assert not world.participants("r")
    for who in ("a", "b", "stranger"):
        world.arrive(who)
    assert world.state().refusals == {"duplicate": 1, "late": 3}
    assert world.state().missing == ()
    world.order("r", ("a", "b"), 1)
    assert world.told("fl/rounds/r/complete") == told * 2


def test_presences_that_still_come_give_a_round_more_time() -> None:
    """Thousands of retained ones take longer than 2 s; silence ends the wait (ROUND-007)."""
    world = World()
    world.see(MANY[0])
    world.order("r", MANY, 1)
    world.connect()
    world.index()
    for each in MANY[:-1]:
        world.pass_time(0.1)
        world.see(each)
    assert world.round().status is RoundStatus.PREPARING
    world.pass_time(1.9)
    assert world.round().status is RoundStatus.PREPARING
    world.pass_time(0.2)
    assert world.outcome().reason == "unknown_participant"
    assert "never seen: p099;" in (world.outcome().message or "")


def test_tasks_of_a_start_that_came_late_stay_known() -> None:
    """What was learnt before the start is used; of strangers nothing is kept (ROUND-019)."""
    world = World()
    world.connect()
    world.see("a", "b")
    world.index()
    payload_of = World()
    payload_of.order("r", ("a", "b"), 2)
    sha256 = payload_of.round().start_sha256
    for who in ("a", "stranger"):
        world.task(who, TaskStatus.RUNNING, start=sha256)
    world.order("r", ("a", "b"), 2)
    world.pass_time(10.0)
    assert set(world.states.all("task")) == {"r/a"}
    world.arrive("b")
    world.pass_time(60.0)
    assert world.outcome().verdicts["a"] == "missing: its task is running"
    assert not world.states.all("task")


def test_the_largest_outcome_is_two_megabytes() -> None:
    """Everyone is named, and it fits a packet of 4 MiB (ROUND-032)."""
    who = tuple(f"{number:05d}{'x' * 59}" for number in range(MAX_PARTICIPANTS))
    start = Round("r", "0" * 64, "fl/models/m_v1", Policy(1), RoundStatus.FAILED, 0.0)
    case = Case(Draft(States()), start, 1.0)
    case.seat_everyone(who)
    case.change(base=Base(0, "0" * 64, 1, binary=True))
    for each in who[: len(who) // 2]:
        fact = TaskFact(f"r:{each}", TaskStatus.FAILED, "0" * 64, "y" * 100)
        case.note_seat(each, failed=fact.name)
    outcome = RoundComplete.decode(make_outcome(case).payload.encode())
    assert tuple(outcome.verdicts) == who
    assert 1_100_000 < len(make_outcome(case).payload) < 2_000_000


@given(st.lists(st.sampled_from(MANY[:30]), max_size=60), st.integers(1, 30))
@settings(max_examples=50, deadline=None)
def test_the_last_state_told_is_the_present_one(senders: list[str], k: int) -> None:
    """Whatever came and whenever it was told (ROUND-030)."""
    world = World()
    world.open("r", MANY[:30], k)
    for number, each in enumerate(senders):
        world.arrive(each)
        world.pass_time(0.05 * (number % 5))
    world.happen(Connected(world.now, 2))
    world.pass_time(TELL_EVERY_S)
    round_, state = world.round(), world.state()
    assert (state.state, state.updates) == (round_.status, round_.updates)
    assert state.refusals == dict(round_.refusals)
