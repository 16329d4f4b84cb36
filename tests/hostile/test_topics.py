"""Topics that strangers name, and topics on which their messages come."""

import queue
from typing import Any, Self

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import ValidationError
from roost.protocol.round.topics import ROUND_UPDATE
from roost.protocol.task.messages import Launch, Report, TaskInput, TaskOutput
from roost.protocol.task.topics import STATE
from roost.wire.message import MAX_WHOLE
from roost.wire.refusal import Refused
from roost.wire.topic import MAX_TOPIC_LEVELS, topic_problem

DEADLINE_S = 10.0
UNSENDABLE = [
    *("a\x01b", "a\nb", "a\x7fb", "a\x85b", "a\0b"),
    *("\ufdd0", "\ufffe", "a/\uffff", "\U0001ffff", "\U0010fffe"),
    "/" * MAX_TOPIC_LEVELS,
]
SENDABLE = ["a", "a/b", "/", "$SYS/x", "ä/ö", "a b", "\U0001f426", "/" * (MAX_TOPIC_LEVELS - 1)]


@pytest.mark.parametrize("topic", UNSENDABLE)
def test_topics_that_cost_the_connection_are_refused(topic: str) -> None:
    """As an input, an output, the topic of a launch (WIRE-062)."""
    assert topic_problem(topic) is not None
    for make in (
        lambda: TaskInput(name="in", topic=topic),
        lambda: TaskOutput(file="out", topic=topic),
        lambda: Launch(topic=topic, sha256="0" * 64, key="k"),
    ):
        with pytest.raises(ValidationError):
            make()


@pytest.mark.parametrize("topic", ["\ud800", "", "ä" * 2049])
def test_what_is_no_text_or_too_long_is_no_topic(topic: str) -> None:
    """Half a character cannot be sent, and brokers bound a topic's length (WIRE-062)."""
    assert topic_problem(topic) is not None


@pytest.mark.parametrize("topic", SENDABLE)
def test_other_topics_are_taken(topic: str) -> None:
    """Whatever MQTT allows (WIRE-062)."""
    assert topic_problem(topic) is None
    assert TaskInput(name="in", topic=topic).topic == topic


class Probe:
    """A bare client, which tells whether the broker ends its connection."""

    def __init__(self, port: int) -> None:
        self._came: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        self._client.on_connect = lambda *_: self._came.put("connected")
        self._client.on_publish = lambda *_: self._came.put("answered")
        self._client.on_disconnect = lambda *_: self._came.put("gone")
        self._port = port

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._came.get(timeout=DEADLINE_S) == "connected"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()

    def survives(self, topic: str) -> bool:
        """Publish on a topic and tell whether the connection stands."""
        self._client.publish(topic, b"x", qos=1)
        return self._came.get(timeout=DEADLINE_S) == "answered"


@pytest.mark.system
def test_the_broker_agrees(broker: Any) -> None:
    """What this side lets through costs no connection at mosquitto, what it refuses does.

    Without NUL, which paho refuses; and mosquitto's own limit is 200 levels. (WIRE-062)
    """
    for topic in SENDABLE:
        with Probe(broker.port) as probe:
            assert probe.survives(topic), repr(topic)
    costly = [topic for topic in UNSENDABLE if "\0" not in topic and "//" not in topic]
    for topic in [*costly, "/" * 250]:
        with Probe(broker.port) as probe:
            assert not probe.survives(topic), repr(topic)


@pytest.mark.parametrize("length", [201, 1000, 60_000])
def test_an_id_that_is_too_long_is_none(length: int) -> None:
    """It became the name of a file, and a topic in turn (WIRE-063)."""
    long = ":".join(["a" * 60] * (length // 61 + 1))[:length].rstrip(":")
    assert ROUND_UPDATE.match(f"fl/rounds/{long}/updates/p") is None or len(long) <= 200
    assert STATE.match(f"tasks/{long}/state") is None or len(long) <= 200
    if len(long) > 200:
        with pytest.raises(ValueError, match="do not make a topic"):
            STATE.format(task_id=long)


def test_the_longest_id_is_one() -> None:
    """At 200 characters (WIRE-063, WIRE-002)."""
    longest = ":".join(["a" * 49] * 4) + "a"
    assert len(longest) == 200
    assert STATE.match(STATE.format(task_id=longest)) == {"task_id": longest}


@pytest.mark.parametrize("number", [MAX_WHOLE + 1, 2**63, 2**64, 10**400])
def test_numbers_that_not_every_reader_holds_are_refused(number: int) -> None:
    """They would be other numbers elsewhere (WIRE-061)."""
    for field in ("attempt", "exit_code"):
        numbers = {"attempt": 1, "exit_code": 1, field: number}
        text = ",".join(f'"{name}":{value}' for name, value in numbers.items())
        payload = b'{"boot_id":"b","status":"failed",%s}' % text.encode()
        with pytest.raises(Refused, match=field):
            Report.decode(payload)
