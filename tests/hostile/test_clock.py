"""Clocks that are set forward and back by hours: deadlines make no nonsense."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roost.chassis.clock import FILE, REMEMBER_EVERY_S, SteadyClock, boot_id, boot_time
from roost.coordinator.adapters.spool import Spool
from roost.protocol.round.messages import RoundComplete, RoundState
from roost.protocol.task.messages import StartTask, TaskState, TaskStatus

from ..coordinator.world import World as Rounds  # noqa: TID252 - the tests are no package
from ..manager.world import World as Tasks  # noqa: TID252
from ..manager.world import make_world  # noqa: TID252

HOUR = 3600.0
UPDATE = b'{"round_id":"r","base_model_uri":"fl/models/m_v0","num_samples":1,"update":{"w":[1]}}'


@dataclass
class Machine:
    """Time as a machine has it."""

    folder: Path
    wall: float = 1_000_000.0
    counted: float = 100.0
    run: str = "first run"

    def clock(self) -> SteadyClock:
        """Start a service."""
        return SteadyClock(
            self.folder,
            wall=lambda: self.wall,
            count=lambda: self.counted,
            boot=lambda: self.run,
        )

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.wall += seconds
        self.counted += seconds

    def restart(self, wall: float) -> None:
        """Start again with another date."""
        self.wall, self.counted, self.run = wall, 10.0, self.run + "'"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine that has run for a while."""
    return Machine(tmp_path)


@pytest.mark.parametrize("jump", [-50 * 365 * 24 * HOUR, -HOUR, HOUR, 50 * 365 * 24 * HOUR])
def test_setting_the_wall_clock_changes_nothing(machine: Machine, jump: float) -> None:
    """Neither in a process, nor for the next one in the same run of the machine (WIRE-068)."""
    clock = machine.clock()
    assert clock() == 1_000_000.0
    machine.wait(5)
    machine.wall += jump
    assert clock() == 1_000_005.0
    machine.wait(5)
    assert machine.clock()() == 1_000_010.0


def test_another_run_of_the_machine_begins_with_its_date(machine: Machine) -> None:
    """The time without power counts (WIRE-068)."""
    machine.clock()
    machine.restart(wall=1_000_000.0 + HOUR)
    assert machine.clock()() == 1_000_000.0 + HOUR


def test_it_never_runs_back(machine: Machine) -> None:
    """A board without a clock starts in 1970 every time (WIRE-068)."""
    clock = machine.clock()
    machine.wait(REMEMBER_EVERY_S)
    latest = clock()
    machine.wait(5)
    assert clock() == latest + 5
    machine.restart(wall=30.0)
    again = machine.clock()
    assert again() == latest
    machine.wait(7)
    machine.wall = 2_000_000.0
    assert again() == latest + 7


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"boot": "first run"}', '{"boot":1,"offset":"x"}']
)
def test_a_damaged_memory_is_a_first_start(machine: Machine, content: str) -> None:
    """A loss of power may cut the file (WIRE-068)."""
    (machine.folder / FILE).write_text(content)
    assert machine.clock()() == machine.wall


def test_a_machine_that_cannot_tell_its_runs_apart(machine: Machine) -> None:
    """Every start counts as one of the machine's (WIRE-068)."""
    machine.run = ""
    machine.clock()
    machine.wait(5)
    machine.wall -= HOUR
    assert machine.clock()() == 1_000_000.0, "not before the latest time that is remembered"


def test_it_works_where_nothing_can_be_kept(machine: Machine) -> None:
    """On a full disk it forgets, and runs (WIRE-068)."""
    machine.folder = machine.folder / "nowhere"
    clock = machine.clock()
    machine.wait(2 * REMEMBER_EVERY_S)
    assert clock() == 1_000_000.0 + 2 * REMEMBER_EVERY_S


def test_the_real_one_runs(tmp_path: Path) -> None:
    """On this machine, evenly (WIRE-068)."""
    before = boot_time()
    clock = SteadyClock(tmp_path)
    first, second = clock(), clock()
    assert 0 <= second - first <= boot_time() - before
    assert json.loads((tmp_path / FILE).read_text())["boot"] == boot_id()


def test_files_are_tidied_by_the_services_clock(tmp_path: Path) -> None:
    """The disk's clock may be hours ahead or behind (WIRE-068)."""
    numbers = iter(range(100))
    now = 1_000_000.0
    spool = Spool(tmp_path / "spool", lambda: str(next(numbers)), lambda: now)
    old = spool.take_in("old", "a", UPDATE)
    now += HOUR
    new = spool.take_in("new", "a", UPDATE)
    assert spool.path(new.spool).stat().st_mtime == now
    spool.tidy((), before=now - 1)
    assert spool.path(new.spool).exists()
    assert not spool.path(old.spool).exists()


JUMPS = st.lists(
    st.tuples(
        st.sampled_from(["jump", "wait", "report", "presence", "update", "task", "restart"]),
        st.floats(-10 * HOUR, 10 * HOUR),
        st.sampled_from("abc"),
    ),
    max_size=25,
)


def _told(tasks: Tasks) -> None:
    for topic, payload in tasks.retained.items():
        if payload and topic.endswith("/state") and topic.startswith("tasks/"):
            TaskState.decode(payload)
    for message in tasks.take("/start"):
        StartTask.decode(message.payload)


@given(JUMPS)
def test_tasks_end_however_the_clock_jumps(steps: list[tuple[str, float, str]]) -> None:
    """What is told can be read, and the last deadline ends every wait (WIRE-069)."""
    tasks = make_world()
    for name in "abc":
        tasks.presence(name)
        tasks.launch(f"t-{name}", proplet=name, deadline_s=60)
    tasks.launch("anywhere", deadline_s=600)
    for kind, seconds, who in steps:
        match kind:
            case "jump":
                tasks.at = max(0.0, tasks.at + seconds)
            case "wait":
                tasks.wait(abs(seconds) / 100)
            case "report":
                tasks.report(who, f"t-{who}", 1, "running")
            case "presence":
                tasks.presence(who)
            case "restart":
                tasks.restart()
            case _:
                tasks.telemetry(who)
        _told(tasks)
    tasks.wait(20 * HOUR * (len(steps) + 1) + 600)
    _told(tasks)
    assert not tasks.all("task"), "those that have ended are kept elsewhere"


@given(JUMPS)
def test_rounds_end_however_the_clock_jumps(steps: list[tuple[str, float, str]]) -> None:
    """Nothing accepted is lost, what is told can be read, every round ends (WIRE-069)."""
    rounds = Rounds()
    rounds.open(k=3)
    for kind, seconds, who in steps:
        match kind:
            case "jump":
                rounds.now = max(0.0, rounds.now + seconds)
            case "wait":
                rounds.pass_time(abs(seconds) / 100)
            case "update":
                rounds.arrive(who)
            case "restart":
                rounds.disconnect()
                rounds.connect()
                rounds.index()
            case _:
                rounds.task(who, TaskStatus.RUNNING)
        RoundState.decode(rounds.told("fl/rounds/r/state")[-1])
    rounds.pass_time(20 * HOUR * (len(steps) + 1) + 600)
    assert rounds.round().status.final
    outcome = RoundComplete.decode(rounds.told("fl/rounds/r/complete")[-1])
    assert 0 <= outcome.duration_s <= 604_800
