"""Which topics Roost is controlled by: no forward and no task's output may go there."""

from typing import Final

from roost.protocol.task.messages import TaskRequest
from roost.protocol.task.refusals import LAUNCH_TASK
from roost.protocol.task.topics import TOPICS
from roost.wire.blob import TOPICS as BLOB_TOPICS
from roost.wire.refusal import Refused

CONTROL_FILTERS: Final = tuple(topic.filter for topic in (*TOPICS, *BLOB_TOPICS))
CONTROL_LEVELS: Final = frozenset(text.split("/", 1)[0] for text in CONTROL_FILTERS)


def is_control(topic: str) -> bool:
    """Tell whether a topic's first level belongs to Roost's own control topics."""
    return topic.split("/", 1)[0] in CONTROL_LEVELS


def refuse_control_outputs(request: TaskRequest) -> None:
    """Keep a guest from giving orders through its outputs.

    Raises:
        Refused: launch_task.
    """
    for output in request.outputs:
        if is_control(output.topic) or output.topic.startswith("$"):
            text = f"task '{request.task_id}': its output '{output.file}' may not go to"
            raise Refused(LAUNCH_TASK, f"{text} '{output.topic[:200]}', one of Roost's own topics")
