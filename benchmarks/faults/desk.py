"""Starts rounds, sees them end, and knows when a participant's guest runs."""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Session, Token
from roost.chassis.settings import BrokerSettings
from roost.chassis.transfer import Fetcher
from roost.protocol.round import topics
from roost.protocol.round.messages import RoundComplete, RoundStart
from roost.protocol.task import topics as task_topics
from roost.protocol.task.messages import Presence, PresenceStatus, TaskState, TaskStatus

from benchmarks.rounds.run import await_topics, offer_file, publish_model

WAIT_S = 90.0


class Desk:
    """An operator's connection.

    Attributes:
        image: Reference of the guest.
    """

    def __init__(self, url: str, guest: Path, proplets: Sequence[str]) -> None:
        """Connect and offer the guest, once every service is there."""
        self._session = Session(
            BrokerSettings(broker=url), "faults", rng=random.Random(1), clean=True
        )
        self._news = threading.Condition()
        self._tasks: dict[str, TaskState] = {}
        self._outcomes: dict[str, tuple[float, RoundComplete]] = {}
        self._presences: dict[str, Presence] = {}
        self._session.start()
        assert self._session.wait_connected(WAIT_S)
        ready = (task_topics.WORKLOADS_STATE, topics.MODEL_INDEX, topics.COORDINATOR_STATE)
        await_topics(self._session, [topic.format() for topic in ready])
        await_topics(
            self._session, [task_topics.PRESENCE.format(proplet_id=name) for name in proplets]
        )
        self.image = offer_file(self._session, guest, guest.parent)
        rows = (task_topics.STATE, topics.ROUND_COMPLETE, task_topics.PRESENCE)
        self._session.subscribe([row.filter for row in rows], self._take)

    def close(self) -> None:
        """Disconnect."""
        self._session.stop()

    def publish_model(self, model: Path) -> None:
        """Publish version 0 and wait until it can be had."""
        publish_model(self._session, model)
        topic = topics.MODEL.format(name="global_model", version=0)
        Fetcher(self._session).fetch_topic(topic, WAIT_S)

    def start(self, round_id: str, policy: Mapping[str, Any]) -> float:
        """Start a round on version 0 and return the moment."""
        start = RoundStart(
            round_id=round_id,
            model_uri=topics.MODEL.format(name="global_model", version=0),
            task_wasm_image=self.image,
            **policy,
        )
        begin = time.monotonic()
        self._session.publish(Publish(topics.ROUND_START.format(), start.encode()))
        return begin

    def await_running(self, round_id: str, proplet: str) -> None:
        """Wait until a participant's guest runs."""
        task_id = f"{round_id}:{proplet}"

        def runs() -> bool:
            state = self._tasks.get(task_id)
            return state is not None and state.state is TaskStatus.RUNNING

        self._await(runs, f"task {task_id} does not run")

    def await_outcome(self, round_id: str) -> tuple[float, RoundComplete]:
        """Wait until a round has ended; the moment, and what became of it."""
        self._await(lambda: round_id in self._outcomes, f"round {round_id} did not end")
        return self._outcomes[round_id]

    def await_online(self, proplet: str) -> None:
        """Wait until a proplet says that it is there."""

        def online() -> bool:
            presence = self._presences.get(proplet)
            return presence is not None and presence.status is PresenceStatus.ONLINE

        self._await(online, f"{proplet} does not come back")

    def _await(self, is_so: Callable[[], bool], problem: str) -> None:
        with self._news:
            assert self._news.wait_for(is_so, WAIT_S), problem

    def _take(self, received: Received, token: Token) -> None:
        self._session.ack(token)
        now, topic = time.monotonic(), received.topic
        with self._news:
            if not received.payload:
                return
            if task_topics.PRESENCE.match(topic):
                presence = Presence.decode(received.payload)
                self._presences[presence.proplet_id] = presence
            elif task_topics.STATE.match(topic):
                state = TaskState.decode(received.payload)
                self._tasks[state.task_id] = state
            elif not received.retain:
                outcome = RoundComplete.decode(received.payload)
                self._outcomes.setdefault(outcome.round_id, (now, outcome))
            self._news.notify_all()
