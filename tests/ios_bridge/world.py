"""A bridge's core with its states as the runner keeps them, and phones that speak to it."""

import json
from dataclasses import dataclass, field
from typing import Any

from roost.chassis.core import Connected, Decision, Started
from roost.chassis.effects import Note, Publish
from roost.ios_bridge.core.bridge import BridgeCore
from roost.ios_bridge.core.draft import TASK
from roost.ios_bridge.core.events import (
    InviteArrived,
    PairAsked,
    PhoneReported,
    PhoneTold,
    Prepared,
    StartArrived,
    StopArrived,
)
from roost.ios_bridge.core.states import Held, Phase
from roost.protocol.phone.messages import (
    BridgeCard,
    BridgeStatus,
    InvitePhone,
    PhoneFile,
    PhoneReport,
    PhoneReportStatus,
    PhoneState,
    Reading,
)
from roost.protocol.task.messages import FailureReason, StopReason, TaskOutput, TaskSpec

CARD = BridgeCard(status=BridgeStatus.ONLINE, boot_id="boot")
SHA = "a" * 64
PLAIN = TaskSpec(image=f"blob:op/{SHA}")
SPEC = PLAIN.model_copy(update={"outputs": (TaskOutput(file="f", topic="to"),)})
IMAGE = PhoneFile(name="guest.wasm", sha256=SHA, size=3)
CHARGING = Reading(on_power=True, battery=80.0)
LIFE_S = 60.0


@dataclass
class World:
    """A core with its states, as the runner keeps them."""

    core: BridgeCore = field(default_factory=lambda: BridgeCore(CARD))
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)
    published: list[Publish] = field(default_factory=list)

    def get(self, kind: str, id_: str, /) -> Any:
        """Return the state of one entity, or None."""
        return self.kinds.get(kind, {}).get(id_)

    def all(self, kind: str, /) -> dict[str, Any]:
        """Return all entities of a kind."""
        return self.kinds.get(kind, {})

    def do(self, event: Any) -> Decision:
        """Let an event happen and keep what it changes."""
        decision = self.core.handle(event, self)
        for (kind, id_), state in decision.puts.items():
            if state is None:
                self.kinds.setdefault(kind, {}).pop(id_, None)
            else:
                self.kinds.setdefault(kind, {})[id_] = state
        self.published += [each for each in decision.effects if isinstance(each, Publish)]
        return decision

    def restart(self, at: float) -> None:
        """Lose what is volatile, as a killed process does, and begin again."""
        for kind in self.core.volatile:
            self.kinds.pop(kind, None)
        self.do(Started(at))
        self.do(Connected(at, 1))

    def pair(self, device: str, at: float = 0.0) -> None:
        """Make a phone of a device."""
        token = f"{hash(device) % 16**8:08x}" * 8
        invite = InvitePhone(invite_id=f"i-{device}", token_sha256=token, device=device)
        self.do(InviteArrived(at, invite))
        self.do(PairAsked(at, "question", token, SHA))

    def phase(self, device: str, task_id: str) -> Phase | None:
        """Return where a task stands."""
        held: Held | None = self.get(TASK, f"{device}/{task_id}")
        return None if held is None else held.phase

    def said(self, ending: str) -> list[dict[str, Any]]:
        """Return what was published on topics with this ending since the last look at any."""
        found = [each for each in self.published if each.topic.endswith(ending)]
        self.published = [each for each in self.published if each not in found]
        return [json.loads(each.payload) if each.payload else {} for each in found]

    def order(self, device: str) -> dict[str, Any]:
        """Return the last order to a phone."""
        return self.said(f"ios/{device}/down/order")[-1]

    def run_until_ready(self, device: str, task_id: str, at: float, spec: TaskSpec = SPEC) -> None:
        """Start a task and prepare it; the phone must be awake and willing."""
        self.do(start(task_id, device=device, at=at, spec=spec))
        self.do(Prepared(at, device, task_id, 1, IMAGE, ()))


def world(*devices: str) -> World:
    """Return a bridge that is connected, with these phones, which sleep."""
    made = World()
    made.do(Started(0.0))
    made.do(Connected(0.0, 1))
    for device in devices:
        made.pair(device)
    made.published.clear()
    return made


def start(
    task_id: str,
    attempt: int = 1,
    device: str = "phone",
    at: float = 1.0,
    spec: TaskSpec = SPEC,
    remaining_s: float = LIFE_S,
) -> StartArrived:
    """Return a start order."""
    return StartArrived(at, device, task_id, attempt, remaining_s, spec)


def stop(
    task_id: str,
    attempt: int = 1,
    device: str = "phone",
    at: float = 5.0,
    reason: StopReason = StopReason.CANCELLED,
) -> StopArrived:
    """Return a stop order."""
    return StopArrived(at, device, task_id, attempt, reason)


def told(
    at: float = 1.0,
    device: str = "phone",
    reading: Reading = CHARGING,
    order_id: str | None = None,
    connection_id: str = "c1",
    **more: Any,
) -> PhoneTold:
    """Return what a phone that is awake says."""
    state = PhoneState(
        connection_id=connection_id,
        boot_id="b1",
        app="test 1",
        reading=reading,
        order_id=order_id,
        **more,
    )
    return PhoneTold(at, device, state)


def reported(
    task_id: str,
    status: PhoneReportStatus,
    attempt: int = 1,
    at: float = 3.0,
    device: str = "phone",
    **more: Any,
) -> PhoneReported:
    """Return a phone's news of an attempt."""
    if status is PhoneReportStatus.FAILED:
        more.setdefault("reason", FailureReason.TRAP)
    report = PhoneReport(task_id=task_id, attempt=attempt, status=status, **more)
    return PhoneReported(at, device, report)


def notes(decision: Decision) -> set[tuple[str, str | None]]:
    """Return what a decision logs: events with their reasons."""
    return {(each.event, each.reason) for each in decision.effects if isinstance(each, Note)}
