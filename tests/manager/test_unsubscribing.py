"""A forward that is gone is gone at the broker, whatever the connection does meanwhile."""

import itertools
import random
from types import SimpleNamespace
from typing import Any

import pytest
from paho.mqtt.enums import MQTTErrorCode
from roost.chassis.settings import BrokerSettings
from roost.manager.adapters.connection import Connection, Login

DONE = MQTTErrorCode.MQTT_ERR_SUCCESS
ACCEPTED: Any = SimpleNamespace(is_failure=False, value=0)


class Line:
    """Stands in for a connected client; each has packet ids of its own."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self._mids = itertools.count(1)

    def subscribe(self, topic_filter: str, *, options: Any) -> tuple[MQTTErrorCode, int]:
        """Note it."""
        assert options.QoS == 1
        self.told.append(("subscribe", topic_filter))
        return DONE, next(self._mids)

    def unsubscribe(self, topic_filter: str) -> tuple[MQTTErrorCode, int]:
        """Note it."""
        self.told.append(("unsubscribe", topic_filter))
        return DONE, next(self._mids)


def test_an_unsubscribe_is_said_again_until_it_is_confirmed() -> None:
    """On each connection (WIRE-031).

    Regression: it was forgotten once it was said, and the broker keeps the session for a week.
    """
    traffic: Any = SimpleNamespace(on_opened=lambda _limit: None)
    connection = Connection(
        BrokerSettings(), Login(), "c", traffic, rng=random.Random(1), fatal=pytest.fail
    )
    connection.subscribe(["b"], gone=["a"])

    def connect() -> list[tuple[str, str]]:
        line: Any = Line()
        connection._on_connect(line, None, ACCEPTED, ACCEPTED, None)
        told: list[tuple[str, str]] = line.told
        return told

    assert connect() == [("unsubscribe", "a"), ("subscribe", "b")]
    connection._on_answer(None, None, 2, [ACCEPTED], None)  # type: ignore[arg-type]
    assert connect() == [("unsubscribe", "a"), ("subscribe", "b")]
    connection._on_answer(None, None, 1, [ACCEPTED], None)  # type: ignore[arg-type]
    assert connect() == [("subscribe", "b")]
