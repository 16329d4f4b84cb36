"""One MQTT 5 connection: resubscribes, acknowledges by hand, backs off with jitter.

The broker keeps the session while this side is away (``session_expiry_s``), but nothing relies
on that: after every connect all filters are subscribed again, and the ``connected`` callback
lets owners publish their retained topics again. All callbacks run on paho's network thread.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions
from roost.chassis.acks import AckOrder
from roost.chassis.client import make_client, session_expiry
from roost.chassis.effects import Publish
from roost.chassis.logs import get_logger
from roost.chassis.packets import packet_bytes, publish_properties, received_from
from roost.chassis.received import Received
from roost.chassis.settings import BrokerSettings
from roost.chassis.subscriptions import Subscriptions
from roost.chassis.tls import why_distrusted

SESSION_EXPIRY_S: Final = 86_400
MIN_BACKOFF_S: Final = (0.1, 0.5)
MAX_BACKOFF_S: Final = (15.0, 30.0)
_TAKEN_OVER: Final = 142
# Mosquitto 2.0 closes a connection that is taken over without a word. Two processes with one
# client id then take turns, each for less than a second; nothing else looks like that.
_SHORT_LIFE_S: Final = 1.0
_SHORT_LIVES: Final = 8
_REFUSED: Final = 128

Done: TypeAlias = Callable[[str | None], None]
"""Called once with None when the broker acknowledged, else with what is wrong."""


@dataclass(frozen=True, slots=True)
class Token:
    """What acknowledges one message, on the connection it came by and on no other."""

    generation: int
    mid: int
    qos: int


Handler: TypeAlias = Callable[[Received, Token], None]


class Session:
    """One MQTT 5 connection that comes back by itself."""

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        *,
        rng: random.Random,
        will: Publish | None = None,
        clean: bool = False,
        username: str | None = None,
    ) -> None:
        """Prepare the connection; ``start`` opens it.

        Args:
            settings: Where the broker is and how to speak to it.
            client_id: Stable over restarts, unless ``clean``.
            rng: Source of the backoff's jitter.
            will: What the broker publishes when this side vanishes.
            clean: True: no session survives; for short-lived clients.
            username: Overrides the settings' user name.
        """
        self._prefix = settings.topic_prefix
        self._settings = settings
        self._client_id = client_id
        self._clean = clean
        self._log = get_logger(client_id=client_id)
        self._lock = threading.Lock()
        self._acks = AckOrder(lambda mid: self._client.ack(mid, 1))
        self._subscriptions = Subscriptions(self._send_subscribe, self._send_unsubscribe)
        self._waiting: dict[int, Done] = {}
        self._early: dict[int, str | None] = {}
        self._connected = threading.Event()
        self._connected_at = 0.0
        self._short_lives = 0
        self._distrust: str | None = None
        self.generation = 0
        self.max_packet_bytes: int | None = None
        self.on_connected: Callable[[int], None] = lambda _generation: None
        self.on_disconnected: Callable[[], None] = lambda: None
        self.on_fatal: Callable[[str], None] = lambda _reason: None
        self._client = self._make_client(client_id, rng, will, username)

    def _make_client(
        self, client_id: str, rng: random.Random, will: Publish | None, username: str | None
    ) -> paho.Client:
        settings = self._settings
        client = make_client(settings, client_id, username=username or settings.username)
        if will is not None:
            client.will_set(
                self._prefix + will.topic,
                will.payload,
                qos=1,
                retain=will.retain,
                properties=publish_properties(will),
            )
        client.reconnect_delay_set(
            rng.uniform(*MIN_BACKOFF_S),  # type: ignore[arg-type] # seconds; fractions work
            rng.uniform(*MAX_BACKOFF_S),  # type: ignore[arg-type]
        )
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = lambda _client, _userdata, mid, *_: self._subscriptions.left(mid)
        return client

    def start(self) -> None:
        """Open the connection, and keep it open until ``stop``."""
        self._client.connect_async(
            self._settings.host,
            self._settings.port,
            keepalive=self._settings.keepalive_s,
            clean_start=self._clean,
            properties=session_expiry(0 if self._clean else SESSION_EXPIRY_S),
        )
        self._client.loop_start()

    def stop(self) -> None:
        """Say goodbye (no last will is sent) and end the network thread."""
        self._client.disconnect()
        self._client.loop_stop()
        # paho would keep its wake-up sockets open until it is garbage collected.
        self._client._reset_sockets()  # noqa: SLF001

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the present connection."""
        return self._connected.is_set()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until connected; False when the time ended first."""
        return self._connected.wait(timeout_s)

    def subscribe(
        self,
        topic_filters: str | Sequence[str],
        handler: Handler,
        *,
        retained: bool = True,
        as_published: bool = False,
    ) -> None:
        """Subscribe now and after every reconnect.

        Args:
            topic_filters: Without the prefix; several go in one packet.
            handler: Called for each message; must acknowledge it, now or later.
            retained: False: the broker's retained messages are not wanted.
            as_published: Keep the retain flag of messages that are sent now, too. Otherwise
                the flag means: not sent now, but kept by the broker.
        """
        options = SubscribeOptions(
            qos=1, retainHandling=0 if retained else 2, retainAsPublished=as_published
        )
        self._subscriptions.add(several(topic_filters), handler, options)

    def unsubscribe(self, topic_filters: str | Sequence[str]) -> None:
        """End subscriptions; while disconnected it is remembered."""
        self._subscriptions.remove(several(topic_filters))

    def _send_subscribe(self, filters: list[tuple[str, SubscribeOptions]]) -> None:
        self._client.subscribe([(self._prefix + name, options) for name, options in filters])

    def _send_unsubscribe(self, filters: list[str]) -> int | None:
        return self._client.unsubscribe([self._prefix + name for name in filters])[1]

    def publish(self, message: Publish, done: Done | None = None) -> None:
        """Publish with QoS 1; while disconnected it waits in memory.

        Args:
            message: What to publish.
            done: Called when the broker acknowledged or refused it, or when it is larger
                than the broker allows.
        """
        limit = self.max_packet_bytes
        size = packet_bytes(self._prefix, message)
        if limit is not None and size > limit:
            reason = f"{message.topic}: {size} bytes, the broker allows {limit}"
            self._log.error("publish.too_large", topic=message.topic, bytes=size, limit=limit)
            if done is not None:
                done(reason)
            return
        info = self._client.publish(
            self._prefix + message.topic,
            message.payload,
            qos=1,
            retain=message.retain,
            properties=publish_properties(message),
        )
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
            self._finish(done, f"{message.topic}: {paho.error_string(info.rc)}")
            return
        self._await_ack(info.mid, done)

    def _await_ack(self, mid: int, done: Done | None) -> None:
        with self._lock:
            if mid not in self._early:
                self._waiting[mid] = done or _ignore
                return
            problem = self._early.pop(mid)
        self._finish(done, problem)

    @staticmethod
    def _finish(done: Done | None, problem: str | None) -> None:
        if done is not None:
            done(problem)

    def ack(self, token: Token) -> None:
        """Acknowledge a message; nothing happens if its connection is gone."""
        if token.qos:
            self._acks.finish(token.generation, token.mid)

    def _on_connect(
        self,
        _client: paho.Client,
        _userdata: Any,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._log.error("broker.refused", reason=str(reason))
            if reason.value not in _PASSING_REASONS:
                self.on_fatal(f"the broker refused the connection: {reason}")
            return
        self.max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
        self.generation += 1
        self._acks.restart(self.generation)
        self._subscriptions.opened()
        self._connected_at = time.monotonic()
        self._connected.set()
        self._log.info("broker.connected", generation=self.generation)
        self.on_connected(self.generation)

    def _on_connect_fail(self, _client: paho.Client, _userdata: Any) -> None:
        self._log.debug("broker.unreachable", host=self._settings.host, port=self._settings.port)
        problem = why_distrusted(self._settings)
        if problem is not None and problem != self._distrust:
            self._log.error("broker.distrusted", why=problem)
        self._distrust = problem

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: Any,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        was_connected = self._connected.is_set()
        self._connected.clear()
        self._subscriptions.closed()
        if reason.value == _TAKEN_OVER or (was_connected and self._is_evicted()):
            self.on_fatal(
                f"another process connected with this client id, '{self._client_id}': is a "
                "second one running? Stop one of them, or give it an id of its own"
            )
        if was_connected:
            if reason.is_failure:
                said = flags.is_disconnect_packet_from_server
                why = str(reason) if said else "connection lost"
                self._log.warning("broker.disconnected", reason=why)
            self.on_disconnected()

    def _is_evicted(self) -> bool:
        """Tell whether connections end so soon and so often that another one must take them."""
        is_short = time.monotonic() - self._connected_at < _SHORT_LIFE_S
        self._short_lives = self._short_lives + 1 if is_short else 0
        return self._short_lives >= _SHORT_LIVES

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        token = Token(self.generation, message.mid, message.qos)
        if token.qos:
            self._acks.came(token.mid)
        received = received_from(message, self._prefix)
        handler = None if received is None else self._subscriptions.handler(received.topic)
        if received is not None and handler is not None:
            handler(received, token)
            return
        # Not acknowledged, it would hold up all that came after it.
        self.ack(token)
        self._log.debug("message.unexpected", topic=message.topic)
        if received is not None:
            self._subscriptions.stray(received.topic)

    def _on_publish(
        self,
        _client: paho.Client,
        _userdata: Any,
        mid: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        problem = f"the broker refused it: {reason}" if reason.value >= _REFUSED else None
        with self._lock:
            done = self._waiting.pop(mid, None)
            if done is None:
                self._early[mid] = problem
                return
        done(problem)

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: Any,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        for reason in reasons:
            if reason.value >= _REFUSED:
                self._log.error("subscription.refused", reason=str(reason))


# Server unavailable, server busy, quota, connection rate: these pass.
_PASSING_REASONS: Final = frozenset({136, 137, 151, 159, 3})


def several(topic_filters: str | Sequence[str]) -> Sequence[str]:
    """Return filters as a sequence, also a single one."""
    return [topic_filters] if isinstance(topic_filters, str) else topic_filters


def _ignore(_problem: str | None) -> None:
    """Nobody waits for this acknowledgement."""
