"""What a phone says, and what it is told: its sleep, its readings, its orders."""

from dataclasses import replace
from typing import Final

from roost.chassis.effects import Publish, note
from roost.ios_bridge.core.draft import PHONE, Draft
from roost.ios_bridge.core.events import PhoneReported, PhoneSlept, PhoneTold, ReadingCame
from roost.ios_bridge.core.happenings import TurnCame
from roost.ios_bridge.core.states import Held, Link, Phase, Sent
from roost.protocol.phone import topics as phone_topics
from roost.protocol.phone.messages import PhoneOrder, PhoneTask, Wakefulness
from roost.protocol.phone.policy import judge
from roost.protocol.task import topics as task_topics
from roost.protocol.task.messages import (
    Presence,
    PresenceStatus,
    Resources,
    RunningTask,
    Telemetry,
)

AWAKE_S: Final = 30.0
GONE_S: Final = 86_400.0
ORDER_EXPIRY_S: Final = 30.0
TELEMETRY_EXPIRY_S: Final = 120.0
_STATUS: Final = {
    Wakefulness.AWAKE: PresenceStatus.ONLINE,
    Wakefulness.ASLEEP: PresenceStatus.ASLEEP,
    Wakefulness.GONE: PresenceStatus.OFFLINE,
}


def wakefulness(draft: Draft, device: str, at: float) -> Wakefulness:
    """Tell whether a phone is awake, asleep, or has not been heard of for a day."""
    link, phone = draft.link(device), draft.phone(device)
    if link.awake:
        return Wakefulness.AWAKE
    seen = max(link.seen, phone.seen if phone is not None else 0.0)
    return Wakefulness.GONE if at - seen >= GONE_S else Wakefulness.ASLEEP


def told(draft: Draft, event: PhoneTold) -> None:
    """A phone that is awake says how it is."""
    link = draft.link(event.device)
    senses = link.senses.told(event.state.reading, event.at)
    link = replace(link, awake=True, seen=event.at, told=event.state, senses=senses)
    follows = link.sent is not None and event.state.order_id == link.sent.order_id
    draft.put_link(event.device, link)
    draft.touch(event.device)
    judged(draft, event.device, event.at)
    if link.sent is not None and not follows:
        _order(draft, event.device, event.at)
    draft.say(_telemetry(draft, event.device, event.at))


def reported(draft: Draft, event: PhoneReported) -> None:
    """A phone has news of an attempt; news of another one is answered with its order."""
    draft.put_link(event.device, replace(draft.link(event.device), awake=True, seen=event.at))
    before = draft.held(event.device, event.report.task_id)
    draft.step(event, event.report.task_id)
    news = before is not None and before.attempt == event.report.attempt and before.phase.active
    if draft.link(event.device).sent is not None and not news:
        _order(draft, event.device, event.at)


def slept(draft: Draft, event: PhoneSlept) -> None:
    """A connection ended: the phone sleeps, unless it has another one by now."""
    now = draft.link(event.device).told
    if now is None or now.connection_id != event.connection_id:
        draft.say(note("sleep.ignored", "debug", "older_connection", device=event.device))
        return
    fall_asleep(draft, event.device)


def fall_asleep(draft: Draft, device: str) -> None:
    """Take note that a phone sleeps."""
    link, phone = draft.link(device), draft.phone(device)
    if not link.awake or phone is None:
        return
    draft.put_link(device, replace(link, awake=False, sent=None))
    draft.puts[PHONE, device] = replace(phone, seen=link.seen)
    draft.touch(device)
    draft.say(note("phone.slept", device=device))


def felt(draft: Draft, event: ReadingCame) -> None:
    """Something else than the phone's program knows how the phone is."""
    link = draft.link(event.device)
    senses = link.senses.told(event.reading, event.at)
    draft.put_link(event.device, replace(link, senses=senses))
    draft.touch(event.device)


def judged(draft: Draft, device: str, at: float) -> Link:
    """Apply the policy to what is known now."""
    link = draft.link(device)
    verdict = judge(link.senses, at, low=link.verdict.low)
    if verdict != link.verdict:
        why = {"readiness": verdict.readiness.value, "why": verdict.why.value}
        draft.say(note("phone.judged", "debug", device=device, **why))
        link = replace(link, verdict=verdict)
        draft.put_link(device, link)
    return link


def settle(draft: Draft, device: str, at: float) -> None:
    """Give the phone its next task, its order if that is news, and its presence if that is."""
    link = judged(draft, device, at)
    tasks = draft.tasks(device)
    free = link.awake and not any(held.phase.active for held in tasks)
    if free and link.verdict.readiness.begins:
        waiting = [each for each in tasks if each.phase is Phase.QUEUED and each.deadline > at]
        if waiting:
            draft.step(TurnCame(at, device, waiting[0].task_id), waiting[0].task_id)
    active = _active(draft, device)
    wanted = None if active is None else (active.task_id, active.attempt)
    sent = link.sent
    if link.awake and (sent is None or (sent.task, sent.pause) != (wanted, link.verdict.pause)):
        desk = draft.desk
        draft.desk = replace(desk, orders=desk.orders + 1)
        order_id = f"{draft.boot_id}-{desk.orders + 1}"
        sent = Sent(order_id, wanted, link.verdict.pause)
        draft.put_link(device, replace(link, sent=sent))
        _order(draft, device, at)
    _presence(draft, device, at)


def _active(draft: Draft, device: str) -> Held | None:
    """Return the task that the phone's order names: one that runs, or may begin."""
    begins = draft.link(device).verdict.readiness.begins
    for held in draft.tasks(device):
        if held.phase is Phase.RUNNING or (held.phase is Phase.READY and begins):
            return held
    return None


def _order(draft: Draft, device: str, at: float) -> None:
    """Send the order that stands, with the time that is left now."""
    sent = draft.link(device).sent
    assert sent is not None
    held = None if sent.task is None else draft.held(device, sent.task[0])
    order = PhoneOrder(
        order_id=sent.order_id,
        task=None if held is None else _phone_task(held, at),
        pause=sent.pause,
    )
    topic = phone_topics.ORDER.format(device=device)
    draft.say(Publish(topic, order.encode(), expiry_s=ORDER_EXPIRY_S, durable=False))


def _phone_task(held: Held, at: float) -> PhoneTask:
    spec = held.spec
    assert spec is not None
    assert held.image is not None
    return PhoneTask(
        task_id=held.task_id,
        attempt=held.attempt,
        remaining_s=max(0.0, held.deadline - at),
        image=held.image,
        args=spec.args,
        env=spec.env,
        inputs=held.inputs,
        outputs=tuple(output.file for output in spec.outputs),
        mounts=spec.mounts,
        limits=spec.limits,
    )


def _presence(draft: Draft, device: str, at: float) -> None:
    """Publish the presence of the proplet that this phone is, if it is news."""
    link = draft.link(device)
    state = link.told
    card = Presence(
        proplet_id=device,
        status=_STATUS[wakefulness(draft, device, at)],
        boot_id=draft.boot_id,
        labels={"kind": "phone"},
        resources=_resources(link),
        runtimes=("wasi-preview1",),
        protocols={"task": 1},
        mounts=() if state is None else state.mounts,
        running=tuple(
            RunningTask(task_id=held.task_id, attempt=held.attempt)
            for held in draft.tasks(device)
            if held.phase.present
        ),
    )
    payload = card.encode()
    if draft.desk.connected and payload != link.presence:
        draft.put_link(device, replace(link, presence=payload))
        topic = task_topics.PRESENCE.format(proplet_id=device)
        draft.say(Publish(topic, payload, retain=True, durable=False))


def _resources(link: Link) -> Resources | None:
    return None if link.told is None else link.told.resources


def _telemetry(draft: Draft, device: str, at: float) -> Publish:
    link = draft.link(device)
    message = Telemetry(
        battery=link.senses.get("battery", at),
        on_power=link.senses.get("on_power", at),
        thermal=link.senses.get("thermal", at),
        running=sum(held.phase is Phase.RUNNING for held in draft.tasks(device)),
        readiness=link.verdict.readiness.value,
    )
    topic = task_topics.TELEMETRY.format(proplet_id=device)
    return Publish(topic, message.encode(), retain=True, expiry_s=TELEMETRY_EXPIRY_S, durable=False)
