"""The topic table of the task protocol: the only place with its topic strings."""

from typing import Final

from roost.protocol.task.messages import (
    CancelTask,
    LaunchReply,
    Presence,
    ReloadWorkloads,
    Report,
    StartTask,
    StopTask,
    TaskRequest,
    TaskState,
    Telemetry,
    WorkloadsState,
)
from roost.wire.topic import Topic

OPERATOR, MANAGER, PROPLET, ANYONE = "operator", "manager", "proplet", "anyone"
LAUNCHER: Final = "launcher"

LAUNCH: Final = Topic(
    "tasks/launch",
    TaskRequest,
    (OPERATOR,),
    (MANAGER,),
    retained=False,
    about="Run one task; answered on the MQTT 5 response topic.",
)
LAUNCH_REPLY: Final = Topic(
    "replies/{client}/launch",
    LaunchReply,
    (MANAGER, OPERATOR),
    (OPERATOR,),
    retained=False,
    about="Whether the launch was accepted; the only place for response topics. A client may send "
    "itself a message here: when it comes back, all that was sent before has come.",
)
CANCEL: Final = Topic(
    "tasks/{task_id}/cancel",
    CancelTask,
    (OPERATOR, LAUNCHER),
    (MANAGER,),
    retained=False,
    about="End a task that has not ended; an empty payload will do.",
)
RESEND: Final = Topic(
    "tasks/{task_id}/resend",
    None,
    (OPERATOR, LAUNCHER),
    (MANAGER,),
    retained=False,
    about="Send the outputs of a succeeded task again; passed on to its proplet.",
)
STATE: Final = Topic(
    "tasks/{task_id}/state",
    TaskState,
    (MANAGER,),
    (ANYONE,),
    retained=True,
    about="Where a task stands; expires 7 days after its end.",
)
PRESENCE: Final = Topic(
    "proplets/{proplet_id}/presence",
    Presence,
    (PROPLET,),
    (ANYONE,),
    retained=True,
    about="What a proplet is and has, and its last will.",
)
TELEMETRY: Final = Topic(
    "proplets/{proplet_id}/telemetry",
    Telemetry,
    (PROPLET,),
    (ANYONE,),
    retained=True,
    about="How a proplet's device does, every 10 s.",
)
START: Final = Topic(
    "proplets/{proplet_id}/tasks/{task_id}/start",
    StartTask,
    (MANAGER,),
    (PROPLET,),
    retained=False,
    about="Run this attempt of a task.",
)
STOP: Final = Topic(
    "proplets/{proplet_id}/tasks/{task_id}/stop",
    StopTask,
    (MANAGER,),
    (PROPLET,),
    retained=False,
    about="End an attempt, or: its final report is recorded.",
)
RESEND_OUTPUTS: Final = Topic(
    "proplets/{proplet_id}/tasks/{task_id}/resend",
    None,
    (MANAGER,),
    (PROPLET,),
    retained=False,
    about="Publish the kept outputs again.",
)
REPORT: Final = Topic(
    "proplets/{proplet_id}/tasks/{task_id}/report",
    Report,
    (PROPLET,),
    (MANAGER,),
    retained=False,
    about="News of an attempt; the final one is repeated until recorded.",
)
WORKLOADS_RELOAD: Final = Topic(
    "workloads/reload",
    ReloadWorkloads,
    (OPERATOR,),
    (MANAGER,),
    retained=False,
    about="Read the workload bindings again.",
)
WORKLOADS_STATE: Final = Topic(
    "workloads/state",
    WorkloadsState,
    (MANAGER,),
    (ANYONE,),
    retained=True,
    about="Which bindings are in force, or why the last reload was refused.",
)

TOPICS: Final = (
    LAUNCH, LAUNCH_REPLY, CANCEL, RESEND, STATE, PRESENCE, TELEMETRY, START, STOP,
    RESEND_OUTPUTS, REPORT, WORKLOADS_RELOAD, WORKLOADS_STATE,
)  # fmt: skip
