"""An MQTT client for tests: everything it receives waits in a list until it is asked for."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from roost.wire.topic import matches

DEADLINE_S = 20.0


@dataclass(frozen=True)
class Message:
    """A message as it arrived."""

    topic: str
    payload: bytes
    retain: bool
    properties: dict[str, Any]

    @property
    def json(self) -> Any:
        """The payload decoded."""
        return json.loads(self.payload)

    @property
    def user(self) -> list[tuple[str, str]]:
        """The user properties."""
        return [tuple(pair) for pair in self.properties.get("UserProperty", [])]


class Client:
    """A connected client; use it as a context manager."""

    def __init__(
        self, port: int, name: str = "", protocol: int = paho.MQTTv5, reconnect_s: float = 1.0
    ) -> None:
        self._arrived: list[Message] = []
        self._changed = threading.Condition()
        self._subscribed = threading.Semaphore(0)
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion(protocol)
        )
        self._client.max_queued_messages_set(0)
        self._client.reconnect_delay_set(
            reconnect_s,  # type: ignore[arg-type] # fractions work
            reconnect_s,  # type: ignore[arg-type]
        )
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: self._subscribed.release()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        properties = {k: v for k, v in vars(message.properties or object).items() if k[0].isupper()}
        with self._changed:
            self._arrived.append(
                Message(message.topic, bytes(message.payload), bool(message.retain), properties)
            )
            self._changed.notify_all()

    def subscribe(self, *filters: str) -> None:
        """Subscribe and wait for the broker's answers."""
        for each in filters:
            self._client.subscribe(each, options=SubscribeOptions(qos=1))
        for _ in filters:
            assert self._subscribed.acquire(timeout=DEADLINE_S)

    def publish(
        self, topic: str, payload: Any = b"", *, retain: bool = False, qos: int = 1, **more: Any
    ) -> None:
        """Publish and wait for the broker's answer; anything but bytes is sent as JSON."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        properties = None
        if more:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            for name, value in more.items():
                setattr(properties, name, value)
        info = self._client.publish(topic, body, qos=qos, retain=retain, properties=properties)
        info.wait_for_publish(DEADLINE_S)
        assert info.is_published()

    def wait(
        self,
        topic_filter: str,
        wanted: Callable[[Message], bool] = lambda _: True,
        patience_s: float = DEADLINE_S,
    ) -> Message:
        """Take the first message of these topics that is wanted; wait for it if need be."""
        found: list[Message] = []

        def look() -> bool:
            for message in self._arrived:
                if matches(topic_filter, message.topic) and wanted(message):
                    found.append(message)
                    self._arrived.remove(message)
                    return True
            return False

        with self._changed:
            seen = self._changed.wait_for(look, patience_s)
            assert seen, f"nothing wanted on {topic_filter}; arrived: {self._arrived[-10:]}"
        return found[0]

    def wait_count(self, count: int) -> list[Message]:
        """Wait until so many messages are there and take all."""
        with self._changed:
            there = self._changed.wait_for(lambda: len(self._arrived) >= count, DEADLINE_S * 3)
            assert there, f"{len(self._arrived)} of {count}"
            taken, self._arrived = self._arrived, []
        return taken

    def state(self, task_id: str, *states: str) -> Any:
        """Wait until a task is shown in one of these states."""
        topic = f"tasks/{task_id}/state"
        return self.wait(topic, lambda message: message.json["state"] in states).json
