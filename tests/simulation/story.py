"""Runs of seeds, with or without their story.

The cores' own notes are part of the story; without one nothing is logged at all.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from .oracle import Broken
from .world import World

REPLAY = "python -m tests.simulation --seed {seed}"


@dataclass(frozen=True, slots=True)
class Run:
    """How one seed went.

    Attributes:
        seed: Which.
        problem: The invariant that does not hold; None: all do.
        fired: How often each kind of fault hit.
    """

    seed: int
    problem: str | None
    fired: Counter[str]


@contextmanager
def notes_go_to(tell: Callable[[str, str], None] | None) -> Iterator[None]:
    """Hand the services' log events on, or drop them."""

    def told(_logger: Any, level: str, event: dict[str, Any]) -> Any:
        name = event.pop("event")
        fields = " ".join(f"{key}={value}" for key, value in event.items())
        if tell is not None:
            tell(f"   {level}", f"{name} {fields}"[:240])
        raise structlog.DropEvent

    before = structlog.get_config()
    least = logging.CRITICAL if tell is None else logging.DEBUG
    structlog.configure(
        processors=[told], wrapper_class=structlog.make_filtering_bound_logger(least)
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def run(seed: int, tell: Callable[[str], None] | None = None) -> Run:
    """Run one seed."""
    world = World(seed, tell)
    with notes_go_to(None if tell is None else world.say):
        try:
            world.run()
        except Broken as error:
            return Run(seed, str(error), world.faults.fired)
    return Run(seed, None, world.faults.fired)


def story_of(seed: int, last: int = 400) -> str:
    """Return what happened in a run that ended badly, its last lines at least."""
    lines: list[str] = []
    found = run(seed, lines.append)
    head = [f"seed {seed}: {found.problem}", f"replay: {REPLAY.format(seed=seed)}"]
    if len(lines) > last:
        head.append(f"({len(lines) - last} earlier lines: see the replay)")
    return "\n".join([*head, *lines[-last:], *head[:2]])
