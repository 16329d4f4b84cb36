"""Whatever happens in whatever order, these stay true."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from roost.chassis.core import Connected, Disconnected, TimerFired
from roost.ios_bridge.core.draft import LINK, TASK
from roost.ios_bridge.core.effects import SERVICE_EFFECTS
from roost.ios_bridge.core.events import (
    OutputsDelayed,
    OutputsMissing,
    OutputsSent,
    PhoneSlept,
    Prepared,
    ReadingCame,
    ResendArrived,
    Tick,
    Unprepared,
)
from roost.ios_bridge.core.states import Outcome, Phase
from roost.protocol.phone.messages import PhoneReportStatus, Reading
from roost.protocol.task.messages import FailureReason, StopReason

from .world import IMAGE, SPEC, World, reported, start, stop, told, world

DEVICES, TASKS = ("a", "b"), ("t1", "t2")
DEVICE, TASK_ID, ATTEMPT = st.sampled_from(DEVICES), st.sampled_from(TASKS), st.integers(1, 3)
READING = st.builds(
    Reading,
    battery=st.none() | st.sampled_from([10.0, 22.0, 40.0, 90.0]),
    on_power=st.none() | st.booleans(),
    thermal=st.none() | st.sampled_from(["nominal", "serious"]),
)
BAD = Outcome(FailureReason.IMAGE_UNAVAILABLE, "gone")
LARGE = Outcome(FailureReason.OUTPUT_TOO_LARGE, "large")

Happens = Callable[[float], Any]


@st.composite
def happenings(draw: st.DrawFn) -> Happens:
    """Return what happens next, given its time; weighted towards work that gets on."""
    device, task, attempt = draw(DEVICE), draw(TASK_ID), draw(ATTEMPT)
    who = (device, task, attempt)
    status = draw(st.sampled_from(list(PhoneReportStatus)))
    reason = draw(st.sampled_from(list(StopReason)))
    reading = draw(READING)
    choices: list[Happens] = [
        lambda at: start(task, attempt, device, at),
        lambda at: start(task, 1, device, at),
        lambda at: stop(task, attempt, device, at, reason),
        lambda at: told(at, device, reading),
        lambda at: told(at, device),
        lambda at: told(at, device, order_id="boot-1"),
        lambda at: Prepared(at, *who, IMAGE, ()),
        lambda at: Prepared(at, device, task, 1, IMAGE, ()),
        lambda at: Unprepared(at, *who, BAD),
        lambda at: reported(task, status, attempt, at, device),
        lambda at: reported(task, PhoneReportStatus.RUNNING, 1, at, device),
        lambda at: reported(task, PhoneReportStatus.SUCCEEDED, 1, at, device),
        lambda at: OutputsSent(at, device, task, 1),
        lambda at: OutputsSent(at, *who, refused=LARGE),
        lambda at: OutputsDelayed(at, *who),
        lambda at: OutputsMissing(at, *who),
        lambda at: ResendArrived(at, device, task),
        lambda at: PhoneSlept(at, device, "c1"),
        lambda at: ReadingCame(at, device, reading),
        lambda at: TimerFired(at, f"deadline/{device}/{task}"),
        lambda at: TimerFired(at, f"retry/{device}/{task}"),
        Tick,
        Disconnected,
        lambda at: Connected(at, 2),
    ]
    return draw(st.sampled_from(choices))


def check(made: World, device: str) -> None:
    """Check what must hold of one phone at any time."""
    held = [each for each in made.all(TASK).values() if each.device == device]
    active = [each for each in held if each.phase.active]
    assert len(active) <= 1
    link = made.get(LINK, device)
    if link is None or not link.awake or link.sent is None:
        return
    named = {(each.task_id, each.attempt) for each in active if each.phase is not Phase.PREPARING}
    assert link.sent.task is None or link.sent.task in named
    assert link.sent.pause == link.verdict.pause
    running = [each for each in active if each.phase is Phase.RUNNING]
    if running:
        assert link.sent.task == (running[0].task_id, running[0].attempt)
    elif not link.verdict.readiness.begins:
        assert link.sent.task is None


@settings(max_examples=150)
@given(st.lists(happenings(), min_size=5, max_size=60))
def test_histories(events: list[Happens]) -> None:
    """One task a phone, orders as the policy says, success only after success and sending.

    (PHONE-012, PHONE-021, PHONE-031, PHONE-032, PHONE-034)
    """
    made = world(*DEVICES)
    succeeded, sent = set(), set()
    for number, happens in enumerate(events):
        at = 1.0 + number
        event = happens(at)
        if (report := getattr(event, "report", None)) is not None:
            if report.status is PhoneReportStatus.SUCCEEDED:
                succeeded.add((event.device, report.task_id, report.attempt))
        elif isinstance(event, OutputsSent) and event.refused is None:
            sent.add((event.device, event.task_id, event.attempt))
        made.do(event)
        for device in DEVICES:
            check(made, device)
    for message in made.published:
        if message.topic.endswith("/report"):
            body, levels = json.loads(message.payload), message.topic.split("/")
            if body["status"] == "succeeded":
                attempt = (levels[1], levels[3], body["attempt"])
                assert attempt in succeeded
                assert attempt in sent
    presence = {each.topic: json.loads(each.payload) for each in made.published
                if each.topic.endswith("/presence")}  # fmt: skip
    made.do(Disconnected(1000.0))
    made.do(Connected(1000.0, 3))
    for device in DEVICES:
        last = [each for each in made.published if each.topic == f"proplets/{device}/presence"][-1]
        listed = {
            (each["task_id"], each["attempt"]) for each in json.loads(last.payload)["running"]
        }
        held = [each for each in made.all(TASK).values() if each.device == device]
        assert listed == {(each.task_id, each.attempt) for each in held if each.phase.present}
    assert set(presence) <= {f"proplets/{device}/presence" for device in DEVICES}


@settings(max_examples=30)
@given(st.lists(happenings(), max_size=40))
def test_the_same_history_gives_the_same(events: list[Happens]) -> None:
    """The core has no clock and no dice of its own: played again, it decides the same."""
    one, other = world(*DEVICES), world(*DEVICES)
    for number, happens in enumerate(events):
        assert one.do(happens(float(number))) == other.do(happens(float(number)))


def test_effects_of_one_task_are_in_one_lane() -> None:
    """What reads a task's files is never at work while they are removed."""
    lanes = {}
    for kind in SERVICE_EFFECTS:
        values = {"device": "a", "task_id": "t", "attempt": 1, "spec": SPEC, "until": 1.0,
                  "below": 2, "request": "q"}  # fmt: skip
        made: Any = kind(**{name: values[name] for name in kind.__dataclass_fields__
                            if name in values})  # fmt: skip
        lanes[kind.__name__] = made.lane
    assert lanes == {
        "Prepare": "task:a/t", "SendOutputs": "task:a/t", "Discard": "task:a/t",
        "Cut": "cut:a", "Answer": "answer:q",
    }  # fmt: skip
