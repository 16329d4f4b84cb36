"""Acknowledgements leave in the order of arrival, whatever is finished first."""

import queue
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from roost.chassis.acks import AckOrder
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Session, Token
from roost.chassis.settings import BrokerSettings


@given(st.permutations(range(1, 9)), st.integers(0, 8))
def test_the_order_is_that_of_arrival(finished: list[int], missing: int) -> None:
    """All are acknowledged, each once, in order; none after one that is not finished."""
    sent: list[int] = []
    acks = AckOrder(sent.append)
    acks.restart(1)
    for mid in range(1, 9):
        acks.came(mid)
    for mid in finished:
        if mid != missing:
            acks.finish(1, mid)
    assert sent == [mid for mid in range(1, 9) if not missing or mid < missing]


def test_another_connection_begins_anew() -> None:
    """What came on a lost connection is neither acknowledged nor in the way."""
    sent: list[int] = []
    acks = AckOrder(sent.append)
    acks.restart(1)
    acks.came(5)
    acks.restart(2)
    acks.came(7)
    acks.finish(1, 5)
    acks.finish(2, 7)
    assert sent == [7]


def test_a_session_keeps_the_order(broker: Any) -> None:
    """Two messages finished in reverse are acknowledged in order, on a real broker.

    Regression: fetched chunks were acknowledged before orders that had come earlier, and the
    embedded broker ended the connection.
    """
    session = Session(BrokerSettings(broker=broker.url), "one", rng=random.Random(1), clean=True)
    arrived: queue.SimpleQueue[Token] = queue.SimpleQueue()
    sent: list[int] = []

    def take(_received: Received, token: Token) -> None:
        arrived.put(token)

    session.subscribe("a", take)
    session.start()
    assert session.wait_connected(10)
    session._client.ack = lambda mid, _qos: sent.append(mid)
    for _ in range(2):
        session.publish(Publish("a"))
    first, second = arrived.get(timeout=10), arrived.get(timeout=10)
    session.ack(second)
    assert sent == []
    session.ack(first)
    assert sent == [first.mid, second.mid]
    session.stop()
