"""One task on one phone: attempts, order of things, what the manager hears."""

import pytest
from roost.chassis.core import Connected, Decision, Disconnected, TimerFired
from roost.chassis.effects import Publish, SetTimer
from roost.ios_bridge.core.actions import backoff_s
from roost.ios_bridge.core.draft import TASK
from roost.ios_bridge.core.effects import Discard, Prepare, SendOutputs
from roost.ios_bridge.core.events import (
    OutputsDelayed,
    OutputsMissing,
    OutputsSent,
    Prepared,
    ResendArrived,
    Unprepared,
)
from roost.ios_bridge.core.lifecycle import TABLE
from roost.ios_bridge.core.states import Outcome, Phase
from roost.protocol.phone.messages import PhoneReportStatus
from roost.protocol.task.messages import FailureReason, StopReason

from .world import IMAGE, PLAIN, World, notes, reported, start, stop, told, world

RUNNING, PROGRESS = PhoneReportStatus.RUNNING, PhoneReportStatus.PROGRESS
PAUSED, SUCCEEDED, FAILED = (
    PhoneReportStatus.PAUSED, PhoneReportStatus.SUCCEEDED, PhoneReportStatus.FAILED,
)  # fmt: skip
REPORT = "/report"


def awake() -> World:
    """Return a bridge with one phone that is awake and on its charger."""
    made = world("phone")
    made.do(told(1.0))
    made.published.clear()
    return made


def in_phase(phase: Phase) -> World:
    """Return a bridge that holds ``t`` for the phone in a phase."""
    if phase is Phase.QUEUED:
        made = world("phone")
        made.do(start("t"))
        return made
    made = awake()
    if phase is Phase.STOPPED:
        made.do(stop("t"))
        return made
    made.do(start("t"))
    steps = [
        (Phase.READY, Prepared(2.0, "phone", "t", 1, IMAGE, ())),
        (Phase.RUNNING, reported("t", RUNNING)),
        (Phase.SENDING, reported("t", SUCCEEDED)),
        (Phase.ENDED, OutputsSent(4.0, "phone", "t", 1)),
        (Phase.RECORDED, stop("t", reason=StopReason.RECORDED)),
    ]
    for reached, event in steps:
        if made.phase("phone", "t") is phase:
            break
        made.do(event)
        assert made.phase("phone", "t") is reached
    assert made.phase("phone", "t") is phase
    made.published.clear()
    return made


def kinds(decision: Decision, kind: type) -> list[object]:
    """Return a decision's effects of one kind."""
    return [each for each in decision.effects if isinstance(each, kind)]


def test_a_task_from_start_to_record() -> None:
    """Accepted, prepared, ordered, run, handed in, published, recorded (PHONE-030, PHONE-032)."""
    made = awake()
    decision = made.do(start("t"))
    assert kinds(decision, Prepare) != []
    assert [each["status"] for each in made.said(REPORT)] == ["accepted"]
    made.do(Prepared(2.0, "phone", "t", 1, IMAGE, ()))
    order = made.order("phone")
    assert order["task"]["task_id"] == "t"
    assert order["task"]["outputs"] == ["f"]
    assert order["task"]["remaining_s"] == 59.0
    made.do(reported("t", RUNNING))
    made.do(reported("t", PROGRESS, progress={"step": 1}))
    assert [each["status"] for each in made.said(REPORT)] == ["running", "progress"]
    decision = made.do(reported("t", SUCCEEDED, exit_code=0, usage={"wall_s": 1.5}))
    assert kinds(decision, SendOutputs) != []
    assert "task" not in made.order("phone")
    assert made.said(REPORT) == []
    made.do(OutputsSent(4.0, "phone", "t", 1))
    (report,) = made.said(REPORT)
    assert (report["status"], report["exit_code"]) == ("succeeded", 0)
    assert report["usage"] == {"wall_s": 1.5}
    made.do(stop("t", reason=StopReason.RECORDED))
    assert made.phase("phone", "t") is Phase.RECORDED
    decision = made.do(TimerFired(61.0, "deadline/phone/t"))
    assert made.phase("phone", "t") is None
    assert kinds(decision, Discard) == [Discard("phone", "t", 2)]


def test_without_outputs_it_ends_at_once() -> None:
    """A task without outputs has nothing to publish before its end (PHONE-032)."""
    made = awake()
    made.run_until_ready("phone", "t", 1.0, PLAIN)
    made.do(reported("t", SUCCEEDED))
    assert made.phase("phone", "t") is Phase.ENDED


def test_a_failure_is_handed_on() -> None:
    """A guest that fails on the phone fails by the same name for the manager (PHONE-032)."""
    made = in_phase(Phase.RUNNING)
    made.do(reported("t", FAILED, message="boom", stderr_tail="why", exit_code=3))
    (report,) = made.said(REPORT)
    assert (report["reason"], report["message"]) == ("trap", "boom")
    assert (report["stderr_tail"], report["exit_code"]) == ("why", 3)


def test_what_cannot_be_prepared_fails() -> None:
    """An image that is not to be had fails the task before the phone hears of it (PHONE-031)."""
    made = in_phase(Phase.PREPARING)
    why = Outcome(FailureReason.IMAGE_UNAVAILABLE, "not there")
    made.do(Unprepared(2.0, "phone", "t", 1, why))
    (report,) = made.said(REPORT)
    assert report["reason"] == "image_unavailable"
    assert made.said("/order") == []


def test_a_pause_is_progress_and_no_end() -> None:
    """A phone that rests says so, and the task goes on later (PHONE-033)."""
    made = in_phase(Phase.RUNNING)
    made.do(reported("t", PAUSED, pause="low_battery"))
    assert made.said(REPORT)[-1]["progress"] == {"paused": "low_battery"}
    made.do(reported("t", PAUSED))
    assert made.said(REPORT)[-1]["progress"] == {"paused": "unknown"}
    assert made.phase("phone", "t") is Phase.RUNNING


def test_only_the_highest_attempt_counts() -> None:
    """News of an older attempt changes nothing; a newer start takes its place (PHONE-034)."""
    made = in_phase(Phase.RUNNING)
    decision = made.do(start("t", attempt=2))
    assert kinds(decision, Discard) == [Discard("phone", "t", 2)]
    assert made.phase("phone", "t") is Phase.PREPARING
    made.published.clear()
    for late in (reported("t", SUCCEEDED), stop("t"), start("t"),
                 OutputsSent(4.0, "phone", "t", 1)):  # fmt: skip
        before = made.get(TASK, "phone/t")
        assert ("event.ignored", "stale") in notes(made.do(late))
        assert made.get(TASK, "phone/t") == before
    assert made.said(REPORT) == []


def test_a_start_without_time_is_ignored() -> None:
    """A start with no time left runs nowhere and takes nobody's place (PHONE-030)."""
    made = awake()
    assert ("start.ignored", "expired") in notes(made.do(start("t", remaining_s=0.0)))
    assert made.phase("phone", "t") is None
    made = in_phase(Phase.RUNNING)
    made.do(start("t", attempt=2, remaining_s=0.0))
    assert made.phase("phone", "t") is Phase.RUNNING


def test_a_stop_before_its_start() -> None:
    """A tombstone keeps a start that was overtaken from running (PHONE-034)."""
    made = awake()
    made.do(stop("t", attempt=2))
    made.do(start("t", attempt=1))
    made.do(start("t", attempt=2))
    assert made.phase("phone", "t") is Phase.STOPPED
    made.do(start("t", attempt=3))
    assert made.phase("phone", "t") is Phase.PREPARING


@pytest.mark.parametrize("phase", [each for each in Phase if each is not Phase.STOPPED])
def test_a_stop_ends_it_in_every_phase(phase: Phase) -> None:
    """Whatever it does, a stop ends the attempt and its order (PHONE-034)."""
    made = in_phase(phase)
    made.do(stop("t"))
    assert made.phase("phone", "t") is Phase.STOPPED
    if phase in (Phase.READY, Phase.RUNNING):
        assert "task" not in made.order("phone")


@pytest.mark.parametrize("phase", [each for each in Phase if each is not Phase.STOPPED])
def test_the_same_start_is_answered(phase: Phase) -> None:
    """The manager asks again by starting again; it hears how the attempt stands (PHONE-034)."""
    made = in_phase(phase)
    made.published.clear()
    made.do(start("t"))
    answers = {
        Phase.QUEUED: "accepted", Phase.PREPARING: "accepted", Phase.READY: "accepted",
        Phase.RUNNING: "running", Phase.SENDING: "running", Phase.ENDED: "succeeded",
        Phase.RECORDED: "succeeded",
    }  # fmt: skip
    assert [each["status"] for each in made.said(REPORT)] == [answers[phase]]
    assert made.phase("phone", "t") is phase


@pytest.mark.parametrize("phase", list(Phase))
def test_the_deadline_ends_it_in_every_phase(phase: Phase) -> None:
    """At its deadline a task that has not ended fails; then it is forgotten (PHONE-035)."""
    made = in_phase(phase)
    made.published.clear()
    made.do(TimerFired(61.0, "deadline/phone/t"))
    assert made.phase("phone", "t") is None
    ended = phase in (Phase.ENDED, Phase.RECORDED, Phase.STOPPED)
    assert [each["reason"] for each in made.said(REPORT)] == ([] if ended else ["time_limit"])


def test_outputs_that_were_delayed_are_sent_again() -> None:
    """The bridge tries again by itself, and at once after a reconnect (PHONE-032)."""
    made = in_phase(Phase.SENDING)
    decision = made.do(OutputsDelayed(4.0, "phone", "t", 1))
    assert SetTimer("retry/phone/t", 6.0) in decision.effects
    decision = made.do(TimerFired(6.0, "retry/phone/t"))
    assert kinds(decision, SendOutputs) != []
    made.do(Disconnected(7.0))
    assert kinds(made.do(Connected(8.0, 2)), SendOutputs) != []


def test_outputs_that_are_refused_fail_the_task() -> None:
    """An output that the broker never takes is a failure by its own name (PHONE-032)."""
    made = in_phase(Phase.SENDING)
    why = Outcome(FailureReason.OUTPUT_TOO_LARGE, "large")
    made.do(OutputsSent(4.0, "phone", "t", 1, refused=why))
    assert made.said(REPORT)[-1]["reason"] == "output_too_large"


def test_an_output_that_is_missing_is_asked_for_again() -> None:
    """The order names the task again: the phone hands in once more (PHONE-042)."""
    made = in_phase(Phase.SENDING)
    made.do(OutputsMissing(4.0, "phone", "t", 1))
    assert made.phase("phone", "t") is Phase.RUNNING
    assert made.order("phone")["task"]["task_id"] == "t"


def test_the_end_is_repeated_until_it_is_recorded() -> None:
    """With backoff, and at once after a reconnect (PHONE-032)."""
    made = in_phase(Phase.ENDED)
    decision = made.do(TimerFired(6.0, "retry/phone/t"))
    assert SetTimer("retry/phone/t", 10.0) in decision.effects
    assert [each["status"] for each in made.said(REPORT)] == ["succeeded"]
    made.do(Disconnected(7.0))
    made.do(TimerFired(10.0, "retry/phone/t"))
    assert made.said(REPORT) == []
    made.do(Connected(11.0, 2))
    assert [each["status"] for each in made.said(REPORT)] == ["succeeded"]
    assert [backoff_s(tries) for tries in (1, 2, 3, 9, 99)] == [2, 4, 8, 60, 60]


def test_resend_of_what_succeeded_and_of_what_did_not() -> None:
    """Kept outputs are published again; a failure has none (PHONE-032)."""
    made = in_phase(Phase.RECORDED)
    resend = ResendArrived(9.0, "phone", "t")
    assert kinds(made.do(resend), SendOutputs) != []
    made.do(OutputsSent(9.5, "phone", "t", 1))
    assert made.phase("phone", "t") is Phase.RECORDED
    made = in_phase(Phase.RUNNING)
    made.do(reported("t", FAILED))
    assert kinds(made.do(resend), SendOutputs) == []


def test_news_of_a_task_that_nobody_holds() -> None:
    """It is counted and changes nothing (PHONE-034)."""
    made = awake()
    assert ("event.ignored", "resend") in notes(made.do(ResendArrived(2.0, "phone", "x")))
    late = Prepared(2.0, "phone", "x", 0, IMAGE, ())
    assert ("event.ignored", "prepared") in notes(made.do(late))
    assert made.all(TASK) == {}


def test_no_row_of_the_table_leads_nowhere() -> None:
    """Every phase can be left by its deadline (PHONE-035)."""
    assert {phase for phase, what in TABLE if what == "deadline"} == set(Phase)


def test_reports_say_who_holds_the_task() -> None:
    """The boot id of reports and presence is the bridge's, not the phone's (PHONE-036)."""
    made = awake()
    made.do(start("t"))
    assert made.said(REPORT)[0]["boot_id"] == "boot"
    assert made.said("/presence")[-1]["boot_id"] == "boot"
    assert not [each for each in made.published if isinstance(each, Publish) and each.durable]
