"""Rounds in a storm: hostile messages on every topic, and honest participants among them.

Each round must complete with exactly the updates that the oracle finds valid, the first of each
participant, and with their mean as the oracle computes it.
"""

import json
import random
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.coordinator.core.events import OrderRefused, RoundUnreadable, UpdateUnreadable
from roost.model_server.core.state import SubmissionUnreadable
from roost.protocol.round import topics as rounds
from roost.protocol.round.messages import (
    ExperimentStart,
    ExperimentStop,
    ModelIndex,
    Rollback,
    RoundComplete,
    RoundStart,
    RoundState,
)
from roost.protocol.task import topics as tasks
from roost.protocol.task.messages import (
    CancelTask,
    Presence,
    ReloadWorkloads,
    Report,
    StartTask,
    StopTask,
    TaskRequest,
    TaskState,
    Telemetry,
)
from roost.wire.blob import MANIFEST_CONTENT_TYPE, Manifest
from roost.wire.message import Message
from roost.wire.refusal import Refused
from safetensors.numpy import load

from . import oracle, samples
from .hosted import PROPLET, House
from .mutate import Mutator
from .shapes import BASE

PARTICIPANTS: Final = ("p1", "p2", "p3", "p4")
STORM: Final = 400
GUST: Final = 8
TURNED_DOWN: Final = (
    Refused,
    OrderRefused,
    RoundUnreadable,
    UpdateUnreadable,
    SubmissionUnreadable,
)
SOURCE: Final = "source-topic"


@dataclass
class Story:
    """What happened, for the end's report."""

    sent: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    wrong: list[str] = field(default_factory=list)


class Storm:
    """Sends messages and judges what the services make of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Start the services, a model, and the participants."""
        self._rng = random.Random(seed)
        self._mutator = Mutator(self._rng)
        self.story = Story()
        self.house = House(folder, seed, self._judge)
        self._round_id = ""
        self._counted: dict[str, tuple[int, Mapping[str, Any]]] = {}
        self._gust: list[Publish] = []
        self.house.send(Publish(rounds.MODEL_PUBLISH.template, samples.MODEL))
        for name in PARTICIPANTS:
            self._presence(name)
        self.house.send(seconds=5)
        assert BASE in self.house.broker.retained

    def _presence(self, name: str) -> None:
        card = {"proplet_id": name, "status": "online", "boot_id": "b"}
        topic = tasks.PRESENCE.format(proplet_id=name)
        self.house.send(Publish(topic, json.dumps(card).encode(), retain=True))

    # -- the judge -----------------------------------------------------------------------------

    def _judge(self, name: str, received: Received, event: Any) -> None:
        if isinstance(event, Exception) and not isinstance(event, Refused):
            trace = "".join(traceback.format_exception(event)[-3:])
            self.story.wrong.append(f"{name}: {received.topic} {received.payload!r:.2000}\n{trace}")
            return
        expected = _expected(name, received)
        accepted = event is not None and not isinstance(event, TURNED_DOWN)
        self.story.judged[f"{name} {'accepted' if accepted else 'refused'}"] += 1
        if expected is not None:
            text = f"{name}: {received.topic} {received.payload[:2000]!r} became {event!r:.500}"
            if accepted != expected:
                self.story.wrong.append(text)

    # -- rounds --------------------------------------------------------------------------------

    def round(self, size: int = STORM) -> None:
        """Live through one round: its start, the storm, what was still missing, its outcome."""
        self._round_id = f"round-{self.story.rounds}"
        self._counted = {}
        self.story.rounds += 1
        start = {
            "round_id": self._round_id,
            "model_uri": BASE,
            "task_wasm_image": samples.IMAGE,
            "participants": PARTICIPANTS,
            "k_of_n": len(PARTICIPANTS),
            "timeout_s": 3600,
        }
        self._honest(Publish(rounds.ROUND_START.template, json.dumps(start).encode()))
        for _ in range(size):
            self._blow()
        for name in PARTICIPANTS:
            self._update(name, self._rng.choice(samples.updates(self._round_id)))
        self._let_go()
        self.house.send(seconds=3)
        self._check()

    def _honest(self, message: Publish) -> None:
        self.story.sent["honest"] += 1
        self.house.send(message)

    def _update(self, sender: str, payload: bytes, **more: Any) -> None:
        """Send an update, and note whether the oracle counts it."""
        verdict = oracle.update(payload, self._round_id, BASE, samples.ARRAYS)
        if verdict is None:
            return
        source = rounds.ROUND_UPDATE.format(round_id=self._round_id, proplet_id=sender)
        properties = ((SOURCE, source),)
        topic = rounds.FORWARDED_UPDATE.template
        self._send("update", Publish(topic, payload, properties=properties, **more))
        if verdict and sender in PARTICIPANTS and not more:
            self._counted.setdefault(sender, verdict)

    def _check(self) -> None:
        topic = rounds.ROUND_COMPLETE.format(round_id=self._round_id)
        kept = self.house.broker.retained
        assert topic in kept, kept[rounds.ROUND_STATE.format(round_id=self._round_id)]
        outcome = RoundComplete.decode(kept[topic].payload)
        assert outcome.outcome == "completed", outcome
        verdicts = {name: outcome.verdicts[name] for name in PARTICIPANTS}
        assert verdicts == dict.fromkeys(PARTICIPANTS, "accepted")
        counted = [self._counted[name] for name in PARTICIPANTS]
        assert outcome.samples == sum(weight for weight, _ in counted)
        assert outcome.model_topic is not None
        found = load(kept[outcome.model_topic].payload)
        expected = oracle.mean(counted, samples.ARRAYS)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-6)

    def check_troubles(self) -> None:
        """Make sure that nothing raised, was set aside or given up."""
        troubles = [each for hosted in self.house.services.values() for each in hosted.troubles()]
        found = [*self.story.wrong, *troubles]
        assert not found, "\n".join(found[:10])

    # -- the storm -----------------------------------------------------------------------------

    def _send(self, kind: str, message: Publish) -> None:
        self.story.sent[kind] += 1
        self._gust.append(message)
        if len(self._gust) >= GUST:
            self._let_go()

    def _let_go(self) -> None:
        """Let what was sent arrive: services take several messages in one turn."""
        self.house.send(*self._gust)
        self._gust.clear()
        self.house.seen()

    def _blow(self) -> None:
        """Send one hostile message."""
        ways: tuple[tuple[int, Callable[[], None]], ...] = (
            (40, self._bad_update),
            (10, self._forged_update),
            (4, self._offered_update),
            (10, self._order),
            (16, self._task_side),
            (6, self._publish_model),
            (14, self._round_side),
        )
        self._rng.choices([way for _, way in ways], [weight for weight, _ in ways])[0]()

    def _mutated(self, kind: type[Message]) -> bytes:
        return self._mutator.payload(samples.text(kind))

    def _pool(self, prefix: str, size: int = 100) -> str:
        return f"{prefix}{self._rng.randrange(size)}"

    def _bad_update(self) -> None:
        payload = self._mutator.payload(self._rng.choice(samples.updates(self._round_id)))
        self._update(self._rng.choice(PARTICIPANTS), payload)

    def _forged_update(self) -> None:
        payload = self._rng.choice(samples.updates(self._round_id))
        own = rounds.ROUND_UPDATE.format(round_id=self._round_id, proplet_id="p1")
        other = rounds.ROUND_UPDATE.format(round_id=self._round_id, proplet_id=self._pool("s"))
        unknown = rounds.ROUND_UPDATE.format(round_id=self._pool("u-"), proplet_id="p1")
        sources = self._rng.choice(
            ((), (own, own), (own, other), (other,), (unknown,), (own + "/x",), ("é" + own,), ("",))
        )
        properties = tuple((SOURCE, source) for source in sources)
        topic = rounds.FORWARDED_UPDATE.template
        self._send("forged update", Publish(topic, payload, properties=properties))

    def _offered_update(self) -> None:
        if self._rng.random() < 0.5:
            sender = self._rng.choice(PARTICIPANTS)
            self._update(sender, self._mutated(Manifest), content_type=MANIFEST_CONTENT_TYPE)
            return
        topic = rounds.MODEL_PUBLISH.template
        message = Publish(topic, self._mutated(Manifest), content_type=MANIFEST_CONTENT_TYPE)
        self._send("manifest", message)

    def _order(self) -> None:
        topic, kind = self._rng.choice(
            (
                (tasks.LAUNCH.template, TaskRequest),
                (tasks.CANCEL.format(task_id=self._pool("t-")), CancelTask),
                (tasks.RESEND.format(task_id=self._pool("t-")), CancelTask),
                (tasks.WORKLOADS_RELOAD.template, ReloadWorkloads),
            )
        )
        payload = samples.text(kind)
        if kind is TaskRequest:
            request = {
                **samples.MESSAGES[kind],
                "task_id": self._pool("t-"),
                "proplet": self._rng.choice((PROPLET, "p1", None)),
                "deadline_s": self._rng.choice((0.01, 1, 30)),
            }
            payload = json.dumps(request).encode()
        retain = self._rng.random() < 0.05
        payload = self._mutator.payload(payload)
        self._send("order", Publish(self._mutator.topic(topic), payload, retain=retain))

    def _task_side(self) -> None:
        task_id, proplet = self._pool("t-"), self._rng.choice((PROPLET, self._pool("s", 20)))
        both = {"proplet_id": proplet, "task_id": task_id}
        topic, kind = self._rng.choice(
            (
                (tasks.START.format(**both), StartTask),
                (tasks.STOP.format(**both), StopTask),
                (tasks.RESEND_OUTPUTS.format(**both), StopTask),
                (tasks.REPORT.format(**both), Report),
                (tasks.PRESENCE.format(proplet_id=self._pool("s", 20)), Presence),
                (tasks.TELEMETRY.format(proplet_id=self._pool("s", 20)), Telemetry),
                (tasks.STATE.format(task_id="r:p1"), TaskState),
            )
        )
        payload = samples.text(kind)
        if kind is Presence:
            card = {**samples.MESSAGES[kind], "proplet_id": topic.split("/")[1]}
            payload = json.dumps(card).encode()
        payload = self._mutator.payload(payload)
        retain = self._rng.random() < 0.05
        self._send("task side", Publish(self._mutator.topic(topic), payload, retain=retain))

    def _publish_model(self) -> None:
        model = self._rng.choice((samples.JSON_MODEL, samples.MODEL))
        if model is samples.MODEL:
            model = self._mutator.tensors(model)
        topic = rounds.MODEL_PUBLISH.template
        self._send("model", Publish(topic, self._mutator.payload(model)))

    def _round_side(self) -> None:
        topic, kind = self._rng.choice(
            (
                (rounds.ROUND_START.template, RoundStart),
                (rounds.EXPERIMENT_START.template, ExperimentStart),
                (rounds.EXPERIMENT_STOP.format(experiment_id=self._pool("e-", 5)), ExperimentStop),
                (rounds.MODEL_ROLLBACK.template, Rollback),
                (rounds.MODEL_INDEX.template, ModelIndex),
                (rounds.ROUND_STATE.format(round_id=self._pool("s-", 50)), RoundState),
            )
        )
        payload = samples.text(kind)
        if kind is RoundStart:
            start = {**samples.MESSAGES[kind], "round_id": self._pool("s-", 50), "timeout_s": 1}
            payload = json.dumps(start).encode()
        payload = self._mutator.payload(payload)
        if kind is ModelIndex and oracle.message("ModelIndex", payload) is not False:
            return  # an index that can be read is the model server's word: others may not write it
        retain = self._rng.random() < 0.05
        self._send("round side", Publish(topic, payload, retain=retain))


# -- what is expected of the decoders --------------------------------------------------------


def _expected(name: str, received: Received) -> bool | None:
    """Tell whether a service's decoder must accept a message; None: its core decides."""
    return _EXPECTED[name](received)


def _by_manager(received: Received) -> bool | None:
    if tasks.REPORT.match(received.topic):
        return oracle.message("Report", received.payload)
    if ids := tasks.PRESENCE.match(received.topic):
        good = oracle.message("Presence", received.payload) if received.payload else None
        return good and json.loads(received.payload)["proplet_id"] == ids["proplet_id"]
    if tasks.TELEMETRY.match(received.topic) and not received.retain:
        return oracle.message("Telemetry", received.payload)
    return None


def _by_proplet(received: Received) -> bool | None:
    for row, kind in ((tasks.START, "StartTask"), (tasks.STOP, "StopTask")):
        if row.match(received.topic):
            return oracle.message(kind, received.payload) and not received.retain
    return None


def _by_coordinator(received: Received) -> bool | None:
    topic = received.topic
    orders = {
        rounds.ROUND_START.template: "RoundStart",
        rounds.EXPERIMENT_START.template: "ExperimentStart",
        rounds.MODEL_ROLLBACK.template: "Rollback",
    }
    if topic in orders:
        if received.retain:
            return False
        good = oracle.message(orders[topic], received.payload)
        return None if good and topic != rounds.MODEL_ROLLBACK.template else good
    if topic == rounds.MODEL_INDEX.template and received.payload:
        return oracle.message("ModelIndex", received.payload)
    sources = [value for name, value in received.properties if name == SOURCE]
    if topic == rounds.FORWARDED_UPDATE.template and len(sources) != 1:
        return False
    return None


def _by_model_server(received: Received) -> bool | None:
    if rounds.ROUND_STATE.match(received.topic) and received.payload:
        return oracle.message("RoundState", received.payload)
    if received.topic != rounds.MODEL_PUBLISH.template:
        return None
    if received.retain:
        return False
    if received.content_type == MANIFEST_CONTENT_TYPE:
        return oracle.message("Manifest", received.payload)
    readable = oracle.tensors(received.payload) is not None
    is_json = received.payload.lstrip()[:1] == b"{"
    return None if is_json or readable else False


_EXPECTED: Final[Mapping[str, Callable[[Received], bool | None]]] = {
    "manager": _by_manager,
    "proplet": _by_proplet,
    "coordinator": _by_coordinator,
    "model_server": _by_model_server,
}
