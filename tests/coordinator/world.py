"""A world for the coordinator's core: it keeps states and timers, and can play the adapters.

After every event the invariants are checked that must hold whatever happens.
"""

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from roost.chassis.core import Connected, Disconnected, Started, TimerFired
from roost.chassis.effects import ClearTimer, Note, Publish, SetTimer
from roost.chassis.states import States
from roost.coordinator.core.desk import Desk
from roost.coordinator.core.effects import Average, DropSpools, FetchModel, PublishModel
from roost.coordinator.core.events import (
    Averaged,
    BaseRead,
    IndexRead,
    PropletSeen,
    RoundOrdered,
    TaskChanged,
    UpdateArrived,
)
from roost.coordinator.core.facts import Keep, TaskFact
from roost.coordinator.core.guards import TRANSITIONS
from roost.coordinator.core.seats import Arrival, Seat, seat_id
from roost.coordinator.core.state import Round
from roost.protocol.round.messages import (
    CoordinatorState,
    ExperimentState,
    ModelIndex,
    ModelLine,
    ModelVersion,
    RoundComplete,
    RoundStart,
    RoundState,
    RoundStatus,
)
from roost.protocol.task.messages import TaskStatus

BASE = "fl/models/global_model_v0"
DIGEST = "00" * 32
SHAPES, DTYPES = "shapes", "dtypes"
IMAGE = "oci://example/guest:1"


def sha(payload: str) -> str:
    """Return the digest of a text."""
    return hashlib.sha256(payload.encode()).hexdigest()


def version(
    number: int, digest: str = DIGEST, publish_id: str = "initial", name: str = "global_model"
) -> ModelVersion:
    """Return an entry of the index."""
    return ModelVersion(
        version=number,
        topic=f"fl/models/{name}_v{number}",
        digest=digest,
        sha256="11" * 32,
        size=1000,
        form="safetensors",
        publish_id=publish_id,
    )


@dataclass
class World:
    """A coordinator's core with everything around it played."""

    keep: Keep = field(default_factory=Keep)
    answers: bool = True
    now: float = 1_000.0
    states: States = field(default_factory=States)
    timers: dict[str, float] = field(default_factory=dict)
    effects: list[Any] = field(default_factory=list)
    versions: list[ModelVersion] = field(default_factory=lambda: [version(0)])
    spools: dict[str, str] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)
    server_away: bool = False
    hold_base: bool = False
    held: list[str] = field(default_factory=list)
    _numbers: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.desk = Desk(self.keep)
        self.happen(Started(self.now))

    # Making things happen

    def happen(self, event: Any) -> list[Any]:
        """Let one event happen and return its effects, and those of what it brought about."""
        before = {each: (self.round(each), self.seats(each)) for each in self.rounds()}
        decision = self.desk.handle(event, self.states)
        for key, state in decision.puts.items():
            self.states.put(key, state)
        for effect in decision.effects:
            match effect:
                case SetTimer(key=timer, at=at):
                    self.timers[timer] = at
                case ClearTimer(key=timer):
                    self.timers.pop(timer, None)
        made = list(decision.effects)
        self.effects.extend(made)
        self._check(event, before, made)
        if self.answers:
            for effect in list(made):
                made.extend(self._answer(effect))
        return made

    def _answer(self, effect: Any) -> list[Any]:
        match effect:
            case FetchModel(for_id=for_id):
                self.held.append(for_id)
                return [] if self.hold_base else self.read_bases()
            case Average(round_id=round_id, updates=updates):
                return self.happen(Averaged(self.now, round_id, sha(repr(updates))))
            case PublishModel() if not self.server_away:
                return self.serve(effect)
        return []

    def read_bases(self) -> list[Any]:
        """Let the base models be read that were asked for."""
        held, self.held = self.held, []
        events = (BaseRead(self.now, for_id, SHAPES, DTYPES, "w f4(2)") for for_id in held)
        return [effect for event in events for effect in self.happen(event)]

    def serve(self, effect: PublishModel) -> list[Any]:
        """Take a model in as the model server does, and publish the index."""
        known = [each for each in self.versions if each.publish_id == effect.publish_id]
        if not known and effect.version == len(self.versions):
            entry = version(effect.version, effect.digest, effect.publish_id, effect.name)
            self.versions.append(entry)
        return self.index()

    def index(self) -> list[Any]:
        """Let the index arrive, if connected."""
        if not self.connected:
            return []
        return self.happen(IndexRead(self.now, self.current_index()))

    def happen_index(self, index: ModelIndex) -> list[Any]:
        """Let this very index arrive."""
        return self.happen(IndexRead(self.now, index))

    def current_index(self) -> ModelIndex:
        """Return what the model server has."""
        if not self.versions:
            return ModelIndex()
        line = ModelLine(latest=self.versions[-1].version, versions=tuple(self.versions))
        return ModelIndex(models={"global_model": line})

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self.states.get("link", "") is not None

    def connect(self) -> list[Any]:
        """Connect to the broker."""
        return self.happen(Connected(self.now, 1))

    def disconnect(self) -> list[Any]:
        """Lose the connection."""
        return self.happen(Disconnected(self.now))

    def restart(self) -> list[Any]:
        """End the process and start it again: what is not stored is gone, timers are not."""
        for kind in self.desk.volatile:
            for id_ in list(self.states.all(kind)):
                self.states.put((kind, id_), None)
        return self.happen(Started(self.now))

    def see(self, *proplets: str) -> list[Any]:
        """Let presences arrive."""
        return [effect for each in proplets for effect in self.happen(PropletSeen(self.now, each))]

    def pass_time(self, seconds: float) -> list[Any]:
        """Let time pass; timers fire in their order."""
        end = self.now + seconds
        made: list[Any] = []
        while due := sorted((at, key) for key, at in self.timers.items() if at <= end):
            at, key = due[0]
            self.now = max(self.now, at)
            del self.timers[key]
            made += self.happen(TimerFired(self.now, key))
        self.now = end
        return made

    def order(
        self, round_id: str = "r", who: Iterable[str] = ("a", "b", "c"), k: int = 2, **more: Any
    ) -> list[Any]:
        """Start a round."""
        fields: dict[str, Any] = {"model_uri": BASE, "task_wasm_image": IMAGE, "timeout_s": 60.0}
        start = RoundStart(
            round_id=round_id, participants=tuple(who), k_of_n=k, **{**fields, **more}
        )
        return self.order_as(start)

    def order_as(self, start: RoundStart) -> list[Any]:
        """Start a round by this start."""
        payload = start.encode().decode()
        return self.happen(RoundOrdered(self.now, start, payload, sha(payload)))

    def open(
        self, round_id: str = "r", who: Iterable[str] = ("a", "b", "c"), k: int = 2, **more: Any
    ) -> list[Any]:
        """Bring a world to life with one open round."""
        self.connect()
        self.see(*who)
        self.index()
        return self.order(round_id, who, k, **more)

    def arrive(self, sender: str, round_id: str = "r", /, **more: Any) -> list[Any]:
        """Let a readable update arrive."""
        return self.happen(
            UpdateArrived(self.now, round_id, self.arrival(sender, round_id, **more))
        )

    def happen_update(self, arrival: Arrival) -> list[Any]:
        """Let this very update arrive for its own round."""
        return self.happen(UpdateArrived(self.now, arrival.round_id, arrival))

    def arrival(self, sender: str, round_id: str = "r", /, **more: Any) -> Arrival:
        """Return an update that is valid but for what is said."""
        spool = f"{round_id}/{sender}.{next(self._numbers)}"
        self.spools[spool] = sender
        if more:
            self.bad.add(spool)
        good = Arrival(sender, round_id, BASE, 10, {"loss": 1.0}, spool, SHAPES, DTYPES, "w f4(2)")
        return replace(good, **more)

    def task(
        self,
        who: str,
        status: TaskStatus,
        round_id: str = "r",
        reason: str | None = None,
        start: str | None = None,
        detail: str | None = None,
    ) -> list[Any]:
        """Let a task's state arrive."""
        round_ = self.states.get("round", round_id)
        sha256 = start or (round_.start_sha256 if round_ else "other")
        fact = TaskFact(f"{round_id}:{who}", status, sha256, reason, detail)
        return self.happen(TaskChanged(self.now, round_id, who, fact))

    # Looking

    def rounds(self) -> Mapping[str, Round]:
        """Return all rounds."""
        return dict(self.states.all("round"))

    def round(self, round_id: str = "r") -> Round:
        """Return one round."""
        found: Round = self.states.get("round", round_id)
        return found

    def participants(self, round_id: str = "r") -> tuple[str, ...]:
        """Return who was invited, as long as that is known."""
        roster = self.states.get("roster", round_id)
        return roster.participants if roster else ()

    def seats(self, round_id: str = "r") -> dict[str, Seat]:
        """Return what is known of each participant, in the order of the start."""
        return {
            each: self.states.get("seat", seat_id(round_id, each))
            for each in self.participants(round_id)
        }

    def accepted(self, round_id: str = "r") -> set[str]:
        """Return whose updates count."""
        return {who for who, seat in self.seats(round_id).items() if seat.accepted}

    def told(self, topic: str) -> list[bytes]:
        """Return what was published on a topic."""
        return [
            each.payload
            for each in self.effects
            if isinstance(each, Publish) and each.topic == topic
        ]

    def outcome(self, round_id: str = "r") -> RoundComplete:
        """Return a round's outcome."""
        return RoundComplete.decode(self.told(f"fl/rounds/{round_id}/complete")[-1])

    def state(self, round_id: str = "r") -> RoundState:
        """Return a round's told state."""
        return RoundState.decode(self.told(f"fl/rounds/{round_id}/state")[-1])

    def ledger(self) -> CoordinatorState:
        """Return the coordinator's own told state."""
        return CoordinatorState.decode(self.told("fl/coordinator/state")[-1])

    def experiment(self, experiment_id: str) -> ExperimentState:
        """Return an experiment's told state."""
        return ExperimentState.decode(self.told(f"fl/experiments/{experiment_id}/state")[-1])

    def notes(self, effects: Iterable[Any] | None = None) -> list[str]:
        """Return the names of log events."""
        return [
            each.event
            for each in (self.effects if effects is None else effects)
            if isinstance(each, Note)
        ]

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the effects of one kind."""
        return [each for each in self.effects if isinstance(each, kind)]

    # Invariants

    def _check(self, event: Any, before: Mapping[str, Any], made: list[Any]) -> None:
        dropped = {spool for each in made if isinstance(each, DropSpools) for spool in each.spools}
        for round_id, round_ in self.rounds().items():
            seats = self.seats(round_id)
            self._check_counters(round_, seats)
            round_before, seats_before = before.get(round_id, (None, {}))
            self._check_round(round_before, seats_before, round_, seats)
            accepted = {seat.accepted.spool for seat in seats.values() if seat.accepted}
            held = {seat.held.spool for seat in seats.values() if seat.held}
            assert not (accepted | held) & dropped, "what counts is never dropped"
            assert not accepted & self.bad
            if round_.base and round_.base.shapes:
                assert not held, "what waited was judged once the base was read"
            if isinstance(event, UpdateArrived) and event.round_id == round_id:
                spool = event.arrival.spool
                kept = accepted | held
                assert (spool in kept) != (spool in dropped), "an update counts or is dropped"
        for each in made:
            if isinstance(each, Average):
                self._check_average(each)
        self._check_records()

    @staticmethod
    def _check_counters(round_: Round, seats: Mapping[str, Seat]) -> None:
        if not seats:
            return
        all_ = list(seats.values())
        assert round_.invited >= len(all_)
        assert round_.updates == sum(each.accepted is not None for each in all_)
        assert round_.held == sum(each.held is not None for each in all_)
        assert round_.failures == sum(each.failed is not None for each in all_)
        assert round_.out == sum(each.out for each in all_)
        assert set(round_.first_failed) <= {who for who, seat in seats.items() if seat.failed}

    @staticmethod
    def _check_round(
        before: Round | None,
        seats_before: Mapping[str, Seat],
        after: Round,
        seats: Mapping[str, Seat],
    ) -> None:
        assert after.updates <= max(after.policy.k, 0), "no more than k are accepted"
        assert (after.ended_at is not None) == after.status.final
        if seats:
            for who, seat in seats_before.items():
                if seat.accepted is not None:
                    assert seats[who].accepted == seat.accepted, "what was accepted stays"
        if before is not None and not before.collecting:
            assert after.updates == before.updates, "nothing counts after the close"
            for who, seat in seats.items():
                assert seat.accepted == seats_before[who].accepted
        if before is None or before.status is after.status:
            return
        reachable, new = {before.status}, {before.status}
        while new:
            new = {to for each in new for to in TRANSITIONS[each].values()} - reachable
            reachable |= new
        assert after.status in reachable, "only along the table"

    def _check_average(self, average: Average) -> None:
        round_ = self.round(average.round_id)
        senders = [self.spools[each.spool] for each in average.updates]
        counted = self.accepted(average.round_id)
        order = [each for each in self.participants(average.round_id) if each in counted]
        assert senders == order, "everyone once, in the order of the start"
        assert len(senders) >= min(round_.policy.k, round_.policy.fewest)
        assert round_.status is not RoundStatus.OPEN

    def _check_records(self) -> None:
        """No record outlives its round, and a round that collects has them all."""
        rounds, rosters = self.states.all("round"), self.states.all("roster")
        assert set(rosters) <= set(rounds), "only rounds have rosters"
        wanted = {seat_id(each, who) for each in rosters for who in self.participants(each)}
        assert set(self.states.all("seat")) == wanted, "everyone invited has a seat, no one else"
        for round_ in rounds.values():
            assert round_.status.final or round_.round_id in rosters
            assert round_.status.final == (self.states.get("outcome", round_.round_id) is not None)
        for id_ in self.states.all("task"):
            round_id = id_.partition("/")[0]
            running = round_id in rounds and not rounds[round_id].status.final
            stray = self.states.get("stray", round_id) is not None
            assert stray or (running and id_ in wanted), "tasks are forgotten with their round"
