"""A connection to the broker for as long as one command lasts.

Commands ask and wait: publish an order, then take messages from an inbox until one says what became
of it. What is retained below a filter is collected by asking for it and then for a message to
oneself: a broker sends in order, so when that one is back, all others have come.
"""

from __future__ import annotations

import queue
import random
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from roost.chassis import logs
from roost.chassis.blobs import manifest_of, offer
from roost.chassis.effects import Publish
from roost.chassis.errors import BlobCorrupt, BrokerRefused, FetchTimeout, TrustUnusable
from roost.chassis.received import Received
from roost.chassis.session import Session, Token
from roost.chassis.settings import BrokerSettings
from roost.chassis.tls import why_distrusted
from roost.chassis.transfer import Fetcher, send_all
from roost.cli.errors import CliError, NoBroker, UsageProblem, WaitedTooLong
from roost.cli.ports import is_open
from roost.protocol.task.topics import LAUNCH_REPLY
from roost.wire.blob import INLINE_LIMIT, MANIFEST_CONTENT_TYPE, Manifest
from roost.wire.message import Message, describe
from roost.wire.refusal import Refused
from roost.wire.topic import Topic

__all__ = ["OPERATOR", "ORDER_EXPIRY_S", "Wire", "image_reference", "read"]

#: Whose blobs this command publishes.
OPERATOR = "operator"

#: An order that nobody took within a minute is not carried out later, by surprise.
ORDER_EXPIRY_S = 60.0
_CONNECT_S = 10.0
_ACK_S = 20.0

AnyMessage = TypeVar("AnyMessage", bound=Message)


class Wire:
    """Publishes, and receives what was subscribed to, in order.

    Attributes:
        session: the connection, for blobs.
        url: where it leads.
        client: below which replies to it are: its user name, as rights demand, if it has one.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self.url = settings.broker
        connection = f"roost-{secrets.token_hex(4)}"
        self.client = settings.username or connection
        self.session = Session(settings, connection, rng=random.Random(), clean=True)  # noqa: S311
        self._inbox: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self._wanted: set[str] = set()
        self._fatal: list[str] = []
        self._up = threading.Event()
        self.session.on_connected = lambda _generation: self._up.set()
        self.session.on_fatal = self._on_fatal

    @classmethod
    @contextmanager
    def connect(cls, url: str) -> Iterator[Wire]:
        """Connect to a broker; ROOST_USERNAME, ROOST_CA_FILE and so on apply.

        Raises:
            UsageProblem: the URL or a ROOST_… variable cannot be used.
            NoBroker: nothing answers, or it refuses us.
        """
        logs.configure("roost", "error", "console")
        try:
            settings = BrokerSettings(broker=url)
        except ValidationError as problem:
            raise UsageProblem(f"broker settings: {describe(problem)}") from problem
        with cls.connect_as(settings) as wire:
            yield wire

    @classmethod
    @contextmanager
    def connect_as(cls, settings: BrokerSettings) -> Iterator[Wire]:
        """Connect with these settings.

        Raises:
            UsageProblem: a file that they name cannot be used.
            NoBroker: nothing answers, or it refuses us.
        """
        if not is_open(settings.host, settings.port, timeout_s=3):
            raise NoBroker(
                f"nothing answers at {settings.broker}: is Roost running? Start it with "
                "`roost up`, or name its broker with --broker"
            )
        try:
            distrust = why_distrusted(settings)
            wire = cls(settings)
        except TrustUnusable as problem:
            raise UsageProblem(str(problem)) from problem
        if distrust is not None:
            raise NoBroker(f"no connection to {settings.broker}: {distrust}")
        wire._open()
        try:
            yield wire
        finally:
            wire.session.stop()

    def publish(
        self,
        topic: str,
        message: Message | bytes,
        *,
        retain: bool = False,
        expiry_s: float | None = ORDER_EXPIRY_S,
        content_type: str | None = None,
    ) -> None:
        """Publish and wait for the broker's acknowledgement.

        Raises:
            CliError: the broker refused it, or it is too large for the broker.
            NoBroker: no acknowledgement came.
        """
        payload = message.encode() if isinstance(message, Message) else message
        done: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        effect = Publish(
            topic, payload, retain=retain, expiry_s=expiry_s, content_type=content_type
        )
        self.session.publish(effect, done.put)
        try:
            problem = done.get(timeout=_ACK_S)
        except queue.Empty:
            raise NoBroker(f"the broker at {self.url} did not acknowledge {topic}") from None
        if problem is not None:
            raise CliError(problem)

    def send(self, topic: str, payload: bytes) -> None:
        """Publish an order that may be large: beyond the inline limit as a blob with a manifest.

        Raises:
            CliError: the broker refused it.
            NoBroker: the broker went away meanwhile.
        """
        if len(payload) <= INLINE_LIMIT:
            self.publish(topic, payload)
            return
        with tempfile.TemporaryDirectory(prefix="roost-") as folder:
            file = Path(folder, "payload")
            file.write_bytes(payload)
            manifest = self.offer(file)
        self.publish(topic, manifest, content_type=MANIFEST_CONTENT_TYPE)

    def subscribe(self, *topic_filters: str) -> None:
        """Let what matches arrive in the inbox; retained messages first."""
        for topic_filter in topic_filters:
            self._wanted.add(topic_filter)
            self.session.subscribe(topic_filter, self._receive)

    def unsubscribe(self, *topic_filters: str) -> None:
        """Let it arrive no longer."""
        for topic_filter in topic_filters:
            self._wanted.discard(topic_filter)
            self.session.unsubscribe(topic_filter)

    def next(self, timeout_s: float | None) -> Received | None:
        """The next message of the inbox, or None when the time ended first."""
        try:
            return self._inbox.get(timeout=None if timeout_s is None else max(0.0, timeout_s))
        except queue.Empty:
            return None

    def await_message(
        self, wanted: Callable[[Received], bool], timeout_s: float, otherwise: str
    ) -> Received:
        """The first message of the inbox that is wanted; others are dropped.

        Raises:
            WaitedTooLong: none came in time; `otherwise` says what that means.
        """
        deadline = time.monotonic() + timeout_s
        while (received := self.next(deadline - time.monotonic())) is not None:
            if wanted(received):
                return received
        raise WaitedTooLong(f"{otherwise} (waited {timeout_s:g} s)", timeout_s=timeout_s)

    def collect(self, *topic_filters: str) -> list[Received]:
        """What is retained below the filters, sorted by topic.

        Raises:
            NoBroker: the broker went away meanwhile.
        """
        box: queue.SimpleQueue[Received] = queue.SimpleQueue()

        def take(received: Received, token: Token) -> None:
            self.session.ack(token)
            box.put(received)

        marker = LAUNCH_REPLY.format(client=self.client)
        mine = secrets.token_bytes(8)  # another command of this user may be at it as well
        for topic_filter in topic_filters:
            # The embedded broker hands out what is retained only for a subscription that is new.
            self.session.unsubscribe(topic_filter)
            self.session.subscribe(topic_filter, take)
        self.session.subscribe(marker, take)
        self.publish(marker, mine)
        found: dict[str, Received] = {}
        deadline = time.monotonic() + _ACK_S
        while True:
            try:
                received = box.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise NoBroker(f"the broker at {self.url} stopped answering") from None
            if received.topic == marker:
                if received.payload == mine:
                    break
            elif received.payload:
                found[received.topic] = received
        for topic_filter in (*topic_filters, marker):
            self.session.unsubscribe(topic_filter)
            if topic_filter in self._wanted:
                self.session.subscribe(topic_filter, self._receive)
        return [found[topic] for topic in sorted(found)]

    def retained(self, topic: str) -> Received | None:
        """What is retained on exactly this topic, or None."""
        return next(iter(self.collect(topic)), None)

    def fetch(self, topic: str, timeout_s: float) -> bytes:
        """What a retained topic holds, followed to its blob if it is a manifest.

        Raises:
            WaitedTooLong: the topic or a chunk is not there.
            CliError: what came is damaged.
        """
        with tempfile.TemporaryDirectory(prefix="roost-") as folder:
            file = Path(folder, "payload")
            try:
                Fetcher(self.session).fetch_payload(topic, timeout_s, file)
            except FetchTimeout as problem:
                raise WaitedTooLong(str(problem)) from problem
            except (BlobCorrupt, Refused) as problem:
                raise CliError(f"{topic}: {problem}") from problem
            return file.read_bytes()

    def offer(self, file: Path, *, content_type: str | None = None) -> Manifest:
        """Publish a file as a blob of the operator's; harmless where it is already offered.

        Raises:
            CliError: the broker refused it.
            NoBroker: the broker went away meanwhile.
        """
        manifest = manifest_of(OPERATOR, file, content_type)
        try:
            send_all(self.session, offer(manifest, file), _ACK_S)
        except BrokerRefused as problem:
            raise CliError(f"{file.name}: {problem}") from problem
        except FetchTimeout as problem:
            raise NoBroker(f"{self.url}: {problem}") from problem
        return manifest

    def _open(self) -> None:
        self.session.start()
        if not self._up.wait(_CONNECT_S) or self._fatal:
            self.session.stop()
            why = (
                self._fatal[0]
                if self._fatal
                else "it accepts connections but does not speak MQTT 5"
            )
            raise NoBroker(f"no connection to {self.url}: {why}")

    def _receive(self, received: Received, token: Token) -> None:
        self.session.ack(token)
        self._inbox.put(received)

    def _on_fatal(self, reason: str) -> None:
        self._fatal.append(reason)
        self._up.set()


def image_reference(sha256: str) -> str:
    """How a task names an image that was offered as a blob of the operator's."""
    return f"blob:{OPERATOR}/{sha256}"


def read(topic: Topic, received: Received | None, kind: type[AnyMessage]) -> AnyMessage | None:
    """`received` as a message of `kind`; None if there is none, or another version wrote it.

    Args:
        topic: the row of the topic table it should be of.
        received: what arrived.
        kind: the row's message.
    """
    if received is None or not received.payload or topic.match(received.topic) is None:
        return None
    try:
        return kind.decode(received.payload)
    except Refused:
        return None
