"""One task's table of transitions, entry by entry, and what it leaves alone."""

import json
from dataclasses import replace
from typing import Any

import pytest
from roost.chassis.effects import ClearTimer, Note, Publish, SetTimer
from roost.proplet.core.effects import Discard, Execute, SendOutputs, StopGuest
from roost.proplet.core.events import (
    GuestEnded,
    GuestProgressed,
    GuestStarted,
    OutputsDelayed,
    OutputsSent,
    ResendArrived,
    StartArrived,
    StopArrived,
)
from roost.proplet.core.happenings import DeadlinePassed, Happening, RetryDue, SlotFreed, classify
from roost.proplet.core.lifecycle import TABLE, TOMBSTONE_S, Step, backoff_s, step
from roost.proplet.core.states import Held, Identity, Outcome, Phase
from roost.protocol.task.messages import FailureReason, StopReason, TaskOutput, TaskSpec, Usage

ME = Identity("p1", "boot")
PLAIN = TaskSpec(image="blob:a/" + "0" * 64)
SPEC = PLAIN.model_copy(update={"outputs": (TaskOutput(file="f", topic="to"),)})
DONE = Outcome(None, exit_code=0, usage=Usage(wall_s=1.0))
BROKEN = Outcome(FailureReason.TRAP, "it trapped", stderr_tail="oh")
AT, DEADLINE = 100.0, 160.0
TASK = "t:1"


def start(attempt: int = 2, remaining_s: float = 60.0, spec: TaskSpec = SPEC) -> StartArrived:
    """Return a start order."""
    return StartArrived(AT, TASK, attempt, remaining_s, spec)


def stop(attempt: int = 2, reason: StopReason = StopReason.CANCELLED) -> StopArrived:
    """Return a stop order."""
    return StopArrived(AT, TASK, attempt, reason)


RECORDED = stop(reason=StopReason.RECORDED)


def held(phase: Phase, **more: Any) -> Held:
    """Return attempt 2 of the task in a phase."""
    outcome = DONE if phase in (Phase.SENDING, Phase.ENDED, Phase.RECORDED) else None
    spec = None if phase is Phase.STOPPED else SPEC
    return replace(Held(TASK, 2, phase, DEADLINE, spec, outcome), **more)


def told(made: Step) -> list[dict[str, Any]]:
    """Return the reports of a step."""
    reports = [effect for effect in made.effects if isinstance(effect, Publish)]
    assert all(report.topic == f"proplets/p1/tasks/{TASK}/report" for report in reports)
    assert not any(report.durable or report.retain for report in reports)
    found = [json.loads(report.payload) for report in reports]
    assert all(report["boot_id"] == "boot" for report in found)
    return found


def done(made: Step) -> list[Any]:
    """Return the effects of a step that are neither reports nor notes."""
    return [effect for effect in made.effects if not isinstance(effect, (Publish, Note))]


def reasons(made: Step) -> list[str | None]:
    """Return the reasons of a step's notes."""
    return [effect.reason for effect in made.effects if isinstance(effect, Note)]


def test_a_start_is_accepted() -> None:
    """It is queued until its deadline, counted from its receipt (TASK-033, TASK-034)."""
    made = step(None, start(), ME)
    assert made.held == Held(TASK, 2, Phase.QUEUED, DEADLINE, SPEC)
    assert done(made) == [SetTimer(f"deadline/{TASK}", DEADLINE)]
    assert told(made) == [{"v": 1, "attempt": 2, "boot_id": "boot", "status": "accepted"}]


def test_a_start_without_time_is_not_accepted() -> None:
    """Nothing could come of it (TASK-033)."""
    made = step(None, start(remaining_s=0.0), ME)
    assert made.held is None
    assert reasons(made) == ["expired"]
    assert done(made) == told(made) == []


def test_a_start_without_time_replaces_nothing() -> None:
    """The attempt that runs goes on."""
    running = held(Phase.RUNNING)
    assert step(running, start(3, 0.0), ME).held == running


def test_a_stop_before_its_start_leaves_a_tombstone() -> None:
    """The start that it overtook is not run; a later attempt is (TASK-032)."""
    made = step(None, stop(), ME)
    assert made.held == Held(TASK, 2, Phase.STOPPED, AT + TOMBSTONE_S)
    assert done(made) == [SetTimer(f"deadline/{TASK}", AT + TOMBSTONE_S)]
    late = step(made.held, start(), ME)
    assert late.held == made.held
    assert done(late) == told(late) == []
    newer = step(made.held, start(3), ME)
    assert newer.held == Held(TASK, 3, Phase.QUEUED, DEADLINE, SPEC)


@pytest.mark.parametrize(
    "event", [RECORDED, ResendArrived(AT, TASK), DeadlinePassed(AT, TASK), RetryDue(AT, TASK),
              GuestEnded(AT, TASK, 1, DONE)],
)  # fmt: skip
def test_other_news_of_an_unknown_task_are_ignored(event: Any) -> None:
    """They are late."""
    made = step(None, event, ME)
    assert made.held is None
    assert done(made) == told(made) == []
    assert len(reasons(made)) == 1


def test_a_slot_begins_the_run() -> None:
    """The run knows when its time is over."""
    made = step(held(Phase.QUEUED), SlotFreed(AT, TASK), ME)
    assert made.held == held(Phase.RUNNING)
    assert made.effects == (Execute(TASK, 2, SPEC, DEADLINE),)


@pytest.mark.parametrize(
    ("event", "status", "progress"),
    [
        (GuestStarted(AT, TASK, 2), "running", None),
        (GuestProgressed(AT, TASK, 2, {"a": 1}), "progress", {"a": 1}),
    ],
)
def test_a_running_guest_is_reported(event: Any, status: str, progress: Any) -> None:
    """Reports of its start and progress change nothing here (TASK-034)."""
    made = step(held(Phase.RUNNING), event, ME)
    assert made.held == held(Phase.RUNNING)
    assert [report["status"] for report in told(made)] == [status]
    assert told(made)[0].get("progress") == progress


def test_a_success_with_outputs_sends_them() -> None:
    """The final report waits for them (TASK-035)."""
    made = step(held(Phase.RUNNING), GuestEnded(AT, TASK, 2, DONE), ME)
    assert made.held == held(Phase.SENDING)
    assert made.effects == (SendOutputs(TASK, 2, SPEC, DEADLINE),)


def test_a_success_without_outputs_is_reported() -> None:
    """There is nothing to wait for."""
    made = step(held(Phase.RUNNING, spec=PLAIN), GuestEnded(AT, TASK, 2, DONE), ME)
    assert made.held == held(Phase.ENDED, spec=PLAIN, tries=1)
    assert done(made) == [SetTimer(f"retry/{TASK}", AT + 2)]
    assert told(made) == [
        {"v": 1, "attempt": 2, "boot_id": "boot", "status": "succeeded", "exit_code": 0,
         "usage": {"wall_s": 1.0}}
    ]  # fmt: skip


def test_a_failure_is_reported() -> None:
    """With its reason, its message, its tail of stderr; its outputs are not sent."""
    made = step(held(Phase.RUNNING), GuestEnded(AT, TASK, 2, BROKEN), ME)
    assert made.held == held(Phase.ENDED, outcome=BROKEN, tries=1)
    assert done(made) == [SetTimer(f"retry/{TASK}", AT + 2)]
    assert told(made) == [
        {"v": 1, "attempt": 2, "boot_id": "boot", "status": "failed", "reason": "trap",
         "message": "it trapped", "stderr_tail": "oh"}
    ]  # fmt: skip
    assert reasons(made) == ["trap"]


def test_long_texts_are_cut() -> None:
    """The head of a message, the tail of stderr: both fit the report."""
    outcome = Outcome(FailureReason.INTERNAL, "m" * 5000, stderr_tail="a" * 5000 + "z")
    report = told(step(held(Phase.RUNNING), GuestEnded(AT, TASK, 2, outcome), ME))[0]
    assert len(report["message"]) == len(report["stderr_tail"]) == 4096
    assert report["stderr_tail"].endswith("z")


def test_sent_outputs_end_the_attempt() -> None:
    """Only now is success reported."""
    made = step(held(Phase.SENDING), OutputsSent(AT, TASK, 2), ME)
    assert made.held == held(Phase.ENDED, tries=1)
    assert told(made)[0]["status"] == "succeeded"


def test_refused_outputs_fail_the_attempt() -> None:
    """The guest's exit code and usage stay in the report."""
    refused = Outcome(FailureReason.OUTPUT_TOO_LARGE, "too large")
    made = step(held(Phase.SENDING), OutputsSent(AT, TASK, 2, refused), ME)
    report = told(made)[0]
    assert (report["status"], report["reason"]) == ("failed", "output_too_large")
    assert (report["exit_code"], report["message"]) == (0, "too large")


def test_delayed_outputs_are_tried_again() -> None:
    """With backoff, until they are sent (TASK-035)."""
    made = step(held(Phase.SENDING), OutputsDelayed(AT, TASK, 2), ME)
    assert made.held == held(Phase.SENDING, tries=1)
    assert made.effects == (SetTimer(f"retry/{TASK}", AT + 2),)
    again = step(made.held, RetryDue(AT, TASK), ME)
    assert again.effects == (SendOutputs(TASK, 2, SPEC, DEADLINE),)


def test_the_final_report_is_repeated() -> None:
    """With backoff, until it is recorded (TASK-036)."""
    made = step(held(Phase.ENDED, tries=1), RetryDue(AT, TASK), ME)
    assert made.held == held(Phase.ENDED, tries=2)
    assert done(made) == [SetTimer(f"retry/{TASK}", AT + 4)]
    assert told(made)[0]["status"] == "succeeded"
    recorded = step(made.held, RECORDED, ME)
    assert recorded.held == held(Phase.RECORDED, tries=2)
    assert recorded.effects == (ClearTimer(f"retry/{TASK}"),)


def test_the_backoff_is_bounded() -> None:
    """2, 4, 8 … 60 seconds, also after a thousand tries (TASK-036)."""
    assert [backoff_s(tries) for tries in (1, 2, 3, 5, 6, 1000)] == [2, 4, 8, 32, 60, 60]


@pytest.mark.parametrize("phase", [Phase.ENDED, Phase.RECORDED])
def test_outputs_are_sent_again(phase: Phase) -> None:
    """As long as they are kept; those of a failure are not (TASK-037)."""
    made = step(held(phase), ResendArrived(AT, TASK), ME)
    assert made == Step(held(phase), (SendOutputs(TASK, 2, SPEC, DEADLINE),))
    failed = step(held(phase, outcome=BROKEN), ResendArrived(AT, TASK), ME)
    assert done(failed) == told(failed) == []


@pytest.mark.parametrize(
    ("phase", "status"),
    [
        (Phase.QUEUED, "accepted"),
        (Phase.RUNNING, "running"),
        (Phase.SENDING, "running"),
        (Phase.ENDED, "succeeded"),
        (Phase.RECORDED, "succeeded"),
    ],
)
def test_a_duplicate_start_is_answered(phase: Phase, status: str) -> None:
    """It changes nothing, and asks how the attempt stands (TASK-031)."""
    made = step(held(phase), start(), ME)
    assert made.held == held(phase)
    assert done(made) == []
    assert [report["status"] for report in told(made)] == [status]


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize(
    "event",
    [start(1), stop(1), stop(1, StopReason.RECORDED), GuestStarted(AT, TASK, 1),
     GuestProgressed(AT, TASK, 1, {}), GuestEnded(AT, TASK, 1, DONE), OutputsSent(AT, TASK, 1),
     OutputsDelayed(AT, TASK, 1), GuestEnded(AT, TASK, 3, DONE)],
)  # fmt: skip
def test_other_attempts_are_stale(phase: Phase, event: Any) -> None:
    """Whatever comes of them changes nothing, and is counted (TASK-031)."""
    made = step(held(phase), event, ME)
    assert made.held == held(phase)
    assert reasons(made) == ["stale"]
    assert done(made) == told(made) == []


@pytest.mark.parametrize("phase", Phase)
def test_a_newer_attempt_replaces(phase: Phase) -> None:
    """The old one is stopped and its files go, but never those of the new one (TASK-031)."""
    made = step(held(phase), start(3), ME)
    assert made.held == Held(TASK, 3, Phase.QUEUED, DEADLINE, SPEC)
    cleared = [Discard(TASK, 3), ClearTimer(f"retry/{TASK}")]
    stopped = [StopGuest(TASK, 2)] if phase is Phase.RUNNING else []
    known = [] if phase is Phase.STOPPED else [*stopped, *cleared]
    assert done(made) == [*known, SetTimer(f"deadline/{TASK}", DEADLINE)]
    assert [report["status"] for report in told(made)] == ["accepted"]


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("attempt", [2, 5])
def test_a_stop_ends_it(phase: Phase, attempt: int) -> None:
    """Its guest is killed, its files go, a tombstone stays; nothing is reported (TASK-032)."""
    made = step(held(phase), stop(attempt), ME)
    until = AT + TOMBSTONE_S
    assert made.held == Held(TASK, attempt, Phase.STOPPED, until)
    cleared = [Discard(TASK, attempt + 1), ClearTimer(f"retry/{TASK}")]
    stopped = [StopGuest(TASK, 2)] if phase is Phase.RUNNING else []
    known = [] if phase is Phase.STOPPED else [*stopped, *cleared]
    assert done(made) == [*known, SetTimer(f"deadline/{TASK}", until)]
    assert told(made) == []


@pytest.mark.parametrize("first", [None, held(Phase.RUNNING)])
def test_a_stop_is_logged_once(first: Held | None) -> None:
    """However often it is said; that of a later attempt is news."""
    once = step(first, stop(), ME)
    again = step(once.held, stop(), ME)
    later = step(again.held, stop(3), ME)
    assert [len(reasons(made)) for made in (once, again, later)] == [1, 0, 1]


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.RUNNING, Phase.SENDING])
def test_recorded_without_an_end_is_a_stop(phase: Phase) -> None:
    """The manager knows an end that this proplet does not: it waits for nothing more."""
    made = step(held(phase), RECORDED, ME)
    assert made.held is not None
    assert made.held.phase is Phase.STOPPED


def test_a_tombstone_outlives_the_deadline() -> None:
    """A start may be on its way until then."""
    made = step(held(Phase.RUNNING, deadline=1e9), stop(), ME)
    assert made.held is not None
    assert made.held.deadline == 1e9


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.RUNNING, Phase.SENDING])
def test_the_deadline_ends_what_goes_on(phase: Phase) -> None:
    """It is reported once, stopped, cleared away and forgotten (TASK-033)."""
    made = step(held(phase), DeadlinePassed(AT, TASK), ME)
    assert made.held is None
    assert told(made)[0]["reason"] == "time_limit"
    stopped = [StopGuest(TASK, 2)] if phase is Phase.RUNNING else []
    assert done(made) == [*stopped, Discard(TASK, 3), ClearTimer(f"retry/{TASK}")]


@pytest.mark.parametrize(
    ("phase", "reason"),
    [
        (Phase.ENDED, "never_recorded"),
        (Phase.RECORDED, "deadline"),
        (Phase.STOPPED, "deadline"),
    ],
)
def test_the_deadline_forgets_what_is_over(phase: Phase, reason: str) -> None:
    """Nothing grows for ever (TASK-033)."""
    made = step(held(phase), DeadlinePassed(AT, TASK), ME)
    assert made.held is None
    cleared = [Discard(TASK, 3), ClearTimer(f"retry/{TASK}")]
    assert done(made) == ([] if phase is Phase.STOPPED else cleared)
    assert reasons(made) == [reason]


EVENTS: list[Any] = [
    start(3), start(2), stop(), RECORDED, ResendArrived(AT, TASK), SlotFreed(AT, TASK),
    GuestStarted(AT, TASK, 2), GuestProgressed(AT, TASK, 2, {}), GuestEnded(AT, TASK, 2, DONE),
    GuestEnded(AT, TASK, 2, BROKEN), OutputsSent(AT, TASK, 2), OutputsSent(AT, TASK, 2, BROKEN),
    OutputsDelayed(AT, TASK, 2), RetryDue(AT, TASK), DeadlinePassed(AT, TASK), start(1),
]  # fmt: skip


@pytest.mark.parametrize("phase", Phase)
def test_what_is_not_in_the_table_changes_nothing(phase: Phase) -> None:
    """Every event in every phase is either in the table or ignored and counted (TASK-030)."""
    seen = {classify(held(phase), event) for event in EVENTS}
    assert seen == set(Happening)
    for event in EVENTS:
        if (phase, classify(held(phase), event)) not in TABLE:
            made = step(held(phase), event, ME)
            assert made.held == held(phase)
            assert len(made.effects) == len(reasons(made)) == 1
