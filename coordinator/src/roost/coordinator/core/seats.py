"""One record for each participant of a round, so that news of one touches no other.

A seat is stored under its round and participant. Who has one is invited; in which order they
are averaged says the roster, which is written once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SEPARATOR: Final = "/"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A readable update that lies in the spool.

    Attributes:
        sender: From the source topic alone.
        round_id: What the payload says.
        base_model_uri: What the payload says.
        num_samples: What the payload says.
        metrics: What the payload says.
        spool: Name of its file; unique to this arrival.
        shapes: Digest over names and shapes.
        dtypes: Digest over names and types; None for JSON, whose numbers have no type.
        summary: Its tensors, for people.
    """

    sender: str
    round_id: str
    base_model_uri: str
    num_samples: int
    metrics: Mapping[str, float]
    spool: str
    shapes: str
    dtypes: str | None
    summary: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """An update that counts."""

    spool: str
    num_samples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Roster:
    """Who was invited, in the order in which updates are averaged."""

    participants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seat:
    """What is known of one participant.

    Attributes:
        accepted: Its update that counts.
        held: Its update that waits until the base model was read.
        turn: Tells in which order the updates came that wait.
        refused: Name of the last refusal of an update.
        failed: Why its task cannot bring an update.
        succeeded: Whether its task succeeded.
    """

    accepted: Accepted | None = None
    held: Arrival | None = None
    turn: int = 0
    refused: str | None = None
    failed: str | None = None
    succeeded: bool = False

    @property
    def out(self) -> bool:
        """Whether no update can be expected any more, nor was one accepted or waits.

        Its task failed, or succeeded with an update that was refused. Being offline is no failure.
        """
        if self.accepted is not None or self.held is not None:
            return False
        return self.failed is not None or (self.refused is not None and self.succeeded)

    @property
    def trouble(self) -> str | None:
        """What is known to have gone wrong, unless an update was accepted."""
        return None if self.accepted is not None else self.refused or self.failed


EMPTY: Final = Seat()


def seat_id(round_id: str, participant: str) -> str:
    """Return the id under which a participant's records are kept; both parts lack the separator."""
    return f"{round_id}{SEPARATOR}{participant}"
