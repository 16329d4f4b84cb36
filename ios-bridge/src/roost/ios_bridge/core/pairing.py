"""Invitations, passwords, revocation. Only digests of secrets come here."""

from dataclasses import replace
from typing import Final

from roost.chassis.effects import ClearTimer, Publish, note
from roost.ios_bridge.core.actions import DEADLINE_TIMER, clear_away, timer
from roost.ios_bridge.core.draft import LINK, PHONE, Draft
from roost.ios_bridge.core.effects import Answer, Cut
from roost.ios_bridge.core.events import EntryAsked, InviteArrived, PairAsked, RevokeArrived
from roost.ios_bridge.core.reports import final_report
from roost.ios_bridge.core.states import Identity, Invite, Outcome, Phase, Phone
from roost.protocol.phone.refusals import (
    DEVICE_TAKEN,
    NOT_WANTED,
    TOO_MANY_INVITES,
    UNKNOWN_PHONE,
    UNKNOWN_TOKEN,
)
from roost.protocol.task import topics
from roost.protocol.task.messages import FailureReason

LONGEST_INVITE_S: Final = 3600.0
MAX_INVITES: Final = 100


def invited(draft: Draft, event: InviteArrived) -> None:
    """An operator invites a phone; another open invitation of that device is void."""
    invite = event.invite
    if draft.phone(invite.device) is not None:
        draft.refuse(DEVICE_TAKEN, f"there is a phone {invite.device}")
        return
    for id_, other in draft.invites().items():
        if other.device == invite.device:
            draft.put_invite(id_, None)
    if len(draft.invites()) >= MAX_INVITES:
        draft.refuse(TOO_MANY_INVITES, f"{MAX_INVITES} invitations are open")
        return
    until = event.at + min(invite.expires_s, LONGEST_INVITE_S)
    made = Invite(invite.invite_id, invite.token_sha256, invite.device, until)
    draft.put_invite(invite.invite_id, made)
    draft.say(note("phone.invited", device=invite.device, invite=invite.invite_id))


def expire_invites(draft: Draft, at: float) -> None:
    """Forget invitations whose time is over."""
    for id_, invite in draft.invites().items():
        if invite.until <= at:
            draft.put_invite(id_, None)


def paired(draft: Draft, event: PairAsked) -> None:
    """Somebody shows a token: a good one makes a phone of it, once."""
    expire_invites(draft, event.at)
    for id_, invite in draft.invites().items():
        if invite.token_sha256 == event.token_sha256:
            draft.put_invite(id_, None)
            phone = Phone(invite.device, event.secret_sha256, event.at)
            draft.puts[PHONE, phone.device] = phone
            draft.touch(phone.device)
            draft.say(Answer(event.request, phone.device))
            draft.say(note("phone.paired", device=phone.device))
            return
    draft.say(Answer(event.request, "", UNKNOWN_TOKEN.name))
    draft.say(note("pairing.refused", "warning", UNKNOWN_TOKEN.name))


def entered(draft: Draft, event: EntryAsked) -> None:
    """Somebody shows a phone's password, and perhaps a file to hand in."""
    phone = draft.phone(event.device)
    refusal = None
    if phone is None or phone.secret_sha256 != event.secret_sha256:
        refusal = UNKNOWN_PHONE.name
        draft.say(note("entry.refused", "warning", refusal, device=event.device))
    elif event.output is not None and not _wanted(draft, event.device, *event.output):
        refusal = NOT_WANTED.name
    draft.say(Answer(event.request, event.device, refusal))


def _wanted(draft: Draft, device: str, task_id: str, attempt: int, file: str) -> bool:
    held = draft.held(device, task_id)
    if held is None or held.attempt != attempt or held.spec is None:
        return False
    works = held.phase in (Phase.READY, Phase.RUNNING)
    return works and file in {output.file for output in held.spec.outputs}


def revoked(draft: Draft, event: RevokeArrived) -> None:
    """An operator wants a phone to be forgotten: its tasks fail, its topics are cleared."""
    device = event.device
    if draft.phone(device) is None:
        draft.refuse(UNKNOWN_PHONE, f"there is no phone {device}")
        return
    me = Identity(device, draft.boot_id)
    outcome = Outcome(FailureReason.INTERNAL, f"phone {device} was revoked: ask another one")
    for held in draft.tasks(device):
        if held.phase.present:
            draft.say(final_report(replace(held, outcome=outcome), me, durable=True))
        draft.say(*clear_away(held, held.attempt + 1))
        draft.say(ClearTimer(timer(DEADLINE_TIMER, device, held.task_id)))
        draft.put_task(device, held.task_id, None)
    draft.puts[PHONE, device] = None
    draft.puts[LINK, device] = None
    draft.touch(device)
    for row in (topics.TELEMETRY, topics.PRESENCE):
        draft.say(Publish(row.format(proplet_id=device), retain=True))
    draft.say(Cut(device), note("phone.revoked", device=device))
