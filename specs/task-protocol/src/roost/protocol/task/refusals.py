"""Refusals of the task protocol (numbers 2xx)."""

from typing import Final

from roost.wire.refusal import Refusal

LAUNCH_FIELD: Final = Refusal(
    201, "launch_field", "Send the field, or give it a default in the binding."
)
LAUNCH_TASK: Final = Refusal(202, "launch_task", "Send what the task request's schema allows.")
LAUNCH_KEY_REUSED: Final = Refusal(
    203, "launch_key_reused", "Use a new id; the first launch of this one stands."
)
LAUNCH_LIST: Final = Refusal(204, "launch_list", "Send a non-empty list of distinct ids.")
UNKNOWN_TASK: Final = Refusal(205, "unknown_task", "Check the id with `roost task list`.")
TASK_ENDED: Final = Refusal(206, "task_ended", "Nothing to do: the task has ended.")
FORWARD_TOO_LARGE: Final = Refusal(
    207, "forward_too_large", "Send it as a blob with a manifest, or raise the broker's limit."
)
BINDING_INVALID: Final = Refusal(208, "binding_invalid", "Correct the file and reload.")

TASK_REFUSALS: Final = (
    LAUNCH_FIELD,
    LAUNCH_TASK,
    LAUNCH_KEY_REUSED,
    LAUNCH_LIST,
    UNKNOWN_TASK,
    TASK_ENDED,
    FORWARD_TOO_LARGE,
    BINDING_INVALID,
)
