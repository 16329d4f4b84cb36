"""Drives hostile messages through all services: ``python -m tests.hostile --messages 1000000``.

Ends with exit code 1 and the first findings when something raised, was accepted wrongly, or was
lost, or when memory grew.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from .storm import Storm

MAX_GROWTH_MB: Final = 4.0
"""Allowed growth of resident memory in 100,000 messages, once everything has warmed up."""

_PAGE_MB: Final = 4096 / 1_000_000
_WARM: Final = 0.3
_SHOWN: Final = 20


def resident_mb() -> float:
    """Return this process's resident memory in MB."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_MB


def slope(samples: Sequence[tuple[int, float]]) -> float:
    """Return the growth in MB per 100,000 messages, by least squares."""
    count = len(samples)
    mean_x = sum(x for x, _ in samples) / count
    mean_y = sum(y for _, y in samples) / count
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread * 100_000


def warm(samples: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """Return the samples after everything that is kept in bounded number is there."""
    return samples[int(len(samples) * _WARM) :]


def drive(
    folder: Path, messages: int, seed: int, say: Callable[[str], None] = lambda _text: None
) -> list[tuple[int, float]]:
    """Send so many messages; return messages and resident memory after each round.

    Raises:
        AssertionError: a service did what it must not.
    """
    storm = Storm(folder, seed)
    try:
        return _drive(storm, messages, say)
    finally:
        storm.house.close()


def _drive(storm: Storm, messages: int, say: Callable[[str], None]) -> list[tuple[int, float]]:
    samples: list[tuple[int, float]] = []
    sent, began = 0, time.monotonic()
    while sent < messages:
        storm.round()
        storm.check_troubles()
        before, sent = sent, storm.story.sent.total()
        samples.append((sent, resident_mb()))
        if before * _SHOWN // messages != sent * _SHOWN // messages:
            rate = sent / (time.monotonic() - began)
            told = f"{storm.story.rounds} rounds, {rate:.0f}/s, {samples[-1][1]:.1f} MB"
            say(f"{sent} messages, {told}")
    say(f"sent: {dict(storm.story.sent)}")
    say(f"judged: {dict(storm.story.judged)}")
    say(f"kinds of events: { {n: s.labels() for n, s in storm.house.services.items()} }")
    return samples


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="roost-hostile-", dir=where) as folder:
        try:
            samples = drive(
                Path(folder), options.messages, options.seed, lambda text: print(text, flush=True)
            )
        except AssertionError as error:
            print(f"FOUND with seed {options.seed}: {error}", file=sys.stderr)
            return 1
    growth = slope(warm(samples))
    print(f"memory grows by {growth:.2f} MB in 100,000 messages, {MAX_GROWTH_MB} are allowed")
    return int(growth > MAX_GROWTH_MB)


if __name__ == "__main__":
    sys.exit(main())
