"""What a phone needs of HTTP and MQTT, as a page or an app has it."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from roost.ios_bridge.errors import BridgeError
from roost.protocol.phone import topics
from roost.protocol.phone.messages import (
    PairReply,
    PhoneAsleep,
    PhoneFile,
    PhoneOrder,
    PhoneReport,
    PhoneState,
)
from roost.wire.refusal import Refused
from roost.wire.topic import Topic

WILL_DELAY_S: Final = 15
SESSION_S: Final = 60
_TIMEOUT_S: Final = 30.0
_KEEPALIVE_S: Final = 15
_TOPICS: Final[dict[type, Topic]] = {
    PhoneState: topics.STATE,
    PhoneReport: topics.REPORT,
    PhoneAsleep: topics.ASLEEP,
}


class BridgeAway(BridgeError):  # noqa: N818 - names an outcome
    """The bridge could not be reached; later it may be."""


class NotWanted(BridgeError):  # noqa: N818 - names an outcome
    """The bridge does not want what the phone hands in, or has not what it asks for."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a phone got for its token.

    Attributes:
        url: Of the bridge.
        device: Who it is.
        secret: Its password.
        prefix: Goes before all topics.
    """

    url: str
    device: str
    secret: str
    prefix: str = ""


def pair(url: str, token: str) -> Credentials:
    """Show a token and become a phone.

    Raises:
        NotWanted: the token is not good (any more).
        BridgeAway: nothing answers.
    """
    reply = _request("POST", f"{url}/pair", json={"token": token})
    found = PairReply.decode(reply.content)
    return Credentials(url, found.device, found.secret, found.topic_prefix)


def fetch(who: Credentials, file: PhoneFile, folder: Path) -> Path:
    """Return where a file of an order lies, fetched if it is not here yet, and verified.

    Raises:
        NotWanted: the bridge has no such file, or another one under its name.
        BridgeAway: nothing answers.
    """
    place = folder / file.sha256
    if place.is_file():
        return place
    content = _request("GET", f"{who.url}/images/{file.sha256}", who).content
    if len(content) != file.size or hashlib.sha256(content).hexdigest() != file.sha256:
        raise NotWanted(f"{file.name}: what came is not {file.sha256}")
    handle, name = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "wb") as into:
        into.write(content)
    Path(name).replace(place)
    return place


def hand_in(who: Credentials, key: tuple[str, int], name: str, path: Path) -> None:
    """Hand in one output.

    Raises:
        NotWanted: no order names it any more.
        BridgeAway: nothing answers.
    """
    place = f"{who.url}/updates/{quote(key[0], safe='')}/{key[1]}/{quote(name)}"
    _request("PUT", place, who, content=path.read_bytes())


def _request(method: str, url: str, who: Credentials | None = None, **more: Any) -> httpx.Response:
    auth = None if who is None else (who.device, who.secret)
    try:
        reply = httpx.request(method, url, auth=auth, timeout=_TIMEOUT_S, **more)
    except httpx.HTTPError as error:
        raise BridgeAway(f"{method} {url}: {error!r}") from error
    if reply.is_server_error:
        raise BridgeAway(f"{method} {url}: {reply.status_code}")
    if reply.is_error:
        raise NotWanted(f"{method} {url}: {reply.status_code} {reply.text:.300}")
    return reply


class Line:
    """One MQTT connection through the bridge; it does not come back by itself."""

    def __init__(
        self,
        who: Credentials,
        connection_id: str,
        *,
        on_ready: Callable[[], None],
        on_order: Callable[[PhoneOrder], None],
        on_end: Callable[[], None],
    ) -> None:
        """Prepare a connection; ``open`` opens it.

        Args:
            who: The phone.
            connection_id: New for each connection.
            on_ready: Called when the phone is connected and subscribed to its orders.
            on_order: Called for each order that can be read.
            on_end: Called once, at the end or instead of a begin.
        """
        self._who, self._on_order = who, on_order
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=who.device,
            protocol=paho.MQTTv5,
            transport="websockets",
            reconnect_on_failure=False,
        )
        client.ws_set_options(path="/mqtt")
        client.username_pw_set(who.device, who.secret)
        if urlsplit(who.url).scheme == "https":
            client.tls_set()
        will = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
        will.WillDelayInterval = WILL_DELAY_S
        asleep = PhoneAsleep(connection_id=connection_id)
        client.will_set(self._topic(topics.ASLEEP), asleep.encode(), 1, properties=will)
        client.on_connect = self._on_connect
        client.on_subscribe = lambda *_: on_ready()
        client.on_message = self._on_message
        client.on_disconnect = lambda *_: on_end()
        client.on_connect_fail = lambda *_: on_end()
        self._client = client

    def _topic(self, row: Topic) -> str:
        return self._who.prefix + row.format(device=self._who.device)

    def open(self) -> None:
        """Connect.

        Raises:
            BridgeAway: nothing answers.
        """
        parts = urlsplit(self._who.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_S
        try:
            self._client.connect(
                parts.hostname or "",
                port,
                keepalive=_KEEPALIVE_S,
                clean_start=True,
                properties=properties,
            )
        except (OSError, paho.WebsocketConnectionError) as error:
            raise BridgeAway(f"{self._who.url}: {error!r}") from error
        self._client.loop_start()

    def say(self, message: PhoneState | PhoneReport | PhoneAsleep) -> None:
        """Publish a message of the phone's."""
        self._client.publish(self._topic(_TOPICS[type(message)]), message.encode(), qos=1)

    def close(self) -> None:
        """Say goodbye and end; ``on_end`` is not called any more."""
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop_stop()

    def break_off(self) -> None:
        """Lose the connection without a word, as a phone out of reach does."""
        self._client.on_disconnect = None
        self._client._sock_close()  # noqa: SLF001 - there is no polite way to be impolite
        self._client.loop_stop()

    def _on_connect(self, client: paho.Client, *args: Any) -> None:
        if not args[2].is_failure:
            client.subscribe(self._topic(topics.ORDER), qos=1)

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            order = PhoneOrder.decode(bytes(message.payload))
        except Refused:
            return
        self._on_order(order)
