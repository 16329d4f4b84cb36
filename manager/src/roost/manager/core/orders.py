"""Orders: launching, cancelling, sending again, reloading. Each is obeyed or refused."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from roost.chassis.effects import Publish, note
from roost.manager.core.binding import LaunchRule
from roost.manager.core.control import refuse_control_outputs
from roost.manager.core.dispatch import add_task
from roost.manager.core.draft import LAUNCH as LAUNCH_KIND
from roost.manager.core.draft import Draft
from roost.manager.core.events import Ordered, ReadBindings
from roost.manager.core.launch import expand, read_wish
from roost.manager.core.lifecycle import resend_order
from roost.manager.core.task import CancelAsked, Task
from roost.manager.core.workloads import refuse
from roost.protocol.task.messages import (
    CancelTask,
    Launch,
    LaunchReply,
    ReloadWorkloads,
    TaskRequest,
    TaskStatus,
)
from roost.protocol.task.refusals import LAUNCH_KEY_REUSED, LAUNCH_TASK, UNKNOWN_TASK
from roost.protocol.task.topics import (
    CANCEL,
    LAUNCH,
    LAUNCH_REPLY,
    RESEND,
    WORKLOADS_RELOAD,
)
from roost.wire.ids import DERIVED_SEPARATOR
from roost.wire.refusal import RETAINED_ORDER, Refused

_REPLY_EXPIRY_S = 60.0
# What each task of a launch takes until its order is sent and answered. Without it the orders of
# thousands would all be repeated before the first answers could be read.
_EACH_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class Launched:
    """The memory of a launch, kept for ever.

    Attributes:
        sha256: Digest of the message that launched it.
        at: When.
        tasks: How many tasks it launched.
    """

    sha256: str
    at: float
    tasks: int


def on_order(draft: Draft, order: Ordered) -> None:
    """Obey an order, or refuse it where its sender can see that."""
    if order.topic == LAUNCH.template:
        _on_launch(draft, order)
        return
    try:
        _obey(draft, order)
    except Refused as error:
        refuse(draft, error, order.topic, order.at)


def _obey(draft: Draft, order: Ordered) -> None:
    _refuse_retained(order)
    rule = draft.bindings.launch_of(order.topic)
    if order.topic == WORKLOADS_RELOAD.template:
        draft.add(ReadBindings(ReloadWorkloads.decode(order.payload).reload_id))
    elif cancelled := CANCEL.match(order.topic):
        _cancel(draft, order, _known(draft, cancelled["task_id"]))
    elif wanted := RESEND.match(order.topic):
        _resend(draft, _known(draft, wanted["task_id"]))
    elif rule is not None:
        _launch_by_rule(draft, order, rule)
    else:
        draft.add(note("order.ignored", "warning", "no_rule", topic=order.topic))


def _refuse_retained(order: Ordered) -> None:
    if order.retain:
        raise Refused(RETAINED_ORDER, "an order that the broker kept would be given again")


def _known(draft: Draft, task_id: str) -> Task:
    task = draft.task(task_id)
    if task is None:
        raise Refused(UNKNOWN_TASK, f"no task '{task_id}'")
    return task


def _cancel(draft: Draft, order: Ordered, task: Task) -> None:
    wish = CancelTask.decode(order.payload) if order.payload else CancelTask()
    if task.status.final:
        draft.add(note("cancel.ignored", "info", "task_ended", task_id=task.id))
        return
    draft.advance(task, CancelAsked(order.at, wish.reason))


def _resend(draft: Draft, task: Task) -> None:
    if task.status is TaskStatus.SUCCEEDED:
        draft.add(resend_order(task), note("task.resend_passed_on", "info", task_id=task.id))
    else:
        draft.add(note("resend.ignored", "info", task.status.value, task_id=task.id))


def _launch_by_rule(draft: Draft, order: Ordered, rule: LaunchRule) -> None:
    wish = read_wish(rule, order.payload)
    _launch(draft, order, rule.topic, wish.key, expand(rule, wish))


def _on_launch(draft: Draft, order: Ordered) -> None:
    """Launch one task by ``tasks/launch`` and answer."""
    request: TaskRequest | None = None
    try:
        _refuse_retained(order)
        request = TaskRequest.decode(order.payload)
        _refuse_derived_id(request.task_id)
        refuse_control_outputs(request)
        _launch(draft, order, LAUNCH.template, request.task_id, (request,))
    except Refused as error:
        refuse(draft, error, order.topic, order.at)
        task_id = request.task_id if request else None
        code, reason = error.refusal.code, str(error)
        _reply(draft, order, LaunchReply(task_id=task_id, accepted=False, code=code, reason=reason))
        return
    _reply(draft, order, LaunchReply(task_id=request.task_id, accepted=True))


def _refuse_derived_id(task_id: str) -> None:
    if DERIVED_SEPARATOR in task_id:
        text = f"'{task_id}': only launches by a binding have ids with '{DERIVED_SEPARATOR}'"
        raise Refused(LAUNCH_TASK, text)


def _reply(draft: Draft, order: Ordered, message: LaunchReply) -> None:
    topic = order.response_topic
    if topic is None:
        return
    if LAUNCH_REPLY.match(topic) is None:
        text = f"answers go to {LAUNCH_REPLY.template} only"
        draft.add(note("reply.refused", "warning", "response_topic", topic=topic[:200], why=text))
        return
    draft.add(
        Publish(
            topic,
            message.encode(),
            expiry_s=_REPLY_EXPIRY_S,
            correlation=order.correlation,
            durable=False,
        )
    )


def _launch(
    draft: Draft, order: Ordered, topic: str, key: str, requests: Iterable[TaskRequest]
) -> None:
    """Launch tasks unless this key was launched before.

    Args:
        draft: What is decided so far.
        order: The launching message.
        topic: The rule's, or the order's own.
        key: Names the launch.
        requests: Looked at only if the key is new: a repeated launch of thousands costs little.

    Raises:
        Refused: launch_key_reused.
    """
    digest = sha256(order.payload).hexdigest()
    record = f"{topic} {key}"
    before: Launched | None = draft.get(LAUNCH_KIND, record)
    if before is not None:
        _launched_before(draft, order, key, same=before.sha256 == digest)
        return
    requests = tuple(requests)
    for request in requests:
        _refuse_taken(draft, request.task_id)
    draft.put(LAUNCH_KIND, record, Launched(digest, order.at, len(requests)))
    draft.add(note("launch.accepted", topic=order.topic, key=key, tasks=len(requests)))
    launch = Launch(topic=order.topic, sha256=digest, key=key)
    for number, request in enumerate(requests):
        add_task(draft, request, launch, order.at, number * _EACH_S)


def _launched_before(draft: Draft, order: Ordered, key: str, *, same: bool) -> None:
    if not same:
        raise Refused(LAUNCH_KEY_REUSED, f"'{key}' was launched with other bytes")
    draft.add(note("launch.repeated", "info", "same_bytes", topic=order.topic, key=key))


def _refuse_taken(draft: Draft, task_id: str) -> None:
    """Keep launches on different topics from meeting in one task."""
    task = draft.task(task_id)
    if task is not None:
        topic = task.launch.topic if task.launch else "another topic"
        raise Refused(LAUNCH_KEY_REUSED, f"task '{task_id}' was launched on {topic}")
