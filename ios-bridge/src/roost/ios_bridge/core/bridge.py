"""The bridge's core: many phones, each a proplet to everyone else."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from roost.chassis.core import (
    Connected,
    Decision,
    Disconnected,
    Started,
    TimerFired,
    View,
)
from roost.chassis.effects import Publish, note
from roost.ios_bridge.core import pairing, phones
from roost.ios_bridge.core.actions import DEADLINE_TIMER
from roost.ios_bridge.core.draft import DESK, INVITE, LINK, OF_PHONE, PHONE, TASK, Draft
from roost.ios_bridge.core.effects import SERVICE_EFFECTS
from roost.ios_bridge.core.events import (
    EntryAsked,
    InviteArrived,
    OperatorRefused,
    PairAsked,
    PhoneReported,
    PhoneSlept,
    PhoneTold,
    ReadingCame,
    RevokeArrived,
    StartArrived,
    Tick,
)
from roost.ios_bridge.core.happenings import DeadlinePassed, RetryDue
from roost.ios_bridge.core.reports import final_report
from roost.ios_bridge.core.states import Held, Identity, Invite, Outcome, Phase, Phone
from roost.protocol.phone import topics
from roost.protocol.phone.messages import BridgeCard, InviteLine, PhoneLine, PhonesState
from roost.protocol.task.messages import FailureReason

MAX_HELD: Final = 100
"""Tasks that are held for one phone."""
_PHONES: Final[Mapping[type[Any], Any]] = {
    PhoneTold: phones.told,
    PhoneReported: phones.reported,
    PhoneSlept: phones.slept,
    ReadingCame: phones.felt,
}
_OTHERS: Final[Mapping[type[Any], Any]] = {
    InviteArrived: pairing.invited,
    RevokeArrived: pairing.revoked,
    PairAsked: pairing.paired,
    EntryAsked: pairing.entered,
}


@dataclass
class BridgeCore:
    """All decisions of the bridge.

    Attributes:
        card: Its own card.
    """

    card: BridgeCard
    kinds: Mapping[str, type[Any]] = field(
        default_factory=lambda: {TASK: Held, PHONE: Phone, INVITE: Invite}
    )
    volatile: frozenset[str] = frozenset({LINK, DESK, OF_PHONE})
    effects: tuple[type[Any], ...] = SERVICE_EFFECTS

    def handle(self, event: Any, view: View) -> Decision:
        """Decide what one event changes."""
        draft = Draft(view, self.card.boot_id)
        match event:
            case Started():
                draft.find_tasks()
            case Connected():
                self._connected(event.at, draft)
            case Disconnected():
                draft.desk = replace(draft.desk, connected=False)
            case Tick():
                self._tick(event.at, draft)
            case OperatorRefused():
                draft.refuse(event.refusal, event.detail)
            case _:
                self._dispatch(event, draft)
        for device in draft.touched:
            if draft.phone(device) is not None:
                phones.settle(draft, device, event.at)
        self._show_phones(event.at, draft)
        return draft.decision()

    def _dispatch(self, event: Any, draft: Draft) -> None:
        other = _OTHERS.get(type(event))
        if other is not None:
            other(draft, event)
            return
        if isinstance(event, TimerFired):
            kind, device, task_id = event.key.split("/")
            due = DeadlinePassed if kind == DEADLINE_TIMER else RetryDue
            draft.step(due(event.at, device, task_id), task_id)
        elif draft.phone(event.device) is None:
            name = type(event).__name__
            draft.say(note("event.ignored", "debug", "unknown_phone", what=name))
        elif type(event) in _PHONES:
            _PHONES[type(event)](draft, event)
        elif isinstance(event, StartArrived) and self._full(event, draft):
            self._turn_away(event, draft)
        else:
            draft.step(event, event.task_id)

    def _connected(self, at: float, draft: Draft) -> None:
        """Say what the broker may have lost, and what could not be said without it."""
        draft.desk = replace(draft.desk, connected=True)
        draft.is_news = True
        card = Publish(topics.CARD.template, self.card.encode(), retain=True, durable=False)
        draft.say(card)
        for device in draft.phones():
            draft.put_link(device, replace(draft.link(device), presence=b"", sent=None))
            draft.touch(device)
            for held in draft.tasks(device):
                waiting = held.phase is Phase.SENDING and held.tries > 0
                if waiting or held.phase is Phase.ENDED:
                    draft.step(RetryDue(at, device, held.task_id), held.task_id)

    @staticmethod
    def _tick(at: float, draft: Draft) -> None:
        pairing.expire_invites(draft, at)
        for device in draft.phones():
            link = draft.link(device)
            if link.awake and at - link.seen > phones.AWAKE_S:
                phones.fall_asleep(draft, device)
            draft.touch(device)

    @staticmethod
    def _full(event: StartArrived, draft: Draft) -> bool:
        known = draft.held(event.device, event.task_id) is not None
        return not known and len(draft.tasks(event.device)) >= MAX_HELD

    @staticmethod
    def _turn_away(event: StartArrived, draft: Draft) -> None:
        why = f"phone {event.device} has {MAX_HELD} tasks already: wait until some are over"
        outcome = Outcome(FailureReason.INTERNAL, why)
        refused = Held(
            event.device, event.task_id, event.attempt, Phase.ENDED, event.at, outcome=outcome
        )
        draft.say(
            final_report(refused, Identity(event.device, draft.boot_id)),
            note("start.ignored", "error", "full", device=event.device, task=event.task_id),
        )

    @staticmethod
    def _show_phones(at: float, draft: Draft) -> None:
        """Publish the list of phones if it is news; every connection begins with it."""
        lines = dict(draft.desk.lines)
        for device in draft.touched:
            lines.pop(device, None)
            if draft.phone(device) is not None:
                lines[device] = _line(draft, device, at)
        if lines != draft.desk.lines:
            draft.desk, draft.is_news = replace(draft.desk, lines=lines), True
        if not draft.is_news:
            return
        message = PhonesState(
            phones=tuple(lines[device] for device in sorted(lines)),
            invites=tuple(
                InviteLine(invite_id=each.invite_id, device=each.device)
                for each in draft.invites().values()
            ),
            refusals=dict(draft.desk.refusals),
            last_refusal=draft.desk.last_refusal,
        )
        topic = topics.PHONES.template
        draft.say(Publish(topic, message.encode(), retain=True, durable=False))


def _line(draft: Draft, device: str, at: float) -> PhoneLine:
    link = draft.link(device)
    active = [held.task_id for held in draft.tasks(device) if held.phase.active]
    return PhoneLine(
        device=device,
        presence=phones.wakefulness(draft, device, at),
        readiness=link.verdict.readiness.value,
        why=link.verdict.why.value,
        app=None if link.told is None else link.told.app,
        task_id=active[0] if active else None,
    )
