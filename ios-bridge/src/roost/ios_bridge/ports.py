"""What the bridge's adapters need of the world; real: ``adapters.mqtt``, fake: the tests'."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from roost.chassis.effects import Publish


class Transport(Protocol):
    """Payloads to and from the broker."""

    def fetch_topic(self, topic: str, into: Path, timeout_s: float) -> None:
        """Write what a retained topic holds, inline or as a blob, to a file.

        Raises:
            roost.chassis.errors.ChassisError: it did not come whole, or not in time.
            roost.wire.refusal.Refused: it came malformed.
        """

    def fetch_blob(self, owner: str, sha256: str, into: Path, timeout_s: float) -> None:
        """Write a blob to a file, verified.

        Raises:
            roost.chassis.errors.ChassisError: it did not come whole, or not in time.
            roost.wire.refusal.Refused: its manifest is none.
        """

    def send(self, messages: Iterable[Publish], timeout_s: float) -> None:
        """Publish messages and return when the broker has them.

        Raises:
            roost.chassis.errors.FetchTimeout: the broker did not acknowledge in time.
            roost.chassis.errors.BrokerRefused: it refused one.
            roost.ios_bridge.errors.OutputRefused: one is too large for it.
        """
