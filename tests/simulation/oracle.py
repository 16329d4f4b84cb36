"""What must hold after every step, whatever happens, and what must hold in the end.

The oracle sees what anybody sees who watches the broker, and what each store has committed. It
knows nothing of how a core keeps its state.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from roost.chassis.effects import Publish
from roost.manager.core.forward import SOURCE_TOPIC
from roost.protocol.round.messages import ModelIndex, RoundComplete, RoundState, RoundStatus
from roost.protocol.round.model import digest, parse_model
from roost.protocol.round.refusals import (
    UNKNOWN_MODEL,
    UNKNOWN_PARTICIPANT,
    UNREACHABLE_QUORUM,
)
from roost.protocol.round.topics import (
    FORWARDED_UPDATE,
    MODEL,
    MODEL_INDEX,
    ROUND_COMPLETE,
    ROUND_START,
    ROUND_STATE,
)
from roost.protocol.task.messages import Report, StopReason, StopTask, TaskState, TaskStatus
from roost.protocol.task.topics import LAUNCH, REPORT, START, STATE, STOP

from .adapters import mean
from .faults import DISK_FULL, Faults

_ORDER = list(RoundStatus)
_STOP_TAKES_S = 0.1
_NO_INPUT = "input_unavailable: nothing on fl/models/"
_NO_ROOM = "no space left on device"


class Broken(BaseException):
    """An invariant does not hold. No ``except Exception`` on its way out holds it up."""


@dataclass(frozen=True, slots=True)
class Known:
    """What was first said of a version, and may never change."""

    digest: str
    parent: int | None
    publish_id: str


@dataclass(slots=True)
class Oracle:
    """Watches one run.

    Attributes:
        evicts: Whether versions are dropped in this run.
        updates: Tensors and samples of every usable update that a participant sent, by
            (round, participant).
        secrets: Bytes that only one participant may send, and the only topics for them.
    """

    evicts: bool = False
    updates: dict[tuple[str, str], list[tuple[Mapping[str, Any], int]]] = field(
        default_factory=dict
    )
    secrets: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)  # digest by topic, as published
    versions: dict[tuple[str, int], Known] = field(default_factory=dict)
    listed: set[tuple[str, str]] = field(default_factory=set)  # topic and digest
    rounds: dict[str, RoundState] = field(default_factory=dict)
    complete: dict[str, bytes] = field(default_factory=dict)
    tasks: dict[str, TaskState] = field(default_factory=dict)
    stopped: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    reports: set[tuple[str, str, int, str]] = field(default_factory=set)

    def sent(
        self,
        round_id: str,
        who: str,
        payload: bytes,
        tensors: Mapping[str, Any],
        samples: int,
        topic: str,
    ) -> None:
        """Learn of an update that an honest guest made."""
        self.secrets[payload] = (who, topic)
        self.updates[round_id, who] = [(tensors, samples)]

    # -- what the broker routes ----------------------------------------------------------------

    def routed(self, client: str, message: Publish) -> None:
        """Look at a message that reached the broker."""
        topic, payload = message.topic, message.payload
        self._keep_secret(client, message)
        if topic == MODEL_INDEX.template:
            self._index(payload)
        elif payload and (ids := MODEL.match(topic)) is not None:
            self._model(topic, ids, payload)
        elif payload and (ids := ROUND_COMPLETE.match(topic)) is not None:
            self._complete(RoundComplete.decode(payload))
        elif (ids := REPORT.match(topic)) is not None:
            self._report(client, ids, payload)

    def _keep_secret(self, client: str, message: Publish) -> None:
        allowed = self.secrets.get(message.payload)
        if allowed is None:
            return
        owner, topic = allowed
        own = client == owner and message.topic == topic
        onward = client == "manager-fwd" and message.topic == FORWARDED_UPDATE.template
        sources = [value for name, value in message.properties if name == SOURCE_TOPIC]
        if not own and not (onward and sources == [topic]):
            raise Broken(f"{owner}'s private bytes went to {message.topic} by {client}")

    def _model(self, topic: str, ids: Mapping[str, str], payload: bytes) -> None:
        found = digest(parse_model(payload).tensors)
        if self.models.setdefault(topic, found) != found:
            raise Broken(f"{topic} was overwritten")
        known = self.versions.get((ids["name"], int(ids["version"])))
        if known is not None and known.digest != found:
            raise Broken(f"{topic} does not hold what the index lists")

    def _index(self, payload: bytes) -> None:
        for name, line in ModelIndex.decode(payload).models.items():
            numbers = [each.version for each in line.versions]
            if numbers != sorted(set(numbers)) or line.latest != numbers[-1]:
                raise Broken(f"the index lists versions {numbers}, latest {line.latest}")
            for each in line.versions:
                if self.models.get(each.topic) != each.digest:
                    raise Broken(f"the index lists {each.topic}, which nobody could read before")
                self._version(name, each)

    def _version(self, name: str, each: Any) -> None:
        known = Known(each.digest, each.parent, each.publish_id)
        if self.versions.setdefault((name, each.version), known) != known:
            raise Broken(f"version {each.version} of {name} changed")
        if each.version and (name, each.parent) not in self.versions:
            raise Broken(f"version {each.version} of {name} has no parent")
        if each.version and (name, each.version - 1) not in self.versions:
            raise Broken(f"{name} has version {each.version}, but not the one before")
        twins = [
            number
            for (other, number), one in self.versions.items()
            if (other, one.publish_id) == (name, each.publish_id)
        ]
        if len(twins) > 1:
            raise Broken(f"'{each.publish_id}' made versions {twins}")
        self.listed.add((each.topic, each.digest))

    def _complete(self, outcome: RoundComplete) -> None:
        if outcome.outcome is not RoundStatus.COMPLETED:
            return
        if (outcome.model_topic, outcome.model_digest) not in self.listed:
            raise Broken(f"'{outcome.round_id}' is complete before an index listed its version")

    def _report(self, client: str, ids: Mapping[str, str], payload: bytes) -> None:
        report = Report.decode(payload)
        if client == ids["proplet_id"]:
            self.reports.add((client, ids["task_id"], report.attempt, report.status.value))

    # -- what the services commit --------------------------------------------------------------

    def committed(self, name: str, kept: Iterable[Publish]) -> None:
        """Look at the retained topics that a commit changed."""
        for message in kept:
            topic, payload = message.topic, message.payload
            if not payload:
                continue
            if (ids := ROUND_STATE.match(topic)) is not None:
                self._round(ids["round_id"], RoundState.decode(payload))
            elif (ids := ROUND_COMPLETE.match(topic)) is not None:
                self._outcome(ids["round_id"], payload)
            elif (ids := STATE.match(topic)) is not None:
                self._task(ids["task_id"], TaskState.decode(payload))
        del name

    def _round(self, round_id: str, state: RoundState) -> None:
        before = self.rounds.get(round_id)
        self.rounds[round_id] = state
        if state.updates > state.participants:
            raise Broken(f"'{round_id}' counts {state.updates} of {state.participants} updates")
        if before is None:
            return
        if state.updates < before.updates:
            raise Broken(f"'{round_id}' lost an accepted update")
        if before.state.final and state.state is not before.state:
            raise Broken(f"'{round_id}' was {before.state} and is {state.state}")
        if _ORDER.index(state.state) < _ORDER.index(before.state):
            raise Broken(f"'{round_id}' went back from {before.state} to {state.state}")

    def _outcome(self, round_id: str, payload: bytes) -> None:
        if self.complete.setdefault(round_id, payload) != payload:
            raise Broken(f"the outcome of '{round_id}' changed")
        outcome = RoundComplete.decode(payload)
        accepted = [who for who, verdict in outcome.verdicts.items() if verdict == "accepted"]
        if len(accepted) != outcome.updates:
            raise Broken(f"'{round_id}' counts {outcome.updates} updates of {accepted}")
        if outcome.outcome is RoundStatus.COMPLETED:
            self._check_mean(round_id, accepted, outcome)

    def _check_mean(self, round_id: str, accepted: list[str], outcome: RoundComplete) -> None:
        """The new version is the mean of one update of each who was accepted."""
        sent = [self.updates.get((round_id, who), []) for who in accepted]
        for choice in product(*sent):
            samples = [each for _, each in choice]
            tensors = {
                name: mean([update[name] for update, _ in choice], samples)
                for name in (choice[0][0] if choice else ())
            }
            if sum(samples) == outcome.samples and digest(tensors) == outcome.model_digest:
                return
        raise Broken(f"the model of '{round_id}' is not the mean of one update of each: {accepted}")

    def _task(self, task_id: str, state: TaskState) -> None:
        before = self.tasks.get(task_id)
        self.tasks[task_id] = state
        if before is not None and before.state.final and state.state is not before.state:
            raise Broken(f"task '{task_id}' was {before.state} and is {state.state}")
        if before is not None and state.attempt < before.attempt:
            raise Broken(f"task '{task_id}' went back to attempt {state.attempt}")
        if state.state in (TaskStatus.SUCCEEDED, TaskStatus.FAILED) and state.reason != "lost":
            said = (state.proplet or "", task_id, state.attempt, state.state.value)
            if said not in self.reports:
                raise Broken(f"task '{task_id}' is {state.state}, which its proplet never said")

    # -- what is acknowledged, and what begins -------------------------------------------------

    def acknowledged(
        self, client: str, message: Publish, kept: Callable[[str], bool], at: float
    ) -> None:
        """Look at a PUBACK: what the message asked for must be on the disk of who sent it.

        Args:
            client: Who acknowledged.
            message: What.
            kept: Tells whether the client's store has a retained topic or an entity of that name.
            at: When.
        """
        topic = message.topic
        if client == "manager" and topic == LAUNCH.template:
            task_id = json.loads(message.payload)["task_id"]
            wanted = [STATE.format(task_id=task_id)]
        elif client in ("manager", "coordinator") and topic == ROUND_START.template:
            order = json.loads(message.payload)
            wanted = [ROUND_STATE.format(round_id=order["round_id"])]
            if client == "manager":
                tasks = (f"{order['round_id']}:{who}" for who in order["participants"])
                wanted = [STATE.format(task_id=each) for each in tasks]
        elif (ids := START.match(topic)) is not None:
            wanted = [ids["task_id"]]
        else:
            self._note_stop(client, message, at)
            return
        lost = [each for each in wanted if not kept(each)]
        if lost:
            raise Broken(f"{client} acknowledged {topic} and does not know of {lost}")

    def _note_stop(self, client: str, message: Publish, at: float) -> None:
        ids = STOP.match(message.topic)
        if ids is not None:
            stop = StopTask.decode(message.payload)
            if stop.reason is not StopReason.RECORDED:
                key = client, ids["task_id"]
                if stop.attempt > self.stopped.get(key, (0, at))[0]:
                    self.stopped[key] = stop.attempt, at

    def begins(self, who: str, task_id: str, attempt: int, at: float) -> None:
        """Look at a guest that is about to run; one that began as it was stopped is killed."""
        stopped, since = self.stopped.get((who, task_id), (0, at))
        if attempt <= stopped and at > since + _STOP_TAKES_S:
            raise Broken(f"{who} runs attempt {attempt} of '{task_id}' after it took in its stop")

    # -- in the end ----------------------------------------------------------------------------

    def judge(
        self, round_id: str, outcome: RoundComplete, faults: Faults, lied: set[tuple[str, str]]
    ) -> None:
        """Decide whether a round may have ended like this after what happened."""
        if outcome.outcome is RoundStatus.COMPLETED:
            return
        is_lied = round_id in {each for each, _ in lied}
        if outcome.reason == UNREACHABLE_QUORUM.name and is_lied:
            return  # who lies is refused, and not asked again
        if outcome.reason == UNKNOWN_PARTICIPANT.name and faults.fired:
            return  # its presence was forgotten, late, or never said while it was away: ROUND-007
        said = outcome.message or ""
        if self.evicts and (outcome.reason == UNKNOWN_MODEL.name or _NO_INPUT in said):
            return  # its base was dropped before its start was known to the model server
        if DISK_FULL in faults.fired and _NO_ROOM in said:
            return  # a guest had no room for its output
        raise Broken(f"'{round_id}' failed: {outcome.reason}: {outcome.message}")
