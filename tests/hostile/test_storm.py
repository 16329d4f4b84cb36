"""A slice of the million messages; ``python -m tests.hostile`` sends all of them."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from .__main__ import drive, slope, warm

MESSAGES = 8_000
MAX_GROWTH_MB = 12.0


@pytest.fixture
def quiet() -> Iterator[None]:
    """Log nothing: there would be a line for every refusal."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_rounds_complete_in_a_storm(seed: int, quiet: None, tmp_path: Path) -> None:
    """No service raises, accepts what the oracle refuses, or loses an honest update.

    (WIRE-020, ROUND-010, ROUND-011, ROUND-020, ROUND-031, ROUND-040)
    """
    samples = drive(tmp_path, MESSAGES, seed)
    assert samples[-1][1] - samples[len(samples) // 2][1] < MAX_GROWTH_MB


def test_growth_is_found() -> None:
    """A leak of 10 bytes a message is 1 MB in 100,000; what comes at the beginning is none."""
    leak = [(n, 70 + n * 10 / 1_000_000) for n in range(0, 100_000, 1000)]
    assert slope(leak) == pytest.approx(1.0)
    assert slope(warm([(0, 0.0)] * 30 + leak[30:])) == pytest.approx(1.0)
