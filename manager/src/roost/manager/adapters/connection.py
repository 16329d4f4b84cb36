"""The forwarder's connection: one new paho client for each, a session that the broker keeps.

What was in flight on a lost connection is forgotten here, and delivered again by the broker. A
client that lived on would send it too, which doubles it.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions
from roost.chassis.client import make_client, session_expiry
from roost.chassis.logs import get_logger
from roost.chassis.settings import BrokerSettings

SESSION_EXPIRY_S: Final = 7 * 86_400
REFUSED: Final = 128
_BACKOFF_S: Final = (0.1, 15.0)
# Mosquitto 2.0 closes a connection that is taken over without a word. Two processes with one
# client id then take turns, each for less than a second; nothing else looks like that.
_SHORT_LIFE_S: Final = 1.0
_SHORT_LIVES: Final = 8
_ANSWER_S: Final = 10.0
_TAKEN_OVER: Final = 142
_NO_RETAINED: Final = 2


@dataclass(frozen=True, slots=True)
class Login:
    """User name and password of a connection."""

    username: str | None = None
    password: str | None = None


class Traffic(Protocol):
    """Who handles the messages; called on paho's network thread."""

    def on_opened(self, max_packet_bytes: int | None) -> None:
        """Begin anew: nothing that an earlier connection had is in flight."""

    def on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        """Take a message."""

    def on_publish(
        self,
        client: paho.Client,
        userdata: Any,
        mid: int,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        """Take the answer to a message that was sent."""


class Connection:
    """A subscribed connection that comes back after every loss."""

    def __init__(
        self,
        settings: BrokerSettings,
        login: Login,
        client_id: str,
        traffic: Traffic,
        *,
        rng: random.Random,
        fatal: Callable[[str], None],
    ) -> None:
        """Prepare; ``start`` connects.

        Args:
            settings: Where the broker is and how to speak to it.
            login: User name and password.
            client_id: Stable over restarts, so that the broker keeps what came meanwhile.
            traffic: Handles the messages.
            rng: Source of the backoff's jitter.
            fatal: Hears why there is no point in going on.
        """
        self._settings, self._login, self._client_id = settings, login, client_id
        self._traffic, self._rng, self._fatal = traffic, rng, fatal
        self._log = get_logger(client_id=client_id)
        self._wanted: set[str] = set()
        self._gone: set[str] = set()
        self._leaving: dict[int, str] = {}
        self._changes = threading.Lock()
        self._answered = threading.Condition()
        self._answers: dict[int, str | None] = {}
        self._client: paho.Client | None = None
        self._connected = threading.Event()
        self._lost = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=client_id, daemon=True)

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

    def subscribe(self, filters: Iterable[str], gone: Iterable[str]) -> str | None:
        """Subscribe to these filters and no others, now or when connected.

        Args:
            filters: With the topic prefix.
            gone: Filters that an earlier process subscribed to.

        Returns:
            What went wrong, or None.
        """
        with self._changes:
            before, self._wanted = self._wanted, set(filters)
            self._gone = (self._gone | before | set(gone)) - self._wanted
            if self._client is None or not self._connected.is_set():
                return None
            return self._change(self._client, self._wanted - before)

    def _change(self, client: paho.Client, new: set[str]) -> str | None:
        """Tell the broker, and wait for its answers."""
        with self._answered:
            self._answers.clear()
        mids = self._send_changes(client, new)
        with self._answered:
            if not self._answered.wait_for(lambda: self._answers.keys() >= mids, _ANSWER_S):
                return "the broker did not answer the forwards' subscriptions in time"
            problems = [self._answers[mid] for mid in sorted(mids)]
        return next(filter(None, problems), None)

    def _send_changes(self, client: paho.Client, new: Iterable[str]) -> set[int]:
        options = SubscribeOptions(qos=1, retainHandling=_NO_RETAINED)
        sent = []
        for topic_filter in sorted(self._gone):
            rc, mid = client.unsubscribe(topic_filter)
            if mid is not None:
                # Until the broker says so it is not gone: the next connection says it again.
                self._leaving[mid] = topic_filter
            sent.append((rc, mid))
        sent += [client.subscribe(wanted, options=options) for wanted in sorted(new)]
        return {mid for rc, mid in sent if rc is MQTTErrorCode.MQTT_ERR_SUCCESS and mid is not None}

    def _run(self) -> None:
        delay, short_lives = _BACKOFF_S[0], 0
        while not self._stopping.is_set():
            began = time.monotonic()
            accepted = self._live_once()
            delay = _BACKOFF_S[0] if accepted else min(delay * 2, _BACKOFF_S[1])
            is_short = accepted and time.monotonic() - began < _SHORT_LIFE_S
            short_lives = short_lives + 1 if is_short else 0
            if short_lives == _SHORT_LIVES:
                self._say_taken_over()
            self._stopping.wait(self._rng.uniform(delay / 2, delay))

    def _say_taken_over(self) -> None:
        self._fatal(
            f"another process connected as '{self._client_id}': is a second manager running? "
            "Stop one of them"
        )

    def _live_once(self) -> bool:
        """Live through one connection; return whether the broker accepted it."""
        self._lost.clear()
        client = self._make_client()
        try:
            self._open(client)
        except OSError as error:
            self._log.debug("broker.unreachable", why=str(error))
            return False
        self._client = client
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
        client.connect(
            self._settings.host,
            self._settings.port,
            keepalive=self._settings.keepalive_s,
            clean_start=False,
            properties=session_expiry(SESSION_EXPIRY_S),
        )

    def _make_client(self) -> paho.Client:
        client = make_client(
            self._settings,
            self._client_id,
            username=self._login.username,
            password=self._login.password,
            reconnects=False,
        )
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._traffic.on_message
        client.on_publish = self._traffic.on_publish
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
            self._log.error("forwarder.refused", reason=str(reason))
            self._lost.set()
            return
        self._traffic.on_opened(getattr(properties, "MaximumPacketSize", None))
        with self._changes:
            self._leaving.clear()
            self._send_changes(client, self._wanted)
            self._connected.set()
        self._log.info("forwarder.connected", filters=sorted(self._wanted))

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: Any,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.value == _TAKEN_OVER:
            self._say_taken_over()
        if not self._stopping.is_set():
            said = flags.is_disconnect_packet_from_server
            self._log.warning(
                "forwarder.disconnected", reason=str(reason) if said else "connection lost"
            )
        self._lost.set()

    def _on_answer(
        self,
        _client: paho.Client,
        _userdata: Any,
        mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.value >= REFUSED]
        problem = f"the broker refused a forward's subscription: {refused[0]}" if refused else None
        if problem is not None:
            self._log.error("subscription.refused", reason=refused[0])
        with self._answered:
            self._gone.discard(self._leaving.pop(mid, ""))
            self._answers[mid] = problem
            self._answered.notify_all()
