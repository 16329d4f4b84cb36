"""Sends messages on, byte for byte, on a connection of its own.

Forwards bypass the runner: nothing is stored. A message is acknowledged once the broker has
acknowledged all its onward copies, so whatever ends in between is delivered again.

All work on a message happens in paho's callback on its network thread: one connection with
manual acknowledgement and a bounded queue between threads would block itself for ever.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from roost.chassis.acks import AckOrder
from roost.chassis.logs import get_logger
from roost.chassis.packets import Packed
from roost.chassis.settings import BrokerSettings
from roost.manager.adapters.connection import REFUSED, Connection, Login
from roost.manager.core.forward import Plan, encode_properties, packet_bytes
from roost.protocol.task.refusals import FORWARD_TOO_LARGE

CLIENT_ID: Final = "manager-fwd"
FORWARD_REFUSED: Final = "forward_refused"
FORWARD_FAILED: Final = "forward_failed"

Dropped = Callable[[str, str], None]
"""Hears the name and the story of each message that could not be forwarded."""


@dataclass(slots=True)
class _Delivery:
    """A message that waits for its onward copies to be acknowledged."""

    mid: int
    qos: int
    topic: str
    left: int


class Forwarder:
    """Forwards by the rules in force."""

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
            client_id: Stable over restarts.
        """
        self._prefix = settings.topic_prefix
        self._dropped = dropped
        self._log = get_logger(client_id=client_id)
        self._plan = Plan()
        self._limit: int | None = None
        self._pending: dict[int, _Delivery] = {}
        self._acks: AckOrder | None = None
        self._acks_of: paho.Client | None = None
        self._connection = Connection(settings, login, client_id, self, rng=rng, fatal=fatal)

    def start(self) -> None:
        """Connect, and stay connected until ``stop``."""
        self._connection.start()

    def stop(self) -> None:
        """Close the connection; the broker keeps what comes."""
        self._connection.stop()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until connected; False when the time ended first."""
        return self._connection.wait_connected(timeout_s)

    def apply(self, pairs: Iterable[tuple[str, str]], gone: Iterable[str] = ()) -> str | None:
        """Put other rules in force.

        Args:
            pairs: Source filter and destination of each rule, without the prefix.
            gone: Sources of rules of an earlier process; the broker's session has them still.

        Returns:
            What went wrong, or None. Without a connection the rules wait for the next one.
        """
        plan = self._plan = Plan(pairs)
        return self._connection.subscribe(
            [self._prefix + source for source in plan.sources],
            [self._prefix + source for source in gone],
        )

    def on_opened(self, max_packet_bytes: int | None) -> None:
        """Begin anew on another connection."""
        self._limit = max_packet_bytes
        self._pending.clear()

    def on_message(self, client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        """Forward a message; one that cannot be is dropped and reported, never tried for ever."""
        if message.qos:
            self._order(client).came(message.mid)
        try:
            self._forward(client, message)
        except Exception as error:  # noqa: BLE001 - whatever it was, it must not come again
            self._log.exception("forward.set_aside")
            self._dropped(FORWARD_FAILED, repr(error))
            for mid in [mid for mid, sent in self._pending.items() if sent.mid == message.mid]:
                del self._pending[mid]
            self._ack(client, message.mid, message.qos)

    def _order(self, client: paho.Client) -> AckOrder:
        """Return the order of acknowledgements on this connection; each has its own client."""
        if self._acks is None or self._acks_of is not client:
            self._acks_of, self._acks = client, AckOrder(lambda mid: client.ack(mid, 1))
        return self._acks

    def _ack(self, client: paho.Client, mid: int, qos: int) -> None:
        if qos:
            self._order(client).finish(0, mid)

    def _forward(self, client: paho.Client, message: paho.MQTTMessage) -> None:
        topic = message.topic[len(self._prefix) :]
        targets = () if message.retain else self._plan.targets(topic)
        if not targets:
            self._log.debug("forward.unmatched", topic=topic, retain=message.retain)
            self._ack(client, message.mid, message.qos)
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
        packed = Packed(properties)
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

    def on_publish(
        self,
        client: paho.Client,
        _userdata: Any,
        mid: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        """Acknowledge a message once all its onward copies are."""
        delivery = self._pending.pop(mid, None)
        if delivery is None:
            return
        if reason.value >= REFUSED:
            self._dropped(FORWARD_REFUSED, f"{delivery.topic}: the broker refused it: {reason}")
        self._one_done(client, delivery)

    def _one_done(self, client: paho.Client, delivery: _Delivery) -> None:
        delivery.left -= 1
        if delivery.left == 0:
            self._ack(client, delivery.mid, delivery.qos)
