"""The simulated phone runs the shared state traces, and has a body."""

import json
from pathlib import Path
from typing import Any

import pytest
from roost.ios_bridge.simulator.core.body import Body
from roost.ios_bridge.simulator.core.handset import step
from roost.ios_bridge.simulator.core.states import Handset, Model, Stage

from .traces import event_of, want_of

VECTORS = Path(__file__).parents[2] / "specs" / "vectors" / "phone"
CASES = json.loads((VECTORS / "traces.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_trace(case: dict[str, Any]) -> None:
    """Each event of a trace makes the phone want just that.

    (PHONE-002, PHONE-010, PHONE-011, PHONE-014, PHONE-015, PHONE-016, PHONE-017, PHONE-018,
    PHONE-019)
    """
    handset = Handset(Model("test 1", "b1"))
    for found in case["steps"]:
        handset, wants = step(handset, event_of(found["event"]))
        assert [want_of(want) for want in wants] == found["wants"], found["event"]


def test_every_event_and_stage_is_in_a_trace() -> None:
    """No kind of event, and no thing a phone does, is without a vector (PHONE-002)."""
    steps = [found for case in CASES for found in case["steps"]]
    assert {found["event"]["type"] for found in steps} == {
        "connected", "lost", "sleeps", "felt", "beat", "order", "began", "progressed", "ended",
        "handed_in", "hand_in_delayed",
    }  # fmt: skip
    wants = [want for found in steps for want in found["wants"]]
    assert {next(iter(want)) for want in wants} == {"say", "work", "hand_in", "halt", "drop"}
    assert set(Stage) == {"resting", "working", "handing in", "ended"}


def test_a_battery_drains_and_charges() -> None:
    """Faster at work, and never beyond its ends."""
    body = Body(50.0)
    assert body.after(3600, working=False, plugged=False).battery == 47.0
    assert body.after(3600, working=True, plugged=False).battery == 20.0
    assert body.after(3600, working=False, plugged=True).battery == 87.0
    assert body.after(36_000, working=True, plugged=False).battery == 0.0
    assert body.after(36_000, working=False, plugged=True).battery == 100.0


def test_a_case_gets_warm_and_cools() -> None:
    """Long work makes it serious; rest makes it nominal again."""
    body, words = Body(90.0), []
    for _ in range(60):
        body = body.after(60, working=True, plugged=True)
        if body.thermal not in words:
            words.append(body.thermal)
    assert words == ["nominal", "fair", "serious"]
    assert Body(90.0, warmth=0.99).thermal == "critical"
    assert body.after(3600, working=False, plugged=True).thermal == "nominal"


def test_a_reading_says_what_the_body_is() -> None:
    """Percent, charger, mode, warmth, and its own time of day (PHONE-025)."""
    body = Body(61.23, warmth=0.6, low_power=True).after(0, working=False, plugged=True)
    reading = body.reading(24 * 60 + 5.7)
    assert reading.model_dump() == {
        "battery": 61.2, "on_power": True, "low_power": True, "thermal": "fair", "local_minute": 5,
    }  # fmt: skip
