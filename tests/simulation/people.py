"""Who is no service: the operator, who orders and waits for the answer, as ``roost`` does."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Token
from roost.protocol.round.messages import ModelIndex, RoundComplete
from roost.protocol.round.topics import MODEL_INDEX, MODEL_PUBLISH, ROUND_COMPLETE, ROUND_START

from .broker import SimBroker
from .hub import Hub
from .session import SimSession

REPEAT_S = 4.0
IMAGE = "oci://registry.example/guest:1"


class Operator:
    """Publishes version 0 and starts rounds; repeats an order until it is answered."""

    def __init__(self, hub: Hub, broker: SimBroker, rng: Random) -> None:
        self._hub = hub
        self.session = SimSession(hub, broker, "operator", rng)
        self.session.subscribe("fl/#", self._take)
        self.listed: set[str] = set()
        self.seen: set[str] = set()
        self.outcomes: dict[str, RoundComplete] = {}
        self.session.start()

    def _take(self, received: Received, token: Token) -> None:
        self.session.ack(token)
        if received.topic == MODEL_INDEX.template and received.payload:
            lines = ModelIndex.decode(received.payload).models.values()
            self.listed |= {each.topic for line in lines for each in line.versions}
        elif (ids := ROUND_COMPLETE.match(received.topic)) is not None and received.payload:
            self.outcomes[ids["round_id"]] = RoundComplete.decode(received.payload)
            self.seen.add(ids["round_id"])
        elif received.topic.startswith("fl/rounds/") and received.topic.endswith("/state"):
            self.seen.add(received.topic.split("/")[2])

    def _until(self, answered: Callable[[], bool], message: Publish) -> None:
        if not answered():
            self.session.publish(message)
            self._hub.after(REPEAT_S, lambda: self._until(answered, message))

    def publish_model(self, payload: bytes) -> None:
        """Send version 0 until the index lists it."""
        topic = "fl/models/global_model_v0"
        message = Publish(MODEL_PUBLISH.template, payload, expiry_s=REPEAT_S)
        self._until(lambda: topic in self.listed, message)

    def start_round(self, order: dict[str, Any]) -> None:
        """Start a round once its base is listed, and until its state is seen."""
        if order["model_uri"] not in self.listed:
            self._hub.after(0.5, lambda: self.start_round(order))
            return
        payload = json.dumps(order).encode()
        message = Publish(ROUND_START.template, payload, expiry_s=REPEAT_S)
        self._until(lambda: order["round_id"] in self.seen, message)
