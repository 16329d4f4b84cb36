"""A decision in the making: what is put is seen by what follows."""

from dataclasses import dataclass, field, replace
from typing import Any, Final

from roost.chassis.core import Decision, Key, View
from roost.chassis.effects import Effect, Publish
from roost.ios_bridge.core.lifecycle import step
from roost.ios_bridge.core.states import Desk, Held, Identity, Invite, Link, Phone
from roost.wire.refusal import Refusal

TASK: Final = "task"
PHONE: Final = "phone"
INVITE: Final = "invite"
LINK: Final = "link"
OF_PHONE: Final = "of_phone"
"""Ids of each phone's tasks: who asks for one phone's need not look at all."""
DESK: Final = "desk"
_ONE: Final = "bridge"


@dataclass(slots=True)
class Draft:
    """States as they will be, and effects, of one event.

    Attributes:
        view: States before the event.
        boot_id: Of the bridge's process.
        puts: New states.
        effects: What to do.
        touched: Phones whose orders and presence may have changed.
        is_news: Whether the list of phones and invitations must be published in any case.
    """

    view: View
    boot_id: str
    puts: dict[Key, Any] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    touched: dict[str, None] = field(default_factory=dict)
    is_news: bool = False

    def _get(self, kind: str, id_: str) -> Any:
        return self.puts[kind, id_] if (kind, id_) in self.puts else self.view.get(kind, id_)

    def _all(self, kind: str) -> dict[str, Any]:
        found = dict(self.view.all(kind))
        found |= {key[1]: state for key, state in self.puts.items() if key[0] == kind}
        return {id_: state for id_, state in found.items() if state is not None}

    def phone(self, device: str) -> Phone | None:
        """Return a paired phone."""
        found: Phone | None = self._get(PHONE, device)
        return found

    def phones(self) -> dict[str, Phone]:
        """Return all paired phones, oldest first."""
        return self._all(PHONE)

    def invites(self) -> dict[str, Invite]:
        """Return all open invitations, oldest first."""
        return self._all(INVITE)

    def link(self, device: str) -> Link:
        """Return what is known of a phone just now."""
        found: Link | None = self._get(LINK, device)
        return found or Link()

    def held(self, device: str, task_id: str) -> Held | None:
        """Return one task of a phone."""
        found: Held | None = self._get(TASK, f"{device}/{task_id}")
        return found

    def tasks(self, device: str) -> list[Held]:
        """Return all tasks of a phone, oldest first."""
        ids: tuple[str, ...] = self._get(OF_PHONE, device) or ()
        found = (self.held(device, task_id) for task_id in ids)
        return [held for held in found if held is not None]

    def put_task(self, device: str, task_id: str, held: Held | None) -> None:
        """Set one task of a phone; None: it is forgotten."""
        self.puts[TASK, f"{device}/{task_id}"] = held
        ids: tuple[str, ...] = self._get(OF_PHONE, device) or ()
        if held is None:
            self.puts[OF_PHONE, device] = tuple(each for each in ids if each != task_id)
        elif task_id not in ids:
            self.puts[OF_PHONE, device] = (*ids, task_id)

    def find_tasks(self) -> None:
        """Find out whose tasks there are, when the process begins."""
        found: dict[str, list[str]] = {}
        for held in self._all(TASK).values():
            found.setdefault(held.device, []).append(held.task_id)
        for device, ids in found.items():
            self.puts[OF_PHONE, device] = tuple(ids)

    def put_invite(self, invite_id: str, invite: Invite | None) -> None:
        """Set one invitation; None: it is used or over."""
        self.puts[INVITE, invite_id] = invite
        self.is_news = True

    @property
    def desk(self) -> Desk:
        """The bridge's own connection and lists."""
        found: Desk | None = self._get(DESK, _ONE)
        return found or Desk()

    @desk.setter
    def desk(self, desk: Desk) -> None:
        self.puts[DESK, _ONE] = desk

    def put_link(self, device: str, link: Link) -> None:
        """Set what is known of a phone just now."""
        self.puts[LINK, device] = link

    def touch(self, device: str) -> None:
        """Look at a phone's orders and presence when the event is done."""
        self.touched[device] = None

    def say(self, *effects: Effect) -> None:
        """Add effects; what is not journalled is left out while there is no broker.

        It would pile up in memory, and is said again when the broker is back.
        """
        connected = self.desk.connected
        for effect in effects:
            if connected or not isinstance(effect, Publish) or effect.durable:
                self.effects.append(effect)

    def step(self, event: Any, task_id: str) -> bool:
        """Let an event happen to the task of a phone that it names.

        Returns:
            Whether it changed the task.
        """
        before = self.held(event.device, task_id)
        made = step(before, event, Identity(event.device, self.boot_id))
        if made.held != before:
            self.put_task(event.device, task_id, made.held)
        self.say(*made.effects)
        self.touch(event.device)
        return made.held != before

    def refuse(self, refusal: Refusal, detail: str) -> None:
        """Show on the bridge's list that an operator's order was refused."""
        desk, self.is_news = self.desk, True
        counts = dict(desk.refusals)
        counts[refusal.name] = counts.get(refusal.name, 0) + 1
        last = f"{refusal.name} ({refusal.code}): {detail}. {refusal.cure}"
        self.desk = replace(desk, refusals=tuple(counts.items()), last_refusal=last)

    def decision(self) -> Decision:
        """Return what came of it."""
        return Decision(self.puts, tuple(self.effects))
