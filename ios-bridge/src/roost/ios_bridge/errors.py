"""The error tree of the bridge; drawn in the package's docstring."""

from roost.protocol.task.messages import FailureReason


class BridgeError(Exception):
    """Something cannot go on; the message says why and what to do."""


class NotToBeHad(BridgeError):  # noqa: N818 - names an outcome
    """An image or an input could not be had, or may not be used here.

    Attributes:
        reason: The name of the task's failure.
    """

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class GuardRefused(BridgeError):  # noqa: N818 - names an outcome
    """A phone sent to the broker what a phone may not."""


class OutputRefused(BridgeError):  # noqa: N818 - names an outcome
    """The broker will never take an output."""
