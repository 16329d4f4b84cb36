"""Subscriptions to the topics of launch rules, which change while the manager runs."""

import random
from collections.abc import Callable, Iterable

from roost.chassis.ports import SessionPort
from roost.chassis.received import Received
from roost.chassis.session import Token
from roost.manager.core.events import Acknowledge, Ordered
from roost.manager.ports import Post


class LaunchSubscriptions:
    """Takes launching messages in; each is acknowledged once its outcome is committed."""

    def __init__(
        self, session: SessionPort, post: Post, clock: Callable[[], float], rng: random.Random
    ) -> None:
        """Use this connection; ``rng`` makes receipts that no other process has given."""
        self._session, self._post, self._clock, self._rng = session, post, clock, rng
        self._topics: set[str] = set()
        self._tokens: dict[str, Token] = {}

    def apply(self, topics: Iterable[str], gone: Iterable[str] = ()) -> None:
        """Subscribe to these filters, and no longer to those that are gone."""
        wanted = set(topics)
        for topic in sorted((self._topics | set(gone)) - wanted):
            self._session.unsubscribe(topic)
        for topic in sorted(wanted - self._topics):
            self._session.subscribe(topic, self._receive, as_published=True)
        self._topics = wanted

    def _receive(self, received: Received, token: Token) -> None:
        receipt = f"{self._rng.getrandbits(64):016x}"
        self._tokens[receipt] = token
        self._post(
            Ordered(
                self._clock(),
                received.topic,
                received.payload,
                received.retain,
                received.response_topic,
                received.correlation,
                receipt,
            )
        )

    def acknowledge(self, effect: Acknowledge) -> None:
        """Let the broker forget a message; a receipt of an earlier process is nobody's."""
        token = self._tokens.pop(effect.receipt, None)
        if token is not None:
            self._session.ack(token)
