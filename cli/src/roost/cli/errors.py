"""What can go wrong in a command, and the exit code each kind ends with.

    CliError                1  the thing asked for failed
    ├── UsageProblem        2  the command line, or a file it names, cannot be used
    ├── NoBroker            3  no broker could be reached or started
    └── WaitedTooLong       4  an answer did not come in the time allowed

Ctrl-C ends a command with 130, as shells expect. Every message says what happened, to what, and
what to do next.
"""

from __future__ import annotations

from typing import ClassVar

OK = 0
INTERRUPTED = 130

__all__ = ["INTERRUPTED", "OK", "CliError", "NoBroker", "UsageProblem", "WaitedTooLong"]


class CliError(Exception):
    """The command did its work and the outcome is a failure.

    Attributes:
        exit_code: what the process exits with.
        details: machine-readable extras for `--json`.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.details = details


class UsageProblem(CliError):  # noqa: N818 - names what the user can mend
    """The command line, or a file it names, cannot be used as it is."""

    exit_code = 2


class NoBroker(CliError):  # noqa: N818 - names a state
    """No broker answers, or none could be started."""

    exit_code = 3


class WaitedTooLong(CliError):  # noqa: N818 - names what happened
    """The answer did not come in time; what was asked for may still happen."""

    exit_code = 4
