"""Where the rows of the proplet's table lead: each is tried out on a task made for it.

The table maps (phase, happening) to an action, and the action decides on the next phase. So each
action is given a task in that phase and an event of that kind, and what comes out is looked at.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

_NOW: Final = 1000.0
_ID: Final = "task"
_UNHELD: Final = "[*]"


def walk() -> Iterator[tuple[str, str, str | None]]:
    """Yield phase before (``[*]``: not held), happening, and phase after (None: forgotten)."""
    lifecycle = import_module("roost.proplet.core.lifecycle")
    states = import_module("roost.proplet.core.states")
    me = states.Identity("proplet", "boot")
    happening = lifecycle.Happening
    for what in (happening.NEW_START, happening.STOP):
        event = _event(what, attempt=1)
        yield _UNHELD, what.value, _phase(lifecycle.step(None, event, me))
    for (phase, what), action in lifecycle.TABLE.items():
        for held in _tasks(states, phase, both=what is happening.SUCCEEDED):
            attempt = 2 if what is happening.NEW_START else 1
            event = _event(what, attempt)
            after = _phase(action(held, event, me))
            yield phase.value, _told(what.value, held, states.Phase.RUNNING), after


def _told(what: str, held: Any, running: Any) -> str:
    if held.phase is running and what == "guest succeeded":
        return f"{what}, {'outputs to send' if held.spec.outputs else 'no outputs'}"
    return what


def _phase(step: Any) -> str | None:
    return None if step.held is None else str(step.held.phase.value)


def _tasks(states: Any, phase: Any, *, both: bool) -> Iterator[Any]:
    """Yield a task in this phase, with outputs and, where it matters, one without."""
    messages = import_module("roost.protocol.task.messages")
    output = messages.TaskOutput(file="out", topic="t")
    for outputs in ((output,), ()) if both else ((output,),):
        spec = messages.TaskSpec(image="file:x", outputs=outputs)
        outcome = states.Outcome(None)
        yield states.Held(_ID, 1, phase, _NOW + 60, spec, outcome)


def _event(what: Any, attempt: int) -> Any:
    """Return an event that means this to a task whose attempt is 1."""
    events = import_module("roost.proplet.core.events")
    lifecycle = import_module("roost.proplet.core.lifecycle")
    states = import_module("roost.proplet.core.states")
    messages = import_module("roost.protocol.task.messages")
    is_a = lifecycle.Happening
    spec = messages.TaskSpec(image="file:x")
    good = states.Outcome(None)
    bad = states.Outcome(messages.FailureReason.TRAP)
    reasons = messages.StopReason
    who = (_NOW, _ID, attempt)
    made = {
        is_a.NEW_START: lambda: events.StartArrived(*who, 60.0, spec),
        is_a.SAME_START: lambda: events.StartArrived(*who, 60.0, spec),
        is_a.STOP: lambda: events.StopArrived(*who, reasons.CANCELLED),
        is_a.RECORDED: lambda: events.StopArrived(*who, reasons.RECORDED),
        is_a.RESEND: lambda: events.ResendArrived(_NOW, _ID),
        is_a.SLOT: lambda: lifecycle.SlotFreed(_NOW, _ID),
        is_a.STARTED: lambda: events.GuestStarted(*who),
        is_a.PROGRESSED: lambda: events.GuestProgressed(*who, {}),
        is_a.SUCCEEDED: lambda: events.GuestEnded(*who, good),
        is_a.FAILED: lambda: events.GuestEnded(*who, bad),
        is_a.SENT: lambda: events.OutputsSent(*who),
        is_a.REFUSED: lambda: events.OutputsSent(*who, refused=bad),
        is_a.DELAYED: lambda: events.OutputsDelayed(*who),
        is_a.RETRY: lambda: lifecycle.RetryDue(_NOW, _ID),
        is_a.DEADLINE: lambda: lifecycle.DeadlinePassed(_NOW, _ID),
    }
    return made[what]()
