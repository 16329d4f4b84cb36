"""The life of one task on one phone, as a table: (phase, happening) -> what to do.

What the table does not list changes nothing and is counted. Only the highest attempt counts:
what comes of an earlier one is ``stale`` whatever the phase (rules PHONE-030 ff.).
"""

from collections.abc import Mapping
from typing import Any, Final

from roost.chassis.effects import Effect, note
from roost.ios_bridge.core import actions
from roost.ios_bridge.core.actions import Action, Step
from roost.ios_bridge.core.events import PhoneReported
from roost.ios_bridge.core.happenings import Happening, classify
from roost.ios_bridge.core.states import Held, Identity, Phase


def step(held: Held | None, event: Any, me: Identity) -> Step:
    """Let one event happen to the task it names.

    Args:
        held: The task, or None if the bridge holds no such task for this phone.
        event: One of ``events`` or ``happenings`` that names a task.
        me: Who reports.
    """
    happening = classify(held, event)
    if held is None:
        if happening is Happening.NEW_START:
            return actions.accept(event, me)
        if happening is Happening.STOP:
            return actions.bury(event)
        return Step(None, (_ignored(None, event, happening),))
    action = TABLE.get((held.phase, happening))
    if action is None:
        return Step(held, (_ignored(held, event, happening),))
    return action(held, event, me)


def _ignored(held: Held | None, event: Any, happening: Happening) -> Effect:
    return note(
        "event.ignored",
        "debug",
        happening.value.replace(" ", "_"),
        device=event.device,
        task=event.report.task_id if isinstance(event, PhoneReported) else event.task_id,
        phase="unknown" if held is None else held.phase.value,
    )


_WAITING: Final[Mapping[Happening, Action]] = {
    Happening.NEW_START: actions.take_over,
    Happening.SAME_START: actions.tell_accepted,
    Happening.STOP: actions.stop,
    Happening.RECORDED: actions.stop,
    Happening.DEADLINE: actions.give_up,
}
_WORKING: Final[Mapping[Happening, Action]] = {
    **_WAITING,
    Happening.BEGUN: actions.tell_running,
    Happening.PROGRESSED: actions.tell_progress,
    Happening.SUCCEEDED: actions.succeeded,
    Happening.FAILED: actions.failed,
}
_OVER: Final[Mapping[Happening, Action]] = {
    Happening.RESEND: actions.resend,
    Happening.NEW_START: actions.take_over,
    Happening.SAME_START: actions.tell_end,
    Happening.STOP: actions.stop,
    Happening.DEADLINE: actions.forget,
}
_BY_PHASE: Final[Mapping[Phase, Mapping[Happening, Action]]] = {
    Phase.QUEUED: {**_WAITING, Happening.TURN: actions.prepare},
    Phase.PREPARING: {
        **_WAITING,
        Happening.PREPARED: actions.ready,
        Happening.UNPREPARED: actions.unprepared,
    },
    Phase.READY: _WORKING,
    Phase.RUNNING: {
        **_WORKING,
        Happening.PAUSED: actions.tell_pause,
        Happening.SAME_START: actions.tell_running,
    },
    Phase.SENDING: {
        **_WAITING,
        Happening.SAME_START: actions.tell_running,
        Happening.SENT: actions.sent,
        Happening.REFUSED: actions.refused,
        Happening.DELAYED: actions.delayed,
        Happening.MISSING: actions.missing,
        Happening.RETRY: actions.send,
    },
    Phase.ENDED: {
        **_OVER,
        Happening.RECORDED: actions.recorded,
        Happening.RETRY: actions.repeat_report,
    },
    Phase.RECORDED: _OVER,
    Phase.STOPPED: {
        Happening.NEW_START: actions.take_over,
        Happening.STOP: actions.stop,
        Happening.DEADLINE: actions.forget,
    },
}
TABLE: Final[Mapping[tuple[Phase, Happening], Action]] = {
    (phase, happening): action
    for phase, row in _BY_PHASE.items()
    for happening, action in row.items()
}
"""Every transition of a task that the bridge holds for a phone."""
