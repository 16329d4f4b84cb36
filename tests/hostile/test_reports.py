"""Reports that lie: of other proplets, other attempts, other processes, before their time."""

import json
from typing import Any

import pytest
from roost.protocol.task.messages import TaskStatus

from ..manager.world import World, make_world  # noqa: TID252 - the tests are no package


@pytest.fixture
def world() -> World:
    """Return a manager with one task that was sent to p1, its first attempt."""
    world = make_world()
    world.presence("p1")
    world.presence("p2")
    world.launch("t", proplet="p1")
    world.take()
    return world


def report(world: World, proplet: str, **changed: Any) -> list[tuple[str, Any]]:
    """Let a report come; return the stops that answer it: proplet and reason."""
    body = {"attempt": 1, "boot_id": "b1", "status": "succeeded", **changed}
    world.receive(f"proplets/{proplet}/tasks/t/report", body)
    return [(topic.split("/")[1], said["reason"]) for topic, said in world.bodies("/stop")]


@pytest.mark.parametrize("status", ["accepted", "running", "progress", "succeeded", "failed"])
def test_another_proplets_report_changes_nothing(world: World, status: str) -> None:
    """It is told to stop what it never had (TASK-011, TASK-020)."""
    before = world.state("t")
    assert report(world, "p2", status=status) == [("p2", "stale")]
    assert world.state("t") == before


@pytest.mark.parametrize("attempt", [2, 7, 2**53 - 1])
def test_an_attempt_that_was_never_given_changes_nothing(world: World, attempt: int) -> None:
    """However large its number (TASK-011, TASK-020, WIRE-061)."""
    before = world.state("t")
    assert report(world, "p1", attempt=attempt) == [("p1", "stale")]
    assert world.state("t") == before


def test_a_final_report_before_accepted_counts(world: World) -> None:
    """The first ones may be lost or late; the attempt is the present one (TASK-010, TASK-011)."""
    assert report(world, "p1") == [("p1", "recorded")]
    assert world.state("t")["state"] == "succeeded"
    assert report(world, "p1", status="accepted") == []
    assert report(world, "p1", status="failed", reason="trap") == [("p1", "recorded")]
    assert world.state("t")["state"] == "succeeded", "a final state is never left"


def test_a_report_of_an_earlier_process_counts_by_its_attempt(world: World) -> None:
    """The proplet and the attempt tell, not the process (TASK-011, TASK-027)."""
    report(world, "p1", boot_id="an-earlier-one", status="running")
    assert world.state("t")["state"] == "running"


def test_reports_of_tasks_that_nobody_launched_make_none(world: World) -> None:
    """Each is answered, nothing is kept (TASK-020)."""
    body = json.dumps({"attempt": 1, "boot_id": "b1", "status": "running"}).encode()
    for n in range(100):
        world.receive(f"proplets/p2/tasks/x{n}/report", body)
    assert len(world.bodies("/stop")) == 100
    assert set(world.all("task")) == {"t"}
    assert not world.all("ended")


def test_what_a_final_report_says_is_bounded() -> None:
    """Megabytes of words would be on a retained topic for a week (WIRE-020)."""
    world = make_world()
    world.presence("p1")
    world.launch("t", proplet="p1")
    body = {"attempt": 1, "boot_id": "b1", "status": "failed", "message": "x" * 4097}
    with pytest.raises(Exception, match="malformed"):
        world.receive("proplets/p1/tasks/t/report", body)
    assert not TaskStatus(world.state("t")["state"]).final
