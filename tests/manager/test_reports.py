"""Reports are answered, and states tell what they said."""

from typing import Any

import pytest
from roost.wire.refusal import Refused

from .world import World


def test_reports_are_answered(world: World) -> None:
    """Recorded, or stale, however often they come (TASK-011, TASK-020)."""
    world.presence("p")
    world.launch("t", proplet="p")
    world.take()

    def stop(proplet: str, attempt: int, status: str) -> list[tuple[str, Any]]:
        world.report(proplet, "t", attempt, status)
        return [(topic, body["reason"]) for topic, body in world.bodies("/stop")]

    assert stop("p", 1, "running") == []
    assert stop("q", 1, "running") == [("proplets/q/tasks/t/stop", "stale")]
    assert stop("p", 2, "succeeded") == [("proplets/p/tasks/t/stop", "stale")]
    assert world.state("t")["state"] == "running"
    recorded = [("proplets/p/tasks/t/stop", "recorded")]
    assert stop("p", 1, "succeeded") == recorded
    assert stop("p", 1, "succeeded") == recorded
    assert stop("p", 1, "failed") == recorded
    assert stop("p", 1, "progress") == []
    assert stop("q", 1, "succeeded") == [("proplets/q/tasks/t/stop", "stale")]
    assert world.state("t")["state"] == "succeeded"


@pytest.mark.parametrize(("end", "reason"), [("cancel", "cancelled"), ("expire", "expired")])
def test_reports_after_an_end_that_the_manager_decided(world: World, end: str, reason: str) -> None:
    """News is answered with that end, the last news as recorded (TASK-020)."""
    world.presence("p")
    world.launch("t", proplet="p", deadline_s=10)
    if end == "cancel":
        world.receive("tasks/t/cancel")
    world.wait(10)
    world.take()
    world.report("p", "t", 1, "running")
    world.report("p", "t", 1, "failed")
    assert [body["reason"] for _, body in world.bodies("/stop")] == [reason, "recorded"]


def test_a_report_of_a_task_that_is_not(world: World) -> None:
    """It is stale, so its proplet stops repeating it (TASK-020, TASK-084)."""
    world.report("p", "t", 3, "succeeded")
    assert world.bodies("/stop") == [
        ("proplets/p/tasks/t/stop", {"v": 1, "attempt": 3, "reason": "stale"})
    ]


def test_progress_is_shown(world: World) -> None:
    """With the durations so far (TASK-021, TASK-022)."""
    world.presence("p")
    world.launch("t", proplet="p")
    world.report("p", "t", 1, "progress", progress={"step": 3}, usage={"wall_s": 1.5})
    world.wait(4)
    world.report("p", "t", 1, "progress")
    state = world.state("t")
    assert (state["state"], state["progress"], state["usage"]) == (
        "running", {"step": 3}, {"wall_s": 1.5},
    )  # fmt: skip
    assert state["durations"]["running_s"] == 4


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("proplets/p/tasks/t/report", b"{}"),
        ("proplets/p/presence", b"nonsense"),
        ("proplets/p/presence", {"proplet_id": "q", "status": "online", "boot_id": "b"}),
        ("proplets/p/telemetry", {"load": -1}),
    ],
)
def test_what_a_proplet_says_wrongly_is_refused(world: World, topic: str, body: Any) -> None:
    """Also a presence under another id (TASK-026)."""
    with pytest.raises(Refused):
        world.receive(topic, body)


def test_a_presence_that_was_cleared(world: World) -> None:
    """Nothing is known then (WIRE-009)."""
    world.receive("proplets/p/presence", b"")
    assert world.all("proplet") == {}
