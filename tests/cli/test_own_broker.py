"""`roost up` on a broker that somebody else runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from roost.cli.digits_data import deal_digits
from roost.cli.ports import is_open
from roost.cli.state import StateDir

from tests.conftest import Mosquitto

from .conftest import PROPLETS, Roost, up

pytestmark = pytest.mark.system


def test_a_round_on_a_broker_of_ones_own(
    make_broker: Callable[..., Mosquitto], roost: Roost, state: StateDir
) -> None:
    """`roost up --broker mqtt://host:1883` starts all but the broker and leaves it alone."""
    own = make_broker()
    deal_digits(state, list(PROPLETS), 0)
    at = ["--state", state.root]
    with up(state, "--proplets", 2, "--broker", own.url) as ready:
        assert "broker" not in ready["pids"]
        assert roost("model", "init", "--arch", "mlp", "--layers", "64,16,10", *at).code == 0
        done = roost("round", "start", "--hyperparams", '{"lr":0.05}', "--timeout", 60, *at)
        assert done.code == 0, done
    assert is_open("127.0.0.1", own.port)
