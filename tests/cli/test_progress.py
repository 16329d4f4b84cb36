"""A round's progress in one line."""

from roost.cli.follow import state_text
from roost.protocol.round.messages import RoundState, RoundStatus


def test_a_large_rounds_line_counts_all_and_names_a_few() -> None:
    """Its state names the first 50 who are missing or failed, and counts the others (ROUND-030)."""
    names = tuple(f"p{number:05d}" for number in range(50))
    state = RoundState(
        round_id="r",
        state=RoundStatus.OPEN,
        model_uri="fl/models/m_v0",
        k_of_n=9_000,
        participants=10_000,
        updates=4_000,
        missing=names,
        failed=dict.fromkeys(names, "trap"),
        failures=120,
    )
    assert state_text(state) == (
        "round r: open, 4000 of 10000 updates, waiting for p00000, p00001, p00002 and 5997 more, "
        "failed: p00000, p00001, p00002 and 117 more"
    )


def test_a_small_rounds_line_names_everyone() -> None:
    """Up to three."""
    state = RoundState(
        round_id="r",
        state=RoundStatus.OPEN,
        model_uri="fl/models/m_v0",
        k_of_n=2,
        participants=3,
        updates=1,
        missing=("a", "b"),
        failed={"b": "trap"},
        failures=1,
    )
    assert state_text(state) == "round r: open, 1 of 3 updates, waiting for a, b, failed: b"
