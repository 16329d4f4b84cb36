"""The faults: how each strikes, what should become of the round, what Flower made of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from roost.protocol.round.messages import RoundStatus

from benchmarks.faults.desk import Desk
from benchmarks.faults.fleet import BROKER, Fleet

PROPLETS = tuple(f"proplet-{n}" for n in range(1, 5))
VICTIM = PROPLETS[-1]
COMPLETED = RoundStatus.COMPLETED.value
GUEST_S = 1.0
#: How soon `roost up` starts again what ran well.
RESTART_S = 0.1
TIMEOUT_S = 10.0
LIMIT_S = 3.0
#: What a round may take longer than the undisturbed one and still count as not delayed.
NOTHING_S = 0.25

Deed = Callable[[Fleet, Desk], None]


def nothing(_fleet: Fleet, _desk: Desk) -> None:
    """Leave everything as it is."""


def kill(name: str) -> Deed:
    """Return what kills a process, with its workers, unless it is gone already."""

    def strike(fleet: Fleet, _desk: Desk) -> None:
        if fleet.runs(name):
            fleet.kill(name)

    return strike


def kill_guest(fleet: Fleet, _desk: Desk) -> None:
    """Kill the process of the victim's guest, and nothing else."""
    fleet.kill_guest(VICTIM)


def restart(name: str) -> Deed:
    """Return what kills a process and starts it again as `roost up` does."""

    def strike(fleet: Fleet, _desk: Desk) -> None:
        fleet.kill(name)
        time.sleep(RESTART_S)
        fleet.start(name)

    return strike


def bring_back(fleet: Fleet, desk: Desk) -> None:
    """Start the victim again if it does not run, and wait until it is there."""
    if not fleet.runs(VICTIM):
        fleet.start(VICTIM)
    desk.await_online(VICTIM)


@dataclass(frozen=True)
class Probe:
    """One fault.

    Attributes:
        name: What happens.
        k: How many of the four updates close the round.
        flower: What Flower made of it.
        expected: What should become of the round: `completed`, or the reason of its failure.
        updates: With how many updates.
        most_s: The most it should lose.
        why: What that is made up of.
        strike: Done in the middle of the guests' run.
        mend: Done after each round.
        guest: Orders to the guest, as hyperparams.
        policy: Further fields of the start.
    """

    name: str
    k: int
    flower: str
    expected: str = COMPLETED
    updates: int = 4
    most_s: float = NOTHING_S
    why: str = "nothing"
    strike: Deed = nothing
    mend: Deed = nothing
    guest: Mapping[str, str] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)


_DIES, _HANGS = "70 s", "the whole timeout, three rounds running"
_STARTS = f"{RESTART_S:g} s until its restart, and its start"
PROBES = (
    Probe("guest dies (it traps), k = 3", 3, _DIES, updates=3, guest={"dies": VICTIM}),
    Probe("guest dies (kill -9 of its process), k = 3", 3, _DIES, updates=3, strike=kill_guest),
    Probe(
        "guest dies (it traps), k = 4",
        4,
        _DIES,
        "quorum_unreachable",
        3,
        most_s=2.0,
        why="2 s of grace: an update may be on its way",
        guest={"dies": VICTIM},
    ),
    Probe("guest hangs, k = 3", 3, _HANGS, updates=3, guest={"hangs": VICTIM}),
    Probe(
        f"guest hangs, k = 4, guest_s = {LIMIT_S:g}",
        4,
        _HANGS,
        "quorum_unreachable",
        3,
        most_s=LIMIT_S - GUEST_S + 2.0 + NOTHING_S,
        why="guest_s and 2 s of grace",
        guest={"hangs": VICTIM},
        policy={"guest_s": LIMIT_S},
    ),
    Probe(
        f"guest hangs, k = 4, timeout_s = {TIMEOUT_S:g}",
        4,
        _HANGS,
        "timed_out",
        3,
        most_s=TIMEOUT_S - GUEST_S,
        why="timeout_s",
        guest={"hangs": VICTIM},
        policy={"timeout_s": TIMEOUT_S},
    ),
    Probe("proplet killed for good, k = 3", 3, "43 s", updates=3, strike=kill(VICTIM)),
    Probe(
        f"proplet killed for good, k = 4, timeout_s = {TIMEOUT_S:g}",
        4,
        "never ends",
        "timed_out",
        3,
        most_s=TIMEOUT_S - GUEST_S,
        why="timeout_s: it might come back",
        strike=kill(VICTIM),
        mend=bring_back,
        policy={"timeout_s": TIMEOUT_S},
    ),
    Probe(
        "proplet killed and restarted, k = 4",
        4,
        "never ends",
        most_s=3.0,
        why=f"{_STARTS}, its guest once more",
        strike=restart(VICTIM),
        mend=bring_back,
    ),
    *(
        Probe(
            f"{name.replace('-', ' ')} killed and restarted, k = 4",
            4,
            {"coordinator": "run lost"}.get(name, "not probed"),
            most_s=2.0,
            why=_STARTS,
            strike=restart(name),
        )
        for name in ("coordinator", "manager", "model-server")
    ),
    Probe(
        "broker killed and restarted, k = 4",
        4,
        "not probed",
        most_s=5.0,
        why="up to 4 s until updates that it lost are asked for",
        strike=restart(BROKER),
    ),
)
