"""What the manager is told of an attempt.

Reports are not journalled: the final one is repeated until it is answered, and the others are
said again when the manager asks, by starting the same attempt once more.
"""

from typing import Any, Final

from roost.chassis.effects import Publish
from roost.ios_bridge.core.states import Held, Identity
from roost.protocol.task import topics
from roost.protocol.task.messages import Report, ReportStatus

_TEXT_CHARS: Final = 4096


def report(
    held: Held, me: Identity, status: ReportStatus, progress: dict[str, Any] | None = None
) -> Publish:
    """Return the message that says how an attempt stands."""
    message = Report(attempt=held.attempt, boot_id=me.boot_id, status=status, progress=progress)
    return _publish(held, message)


def final_report(held: Held, me: Identity, *, durable: bool = False) -> Publish:
    """Return the message that says how an attempt ended."""
    outcome = held.outcome
    assert outcome is not None
    message = Report(
        attempt=held.attempt,
        boot_id=me.boot_id,
        status=ReportStatus.SUCCEEDED if outcome.reason is None else ReportStatus.FAILED,
        reason=outcome.reason,
        message=outcome.message[:_TEXT_CHARS] or None,
        exit_code=outcome.exit_code,
        stderr_tail=outcome.stderr_tail[-_TEXT_CHARS:] or None,
        usage=outcome.usage,
    )
    return _publish(held, message, durable=durable)


def _publish(held: Held, message: Report, *, durable: bool = False) -> Publish:
    topic = topics.REPORT.format(proplet_id=held.device, task_id=held.task_id)
    return Publish(topic, message.encode(), durable=durable)
