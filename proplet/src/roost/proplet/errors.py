"""The error tree of the proplet; drawn in the package's docstring."""

from typing import ClassVar

from roost.protocol.task.messages import FailureReason


class PropletError(Exception):
    """A task cannot go on; the message says why and what to do.

    Attributes:
        reason: The name of the task's failure.
    """

    reason: ClassVar[FailureReason] = FailureReason.INTERNAL


class ImageUnavailable(PropletError):  # noqa: N818 - names an outcome, as the others
    """An image could not be had from where its reference points."""

    reason = FailureReason.IMAGE_UNAVAILABLE


class ImageRefused(PropletError):  # noqa: N818
    """An image is there, and is no program that this proplet runs."""

    reason = FailureReason.IMAGE_REFUSED


class InputUnavailable(PropletError):  # noqa: N818
    """An input could not be had."""

    reason = FailureReason.INPUT_UNAVAILABLE


class MountUnknown(PropletError):  # noqa: N818
    """A task names a data mount that this device has not got."""

    reason = FailureReason.MOUNT_UNKNOWN


class OutputRefused(PropletError):  # noqa: N818
    """The broker will never take an output."""

    reason = FailureReason.OUTPUT_TOO_LARGE


class TaskStopped(PropletError):  # noqa: N818
    """Someone stopped the task while it was being prepared."""
