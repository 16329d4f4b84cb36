"""One round while one event happens to it: what is judged, and what it is judged with.

All that a step changes goes through here, so that the round's counters always are the sums over
its seats. Nothing but the event's own participant is read or written on the way of an update;
what looks at everyone happens once a round, or at bounded intervals.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from roost.chassis.effects import Effect
from roost.coordinator.core import lineages
from roost.coordinator.core.draft import Draft
from roost.coordinator.core.facts import Link, Sight, TaskFact
from roost.coordinator.core.publishing import claimed, model_name
from roost.coordinator.core.seats import EMPTY, Roster, Seat, seat_id
from roost.coordinator.core.state import Round
from roost.protocol.round.messages import ModelIndex


class Case:
    """A round's state and seats, local to one event.

    Attributes:
        round: The round as it is by now.
        at: The event's time, in epoch seconds.
    """

    def __init__(self, draft: Draft, round_: Round, at: float) -> None:
        """Begin with a round as it was before the event."""
        self.round, self.at = round_, at
        self._draft = draft

    # What changes

    def change(self, **fields: Any) -> None:
        """Give fields of the round other values."""
        self.round = replace(self.round, **fields)

    def emit(self, *effects: Effect) -> None:
        """Ask for effects, after those that were asked for."""
        self._draft.emit(*effects)

    def seat_everyone(self, participants: tuple[str, ...]) -> None:
        """Write down who is invited."""
        self._draft.put("roster", self.round.round_id, Roster(participants))
        for each in participants:
            self._draft.put("seat", self._id(each), EMPTY)
        self.change(invited=len(participants))

    def note_seat(self, participant: str, **fields: Any) -> None:
        """Learn something of an invited participant, and count it."""
        before: Seat = self._draft.get("seat", self._id(participant))
        after = replace(before, **fields)
        if after == before:
            return
        self._draft.put("seat", self._id(participant), after)
        round_ = self.round
        self.change(
            updates=round_.updates + (after.accepted is not None) - (before.accepted is not None),
            held=round_.held + (after.held is not None) - (before.held is not None),
            failures=round_.failures + (after.failed is not None) - (before.failed is not None),
            out=round_.out + after.out - before.out,
        )

    def pass_roll(self) -> bool:
        """Tell whether a presence came of everyone, going on where the last look ended.

        How far that was is known in this process alone, like the presences themselves.
        """
        round_id, roster = self.round.round_id, self.roster
        begin = reached = self._draft.get("roll", round_id) or 0
        while reached < len(roster) and self.saw(roster[reached]):
            reached += 1
        if reached != begin:
            self._draft.put("roll", round_id, reached)
        return reached == len(roster)

    # What it is judged with

    @property
    def known(self) -> bool:
        """Whether who was invited is still known; of old rounds it is not."""
        return self._draft.get("roster", self.round.round_id) is not None

    @property
    def roster(self) -> tuple[str, ...]:
        """Who was invited, in the order of the start."""
        roster: Roster | None = self._draft.get("roster", self.round.round_id)
        return roster.participants if roster else ()

    def seat(self, participant: str) -> Seat | None:
        """Return what is known of a participant; None: it was not invited."""
        seat: Seat | None = self._draft.get("seat", self._id(participant))
        return seat

    def seats(self) -> Iterator[tuple[str, Seat]]:
        """Yield everyone in the order of the start."""
        for each in self.roster:
            yield each, self._draft.get("seat", self._id(each))

    def missing(self) -> Iterator[tuple[str, Seat]]:
        """Yield who has no accepted update, in the order of the start."""
        return ((who, seat) for who, seat in self.seats() if seat.accepted is None)

    def task(self, participant: str) -> TaskFact | None:
        """Return what is known of a participant's task."""
        fact: TaskFact | None = self._draft.get("task", self._id(participant))
        return fact

    def saw(self, participant: str) -> bool:
        """Tell whether a presence of it ever came."""
        return self._draft.get("proplet", participant) is not None

    def is_offline(self, participant: str) -> bool:
        """Tell whether its last presence says that it is offline."""
        sight: Sight | None = self._draft.get("proplet", participant)
        return sight is not None and sight.offline

    @property
    def proplets(self) -> list[str]:
        """The ids of all proplets of which a presence came."""
        return sorted(self._draft.all("proplet"))

    @property
    def index(self) -> ModelIndex | None:
        """The index as received on the present connection."""
        index: ModelIndex | None = self._draft.get("index", "")
        return index

    @property
    def link(self) -> Link | None:
        """The present connection."""
        link: Link | None = self._draft.get("link", "")
        return link

    @property
    def claimed(self) -> frozenset[int]:
        """Version numbers that other publications of this model were sent with."""
        round_ = self.round
        return claimed(self._draft, model_name(round_.model_uri), round_.round_id)

    @property
    def is_lineage_known(self) -> bool:
        """Whether the base model is this coordinator's to number."""
        return lineages.is_known(self._draft, model_name(self.round.model_uri))

    @property
    def start(self) -> str:
        """The accepted start's text; empty once the round has ended."""
        start = self._draft.get("start", self.round.round_id)
        return start.payload if start else ""

    def _id(self, participant: str) -> str:
        return seat_id(self.round.round_id, participant)
