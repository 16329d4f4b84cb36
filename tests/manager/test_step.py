"""One task's machine: every state against every event."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from pydantic import TypeAdapter
from roost.manager.core.lifecycle import advance
from roost.manager.core.step import (
    MAX_ATTEMPTS,
    MISSING_GRACE_S,
    START_BACKOFF_S,
    classify,
    start_backoff,
    step,
)
from roost.manager.core.task import (
    TRANSITIONS,
    Assigned,
    CancelAsked,
    DeadlinePassed,
    LeaseKept,
    Listed,
    Lost,
    Reported,
    StartDue,
    Task,
    TaskEvent,
    Trigger,
    new_task,
    slim,
)
from roost.protocol.task.messages import Launch, Report, ReportStatus, TaskRequest, TaskStatus

from .world import IMAGE

AT = 1000.0
REQUEST = TaskRequest(task_id="t", image=IMAGE, proplet="p", deadline_s=100.0, env={"A": "b"})
MOVABLE = TaskRequest(task_id="t", image=IMAGE, deadline_s=100.0)


def report(status: str, attempt: int = 1, **more: Any) -> Report:
    """Return a report."""
    return Report(attempt=attempt, boot_id="b", status=ReportStatus(status), **more)


def at_state(status: TaskStatus, request: TaskRequest = REQUEST) -> Task:
    """Return a task that came to this state in the ordinary way."""
    task = new_task(request, None, AT)
    ways: dict[TaskStatus, list[TaskEvent]] = {
        TaskStatus.QUEUED: [],
        TaskStatus.DISPATCHED: [Assigned(AT, "p")],
        TaskStatus.RUNNING: [Assigned(AT, "p"), Reported(AT, "p", report("running"))],
        TaskStatus.SUCCEEDED: [Assigned(AT, "p"), Reported(AT, "p", report("succeeded"))],
        TaskStatus.FAILED: [Assigned(AT, "p"), Reported(AT, "p", report("failed"))],
        TaskStatus.CANCELLED: [Assigned(AT, "p"), CancelAsked(AT, "why")],
        TaskStatus.EXPIRED: [Assigned(AT, "p"), DeadlinePassed(AT + 100)],
    }
    for event in ways[status]:
        task = step(task, event).task
    assert task.status is status
    return task


def events(at: float) -> Iterator[TaskEvent]:
    """Yield one of everything that can happen."""
    yield Assigned(at, "p")
    yield StartDue(at)
    for status, proplet, attempt in product(ReportStatus, ("p", "q"), (1, 2)):
        yield Reported(at, proplet, report(status.value, attempt))
    for proplet, held in product(("p", "q"), (None, 1, 2)):
        yield Listed(at, proplet, held)
    yield LeaseKept(at, at + 30)
    yield Lost(at, "gone")
    yield CancelAsked(at, "why")
    yield DeadlinePassed(at)


@pytest.mark.parametrize("status", list(TaskStatus))
def test_nothing_happens_that_the_table_does_not_say(status: TaskStatus) -> None:
    """The table decides: a row moves to its target, no row changes nothing at all (TASK-010)."""
    table = {(row.source, row.trigger): row.target for row in TRANSITIONS}
    assert len(table) == len(TRANSITIONS)
    task = at_state(status)
    for event in events(AT + 1):
        result = step(task, event)
        target = table.get((status, classify(task, event)))
        assert result.moved == (target is not None)
        assert result.task.status is (target or status)
        if target is None:
            assert result.task is task
            assert advance(task, event)[0] is task


def lost_often(status: TaskStatus) -> Task:
    """Return a task in this state that is on its last attempt, or was."""
    task = at_state(TaskStatus.QUEUED)
    for _ in range(MAX_ATTEMPTS - 1):
        task = step(step(task, Assigned(AT, "p")).task, Lost(AT, "x")).task
    if status is not TaskStatus.QUEUED:
        task = step(task, Assigned(AT, "p")).task
    if status is TaskStatus.RUNNING:
        task = step(task, Reported(AT, "p", report("running", task.attempt))).task
    return task


def test_every_row_can_happen() -> None:
    """No row of the table, and so no arrow of the diagram, is only decoration (TASK-010)."""
    going = [status for status in TaskStatus if not status.final]
    tasks = [at_state(status) for status in going] + [lost_often(status) for status in going]
    tasks += [
        step(task, Reported(AT, "p", report("accepted", task.attempt))).task
        for task in tasks
        if task.status is TaskStatus.DISPATCHED
    ]
    steps = [(task.status, step(task, event)) for task in tasks for event in events(AT + 1)]
    seen = {(status, result.trigger) for status, result in steps if result.moved}
    assert seen == {(row.source, row.trigger) for row in TRANSITIONS}


def test_ended_states_have_no_way_out() -> None:
    """A final state is never left (TASK-010)."""
    assert not any(row.source.final for row in TRANSITIONS)


def test_deadline_counts_from_receipt() -> None:
    """Of the launching message (TASK-002)."""
    task = at_state(TaskStatus.QUEUED)
    assert task.deadline_at == AT + 100
    assert task.wake_at == AT + 100


def test_times_are_booked_by_state() -> None:
    """Each second in one state (TASK-022)."""
    task = new_task(REQUEST, None, AT)
    task = step(task, Assigned(AT + 1, "p")).task
    task = step(task, Reported(AT + 3, "p", report("accepted"))).task
    task = step(task, Reported(AT + 4, "p", report("running"))).task
    task = step(task, Reported(AT + 9, "p", report("succeeded"))).task
    assert (task.queued_s, task.dispatched_s, task.running_s) == (1, 3, 5)
    assert task.since == AT + 9


def test_a_clock_that_goes_back_books_nothing() -> None:
    """Durations are never negative (TASK-022)."""
    task = step(new_task(REQUEST, None, AT), Assigned(AT - 50, "p")).task
    assert task.queued_s == 0


def test_start_is_repeated_with_backoff_until_accepted() -> None:
    """2, 4, 8, 16, then every 30 s (TASK-012)."""
    task = at_state(TaskStatus.DISPATCHED)
    waits = []
    at = AT
    for _ in range(7):
        assert task.start_at is not None
        waits.append(task.start_at - at)
        at = task.start_at
        task = step(task, StartDue(at)).task
    assert tuple(waits) == (*START_BACKOFF_S, START_BACKOFF_S[-1], START_BACKOFF_S[-1])
    task = step(task, Reported(at, "p", report("accepted"))).task
    assert task.start_at is None
    assert step(task, StartDue(at)).trigger is Trigger.STALE
    assert start_backoff(100) == START_BACKOFF_S[-1]


def test_absence_counts_after_accepted_only() -> None:
    """And after 5 s without better news (TASK-013)."""
    task = at_state(TaskStatus.DISPATCHED)
    assert step(task, Listed(AT, "p", None)).trigger is Trigger.STALE
    task = step(task, Reported(AT, "p", report("accepted"))).task
    missing = step(task, Listed(AT + 1, "p", None)).task
    assert missing.missing_at == AT + 1 + MISSING_GRACE_S
    again = step(missing, Listed(AT + 3, "p", None)).task
    assert again.missing_at == missing.missing_at
    assert step(again, Listed(AT + 4, "p", 1)).task.missing_at is None
    assert step(again, Reported(AT + 4, "p", report("progress"))).task.missing_at is None
    assert step(task, Listed(AT, "q", None)).trigger is Trigger.STALE


def test_lost_is_a_new_attempt_until_it_was_too_often() -> None:
    """Five attempts (TASK-011, TASK-016)."""
    task = at_state(TaskStatus.QUEUED)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        task = step(task, Assigned(AT, "p")).task
        assert (task.attempt, task.accepted) == (attempt, False)
        result = step(task, Lost(AT, "gone"))
        task = result.task
    assert result.trigger is Trigger.GIVEN_UP
    assert (task.status, task.reason) == (TaskStatus.FAILED, "lost")
    assert task.message == f"gone; that was attempt {MAX_ATTEMPTS} of {MAX_ATTEMPTS}"


def test_a_new_attempt_forgets_the_old_ones_news() -> None:
    """Progress and usage belong to an attempt (TASK-011)."""
    task = at_state(TaskStatus.RUNNING)
    task = step(task, Reported(AT, "p", report("progress", progress={"x": 1}))).task
    task = step(step(task, Lost(AT, "gone")).task, Assigned(AT, "p")).task
    assert (task.progress, task.usage, task.message, task.accepted) == (None, None, None, False)


def test_only_a_task_that_may_move_has_a_lease() -> None:
    """A pinned one waits (TASK-014, TASK-015)."""
    assert at_state(TaskStatus.DISPATCHED).lease_at is None
    assert at_state(TaskStatus.DISPATCHED, MOVABLE).lease_at == AT + 30


def test_a_failure_tells_all() -> None:
    """Reason, exit code, end of stderr, message and usage are kept (TASK-021)."""
    task = at_state(TaskStatus.RUNNING)
    said = Report.decode(
        b'{"attempt":1,"boot_id":"b","status":"failed","reason":"exit_code","exit_code":3,'
        b'"stderr_tail":"boom","message":"m","usage":{"wall_s":1.0}}'
    )
    task = step(task, Reported(AT, "p", said)).task
    assert (task.reason, task.exit_code, task.stderr_tail, task.message) == (
        "exit_code", 3, "boom", "m",
    )  # fmt: skip
    assert task.usage is not None
    assert task.usage.wall_s == 1.0


def test_a_failure_without_a_reason_is_internal() -> None:
    """Every failure has a name."""
    assert at_state(TaskStatus.FAILED).reason == "internal"
    assert at_state(TaskStatus.SUCCEEDED).reason is None


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ([], "not started within 100 s: no proplet could take it"),
        ([Assigned(AT, "p"), Lost(AT, "gone")], "not started within 100 s: gone"),
        ([Assigned(AT, "p")], "proplet 'p' did not accept it within 100 s"),
        ([Assigned(AT, "p"), Reported(AT, "p", report("accepted"))],
         "not finished within 100 s on proplet 'p'"),
        ([Assigned(AT, "p"), Reported(AT, "p", report("running"))],
         "not finished within 100 s on proplet 'p'"),
    ],
)  # fmt: skip
def test_an_expired_task_says_what_it_waited_for(way: list[TaskEvent], why: str) -> None:
    """Nobody has to guess which wait it was (TASK-017)."""
    task = new_task(REQUEST, None, AT)
    for event in (*way, DeadlinePassed(AT + 100)):
        task = step(task, event).task
    assert (task.status, task.reason, task.message) == (TaskStatus.EXPIRED, "expired", why)


@pytest.mark.parametrize("status", list(TaskStatus))
def test_states_survive_the_store(status: TaskStatus) -> None:
    """What is written as JSON is read as the same."""
    adapter = TypeAdapter(Task)
    task = step(at_state(status), Reported(AT, "p", report("progress", progress={"a": [1]}))).task
    launch = Launch(topic="a/b", sha256="0" * 64, key="k")
    for each in (task, slim(task), new_task(REQUEST, launch, AT)):
        assert adapter.validate_json(adapter.dump_json(each)) == each


def test_wake_at_is_the_first_of_what_is_due() -> None:
    """One timer serves all of a task's waits."""
    task = at_state(TaskStatus.DISPATCHED, MOVABLE)
    assert task.wake_at == AT + START_BACKOFF_S[0]
    task = step(task, Reported(AT, "p", report("accepted"))).task
    assert task.wake_at == AT + 30
    task = step(task, Listed(AT, "p", None)).task
    assert task.wake_at == AT + MISSING_GRACE_S
    assert at_state(TaskStatus.FAILED).wake_at is None
