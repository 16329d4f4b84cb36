"""All services together in virtual time."""

import pytest
from roost.protocol.round.messages import RoundStatus

from .world import World


@pytest.mark.parametrize("seed", range(3))
def test_an_undisturbed_round_completes(seed: int) -> None:
    """Three proplets, one round: a new version of all three updates, within seconds."""
    world = World(seed)
    world.run()
    outcome = world.operator.outcomes["r1"]
    assert outcome.outcome is RoundStatus.COMPLETED
    assert outcome.verdicts == dict.fromkeys(("p1", "p2", "p3"), "accepted")
    assert outcome.model_topic == "fl/models/global_model_v1"
