"""Sends messages on, byte for byte, on a connection of its own.

Forwards bypass the runner: nothing is stored. A message is acknowledged once the broker has
acknowledged all its onward copies, so that whatever ends in between is delivered again. Each
connection gets a new paho client: what was in flight on the old one is forgotten, and the broker,
which keeps the session, delivers it again; an old client would send it too, which doubles it.

All work on a message happens in paho's callback on its network thread: one connection with
manual acknowledgement and a bounded queue between threads would block itself for ever.
"""

import random
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, IPPROTO_TCP, TCP_NODELAY, socket
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from roost.chassis.logs import get_logger
from roost.chassis.settings import BrokerSettings
from roost.manager.core.forward import Plan, encode_properties, packet_bytes
from roost.protocol.task.refusals import FORWARD_TOO_LARGE

CLIENT_ID: Final = "manager-fwd"
SESSION_EXPIRY_S: Final = 7 * 86_400
FORWARD_REFUSED: Final = "forward_refused"
FORWARD_FAILED: Final = "forward_failed"
_BACKOFF_S: Final = (0.1, 15.0)
_ANSWER_S: Final = 10.0
_REFUSED: Final = 128
_TAKEN_OVER: Final = 142
_NO_RETAINED: Final = 2

Dropped = Callable[[str, str], None]
"""Hears the name and the story of each message that could not be forwarded."""


@dataclass(frozen=True, slots=True)
class Login:
    """User name and password of the forwarding connection."""

    username: str | None = None
    password: str | None = None


class _Packed(Properties):
    """Properties that are already bytes."""

    _data: bytes

    def __init__(self, data: bytes) -> None:
        object.__setattr__(self, "_data", data)

    def pack(self) -> bytes:
        return self._data

    def __str__(self) -> str:
        return f"[{len(self._data)} bytes]"


@dataclass(slots=True)
class _Delivery:
    """A message that waits for its onward copies to be acknowledged."""

    mid: int
    qos: int
    topic: str
    left: int


class Forwarder:
    """Forwards what the plan in force names; comes back after every loss of connection."""

    def __init__(
        self,
        settings: BrokerSettings,
        login: Login,
        *,
        rng: random.Random,
        dropped: Dropped,
        fatal: Callable[[str], None],
        client_id: str = CLIENT_ID,
    ) -> None:
        """Prepare; ``start`` connects.

        Args:
            settings: Where the broker is and how to speak to it.
            login: Of this connection, which must not be the manager's own: brokers may take
                the client id from it.
            rng: Source of the backoff's jitter.
            dropped: Hears of each message that could not be forwarded.
            fatal: Hears why there is no point in going on.
            client_id: Stable over restarts, so that the broker keeps what came meanwhile.
        """
        self._settings, self._login, self._client_id = settings, login, client_id
        self._prefix = settings.topic_prefix
        self._rng, self._dropped, self._fatal = rng, dropped, fatal
        self._log = get_logger(client_id=client_id)
        self._plan = Plan()
        self._gone: set[str] = set()
        self._limit: int | None = None
        self._pending: dict[int, _Delivery] = {}
        self._changes = threading.Lock()
        self._answered = threading.Condition()
        self._answers: dict[int, str | None] = {}
        self._client: paho.Client | None = None
        self._connected = threading.Event()
        self._lost = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)

    def start(self) -> None:
        """Connect, and stay connected until ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """Close the connection; the broker keeps what comes."""
        self._stopping.set()
        self._lost.set()
        self._thread.join()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until connected; False when the time ended first."""
        return self._connected.wait(timeout_s)

    def apply(self, pairs: Iterable[tuple[str, str]], gone: Iterable[str] = ()) -> str | None:
        """Put other rules in force.

        Args:
            pairs: Source filter and destination of each rule, without the prefix.
            gone: Filters that earlier rules subscribed to; the broker's session has them still.

        Returns:
            What went wrong, or None. Without a connection the rules wait for the next one.
        """
        with self._changes:
            before, self._plan = self._plan, Plan(pairs)
            wanted = set(self._plan.sources)
            self._gone |= {*gone, *before.sources}
            self._gone -= wanted
            client = self._client
            if client is None or not self._connected.is_set():
                return None
            return self._change(client, wanted - set(before.sources))

    def _change(self, client: paho.Client, new: set[str]) -> str | None:
        """Subscribe and unsubscribe, and wait for the broker's answers."""
        with self._answered:
            self._answers.clear()
        mids = self._unsubscribe(client) + self._subscribe(client, sorted(new))
        with self._answered:
            if not self._answered.wait_for(lambda: all(m in self._answers for m in mids), _ANSWER_S):
                return "the broker did not answer the forwards' subscriptions in time"
            problems = [self._answers.pop(mid) for mid in mids]
        return next((problem for problem in problems if problem), None)

    def _subscribe(self, client: paho.Client, sources: Iterable[str]) -> list[int]:
        options = SubscribeOptions(qos=1, retainHandling=_NO_RETAINED)
        sent = [client.subscribe(self._prefix + source, options=options) for source in sources]
        return [mid for result, mid in sent if result is MQTTErrorCode.MQTT_ERR_SUCCESS and mid]

    def _unsubscribe(self, client: paho.Client) -> list[int]:
        sent = [client.unsubscribe(self._prefix + source) for source in sorted(self._gone)]
        self._gone.clear()
        return [mid for result, mid in sent if result is MQTTErrorCode.MQTT_ERR_SUCCESS and mid]

    def _run(self) -> None:
        delay = _BACKOFF_S[0]
        while not self._stopping.is_set():
            if self._connect_once():
                delay = _BACKOFF_S[0]
            self._stopping.wait(self._rng.uniform(delay / 2, delay))
            delay = min(delay * 2, _BACKOFF_S[1])

    def _connect_once(self) -> bool:
        """Live through one connection; return whether the broker accepted it."""
        self._lost.clear()
        self._pending = {}
        client = self._make_client()
        try:
            self._open(client)
        except OSError as error:
            self._log.debug("broker.unreachable", why=str(error))
            return False
        client.loop_start()
        if self._stopping.is_set():
            self._lost.set()
        self._lost.wait()
        accepted = self._connected.is_set()
        self._connected.clear()
        client.disconnect()
        client.loop_stop()
        client._reset_sockets()  # noqa: SLF001 - else its wake-up sockets stay open
        return accepted

    def _open(self, client: paho.Client) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        client.connect(
            self._settings.host,
            self._settings.port,
            keepalive=self._settings.keepalive_s,
            clean_start=False,
            properties=properties,
        )
        self._client = client

    def _make_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=paho.MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        settings, login = self._settings, self._login
        if login.username is not None:
            client.username_pw_set(login.username, login.password)
        if settings.tls:
            client.tls_set(
                ca_certs=str(settings.ca_file) if settings.ca_file else None,
                certfile=str(settings.cert_file) if settings.cert_file else None,
                keyfile=str(settings.key_file) if settings.key_file else None,
                tls_version=ssl.PROTOCOL_TLS_CLIENT,
            )
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_answer
        client.on_unsubscribe = self._on_answer
        return client

    def _on_connect(
        self,
        client: paho.Client,
        _userdata: Any,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._log.error("broker.refused", reason=str(reason))
            self._lost.set()
            return
        self._limit = getattr(properties, "MaximumPacketSize", None)
        with self._changes:
            self._unsubscribe(client)
            self._subscribe(client, self._plan.sources)
            self._connected.set()
        self._log.info("forwarder.connected", filters=list(self._plan.sources))

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: Any,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.value == _TAKEN_OVER:
            self._fatal(
                f"another process connected as '{self._client_id}': is a second manager running? "
                "Stop one of them"
            )
        if self._connected.is_set() and not self._stopping.is_set():
            self._log.warning("forwarder.disconnected", reason=str(reason))
        self._lost.set()

    def _on_answer(
        self,
        _client: paho.Client,
        _userdata: Any,
        mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.value >= _REFUSED]
        problem = f"the broker refused a forward's subscription: {refused[0]}" if refused else None
        if problem is not None:
            self._log.error("subscription.refused", reason=refused[0])
        with self._answered:
            self._answers[mid] = problem
            self._answered.notify_all()

    def _on_message(self, client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            self._forward(client, message)
        except Exception as error:
            self._log.exception("forward.set_aside")
            self._dropped(FORWARD_FAILED, repr(error))
            for mid in [mid for mid, d in self._pending.items() if d.mid == message.mid]:
                del self._pending[mid]
            client.ack(message.mid, message.qos)

    def _forward(self, client: paho.Client, message: paho.MQTTMessage) -> None:
        topic = message.topic[len(self._prefix) :]
        targets = () if message.retain else self._plan.targets(topic)
        if not targets:
            self._log.debug("forward.unmatched", topic=topic, retain=message.retain)
            client.ack(message.mid, message.qos)
            return
        found = vars(message.properties)
        properties = encode_properties(
            topic,
            found.get("UserProperty", ()),
            found.get("ContentType"),
            found.get("CorrelationData"),
            found.get("MessageExpiryInterval"),
        )
        delivery = _Delivery(message.mid, message.qos, topic, len(targets))
        packed = _Packed(properties)
        for target in targets:
            to = self._prefix + target
            if self._fits(to, len(properties), len(message.payload), topic):
                info = client.publish(to, message.payload, qos=1, properties=packed)
                self._pending[info.mid] = delivery
            else:
                self._one_done(client, delivery)

    def _fits(self, to: str, properties: int, payload: int, topic: str) -> bool:
        """Tell whether the onward packet may be sent; if not, report that it is dropped."""
        limit = self._limit
        if limit is None:
            return True
        size = packet_bytes(len(to.encode()), properties, payload)
        if size <= limit:
            return True
        text = f"{topic} -> {to}: {size} bytes once forwarded, the broker allows {limit}"
        self._dropped(FORWARD_TOO_LARGE.name, f"{text}. {FORWARD_TOO_LARGE.cure}")
        return False

    def _on_publish(
        self,
        client: paho.Client,
        _userdata: Any,
        mid: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        delivery = self._pending.pop(mid, None)
        if delivery is None:
            return
        if reason.value >= _REFUSED:
            self._dropped(FORWARD_REFUSED, f"{delivery.topic}: the broker refused it: {reason}")
        self._one_done(client, delivery)

    @staticmethod
    def _one_done(client: paho.Client, delivery: _Delivery) -> None:
        delivery.left -= 1
        if delivery.left == 0:
            client.ack(delivery.mid, delivery.qos)


def _send_at_once(_client: paho.Client, _userdata: Any, opened: Any) -> None:
    """Turn Nagle's algorithm off: an acknowledgement must not wait for more to say."""
    if isinstance(opened, socket) and opened.family in (AF_INET, AF_INET6):
        opened.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
