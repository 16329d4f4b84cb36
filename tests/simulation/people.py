"""Who is no service: the operator, who orders and waits for answers; a stranger who lies."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Token
from roost.protocol.round.messages import (
    ExperimentState,
    ModelIndex,
    RoundComplete,
    RoundStatus,
)
from roost.protocol.round.topics import (
    EXPERIMENT_START,
    EXPERIMENT_STATE,
    MODEL_INDEX,
    MODEL_PUBLISH,
    MODEL_ROLLBACK,
    ROUND_COMPLETE,
    ROUND_START,
    ROUND_UPDATE,
)
from roost.protocol.task.messages import Report, ReportStatus
from roost.protocol.task.topics import CANCEL, LAUNCH, REPORT, START

from .broker import SimBroker
from .faults import BAD_UPDATE, STALE_REPORT, Faults
from .hub import EPOCH, Hub
from .scenario import (
    BASE,
    PROPLETS,
    STRANGER,
    TIMEOUT_S,
    VERSION_0,
    VERSION_1,
    Scenario,
    WantedRound,
    WantedTask,
    samples_of,
    tensors_of,
    update,
)
from .session import SimSession

REPEAT_S = 4.0
_TEMPTED = 0.5
_ANYONE = (*PROPLETS, STRANGER)


class Operator:
    """Publishes version 0, starts rounds, launches tasks.

    Version 0 and starts are sent again until they are answered, as ``roost`` does; launches and
    cancels are sent once, as with ``mosquitto_pub``.
    """

    def __init__(self, hub: Hub, broker: SimBroker, rng: Random, scenario: Scenario) -> None:
        self._hub, self._scenario = hub, scenario
        self.session = SimSession(hub, broker, "operator", rng)
        self.session.subscribe("fl/#", self._take)
        self.listed: set[str] = set()
        self.published: set[str] = set()
        self.experiment: ExperimentState | None = None
        self.seen: set[str] = set()
        self.ordered: set[str] = set()
        self.outcomes: dict[str, RoundComplete] = {}

    def start(self) -> None:
        """Connect, and order everything in its time."""
        self.session.start()
        topic = MODEL_PUBLISH.template
        message = Publish(topic, BASE, expiry_s=REPEAT_S)
        self._hub.after(0.4, lambda: self._until(lambda: VERSION_0 in self.listed, message))
        for wanted in self._scenario.rounds:
            self._hub.after(wanted.after_s, lambda wanted=wanted: self._start_round(wanted))
        for task in self._scenario.tasks:
            self._hub.after(task.after_s, lambda task=task: self._launch(task))
        if self._scenario.experiment_k is not None:
            self._hub.after(1.0, self._start_experiment)
        if self._scenario.rolls_back:
            self._hub.after(1.0, self._roll_back)

    def _take(self, received: Received, token: Token) -> None:
        self.session.ack(token)
        if received.topic == MODEL_INDEX.template and received.payload:
            lines = ModelIndex.decode(received.payload).models.values()
            for line in lines:
                self.listed |= {each.topic for each in line.versions}
                self.published |= {each.publish_id for each in line.versions}
        elif (ids := ROUND_COMPLETE.match(received.topic)) is not None and received.payload:
            self.outcomes[ids["round_id"]] = RoundComplete.decode(received.payload)
            self.seen.add(ids["round_id"])
        elif EXPERIMENT_STATE.match(received.topic) is not None and received.payload:
            self.experiment = ExperimentState.decode(received.payload)
        elif received.topic.startswith("fl/rounds/") and received.topic.endswith("/state"):
            self.seen.add(received.topic.split("/")[2])

    def _until(self, answered: Callable[[], bool], message: Publish) -> None:
        if not answered():
            self.session.publish(message)
            self._hub.after(REPEAT_S, lambda: self._until(answered, message))

    def _start_round(self, wanted: WantedRound) -> None:
        """Start a round once its base is listed, and until its state is seen."""
        if wanted.base not in self.listed:
            if not self._hopeless(wanted):
                self._hub.after(0.3, lambda: self._start_round(wanted))
            return
        self.ordered.add(wanted.round_id)
        message = Publish(ROUND_START.template, wanted.order(), expiry_s=REPEAT_S)
        self._until(lambda: wanted.round_id in self.seen, message)

    def _start_experiment(self) -> None:
        if VERSION_0 not in self.listed:
            self._hub.after(0.3, self._start_experiment)
            return
        order = self._scenario.experiment_order()
        message = Publish(EXPERIMENT_START.template, order, expiry_s=REPEAT_S)
        self._until(lambda: self.experiment is not None, message)

    def _roll_back(self) -> None:
        """Make a new version with version 0's content, once there is another one."""
        if VERSION_1 in self.listed:
            order = json.dumps({"version": 0, "rollback_id": "back"}).encode()
            message = Publish(MODEL_ROLLBACK.template, order, expiry_s=REPEAT_S)
            self._until(lambda: "rollback:back" in self.published, message)
        elif self._hub.now < EPOCH + TIMEOUT_S:
            self._hub.after(0.5, self._roll_back)

    def _hopeless(self, wanted: WantedRound) -> bool:
        first = self.outcomes.get("r1")
        return (
            wanted.base != VERSION_0
            and first is not None
            and first.outcome is not RoundStatus.COMPLETED
        )

    @property
    def rested(self) -> bool:
        """Whether all rounds that could be ordered were, and have ended, the experiment too."""
        wanted = {each.round_id for each in self._scenario.rounds if not self._hopeless(each)}
        ended = wanted <= self.ordered <= set(self.outcomes)
        running = self._scenario.experiment_k is not None and (
            self.experiment is None or not self.experiment.state.final
        )
        return ended and not running

    @property
    def content(self) -> bool:
        """Whether everything that was ordered has ended."""
        wants_back = self._scenario.rolls_back and VERSION_1 in self.listed
        return self.rested and ("rollback:back" in self.published or not wants_back)

    def _launch(self, task: WantedTask) -> None:
        self.session.publish(Publish(LAUNCH.template, task.order()))
        if task.cancel_after_s is not None:
            cancel = Publish(CANCEL.format(task_id=task.task_id))
            self._hub.after(task.cancel_after_s, lambda: self.session.publish(cancel))


class Liar:
    """Sends what no honest participant would: in the name of one, and in a stranger's."""

    def __init__(
        self, hub: Hub, broker: SimBroker, rng: Random, faults: Faults, scenario: Scenario
    ) -> None:
        self._hub, self._broker, self._rng = hub, broker, rng
        self._faults, self._scenario = faults, scenario
        self.session = SimSession(hub, broker, STRANGER, rng)
        self.lied: set[tuple[str, str]] = set()
        self._reports: list[tuple[str, Publish]] = []

    def start(self) -> None:
        """Connect, if lies are among the faults."""
        if self._faults.kinds & {BAD_UPDATE, STALE_REPORT}:
            self.session.start()

    def heard(self, client: str, message: Publish) -> None:
        """Lie when a task begins and there is something to gain."""
        if client in PROPLETS and REPORT.match(message.topic) is not None:
            self._reports.append((client, message))
        if client != "manager" or (ids := START.match(message.topic)) is None:
            return
        task, owner = ids["task_id"], ids["proplet_id"]
        self._maybe(BAD_UPDATE, lambda: self._bad_update(task))
        self._maybe(STALE_REPORT, lambda: self._stale_report(task, owner))

    def _maybe(self, kind: str, tell: Callable[[], None]) -> None:
        if kind in self._faults.kinds and self._rng.random() < _TEMPTED:
            moment = self._hub.now + self._rng.uniform(0.0, 1.5)
            if moment < self._faults.calm_at:
                self._hub.at(moment, tell)

    def _publish(self, who: str, message: Publish, kind: str) -> None:
        """Publish as if it came by the connection of who says it."""
        session = self._broker.subscribers.get(who)
        if self._broker.up and session is not None and session.client is not None:
            self._faults.hit(kind)
            self._broker.route(who, message)

    def _bad_update(self, task_id: str) -> None:
        wanted = self._round_of(task_id)
        if wanted is None:
            return
        who = self._rng.choice((*PROPLETS, STRANGER, STRANGER))
        victim = who if who != STRANGER else PROPLETS[0]
        tensors = tensors_of(victim, "r999", BASE)
        changes, base, properties = self._lie(wanted)
        payload = update(wanted.round_id, base, samples_of(victim), tensors, changes)
        if who != STRANGER:
            self.lied.add((wanted.round_id, who))
        topic = ROUND_UPDATE.format(round_id=wanted.round_id, proplet_id=who)
        self._publish(who, Publish(topic, payload, properties=properties), BAD_UPDATE)

    def _lie(self, wanted: WantedRound) -> tuple[dict[str, Any], str, tuple[tuple[str, str], ...]]:
        forged = ROUND_UPDATE.format(round_id=wanted.round_id, proplet_id=PROPLETS[1])
        lies: tuple[tuple[dict[str, Any], str], ...] = (
            ({}, "fl/models/global_model_v77"),
            ({"update": {"w": [float("nan"), 1.0], "b": 0.0}}, wanted.base),
            ({"update": {"w": [1.0, 2.0, 3.0], "b": 0.0}}, wanted.base),
            ({"num_samples": self._rng.choice((0, -5, 2_000_000_000))}, wanted.base),
            ({"round_id": "another"}, wanted.base),
            ({"update": "nothing"}, wanted.base),
            ({"v": 99}, wanted.base),
        )
        changes, base = self._rng.choice(lies)
        return changes, base, (("source-topic", forged),) if self._rng.random() < 0.5 else ()

    def _round_of(self, task_id: str) -> WantedRound | None:
        round_id = task_id.partition(":")[0]
        found = [each for each in self._scenario.rounds if each.round_id == round_id]
        return found[0] if found else None

    def _stale_report(self, task_id: str, owner: str) -> None:
        if self._reports and self._rng.random() < 0.3:
            self._publish(*self._rng.choice(self._reports), STALE_REPORT)
            return
        who = self._rng.choice([each for each in _ANYONE if each != owner])
        status = self._rng.choice(list(ReportStatus))
        report = Report(attempt=self._rng.choice((1, 1, 2, 7)), boot_id="x", status=status)
        topic = REPORT.format(proplet_id=who, task_id=task_id)
        self._publish(who, Publish(topic, report.encode()), STALE_REPORT)
