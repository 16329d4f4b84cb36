"""How every connection of Roost is made: MQTT 5, acknowledged by hand, TLS, nothing delayed."""

import socket
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from roost.chassis.settings import BrokerSettings
from roost.chassis.tls import tls_context

RECEIVE_MAXIMUM: Final = 128
"""So many messages may be on their way to this side unacknowledged; the broker keeps the rest."""


def make_client(
    settings: BrokerSettings,
    client_id: str,
    *,
    username: str | None,
    password: str | None = None,
    reconnects: bool = True,
) -> paho.Client:
    """Return a client that is not connected yet.

    Args:
        settings: Where the broker is and how to speak to it.
        client_id: MQTT client id.
        username: User name; None: none.
        password: Overrides the settings' password.
        reconnects: Whether paho connects again by itself.

    Raises:
        TrustUnusable: a certificate or key file cannot be used.
    """
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=paho.MQTTv5,
        manual_ack=True,
        reconnect_on_failure=reconnects,
    )
    if username is not None:
        secret = settings.password.get_secret_value() if settings.password else None
        client.username_pw_set(username, secret if password is None else password)
    if settings.tls:
        client.tls_set_context(tls_context(settings))
    client.on_socket_open = _send_at_once
    return client


def session_expiry(seconds: int) -> Properties:
    """Return the properties of a CONNECT whose session outlives the connection by this much."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = seconds
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    return properties


def _send_at_once(_client: paho.Client, _userdata: Any, sock: Any) -> None:
    """Turn Nagle's algorithm off: with delayed ACKs it costs 40 ms for every small message."""
    if isinstance(sock, socket.socket) and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
