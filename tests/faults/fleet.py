"""A whole Roost of real processes that may be killed, and the operator who uses it."""

import json
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from roost.chassis.blobs import manifest_message, manifest_of, offer, withdraw
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.session import Session, Token
from roost.chassis.settings import BrokerSettings
from roost.chassis.transfer import Fetcher, send_all
from roost.client_wasm import guest_path
from roost.protocol.round import topics
from roost.protocol.round.messages import ModelIndex, RoundComplete
from roost.protocol.round.model import Model, ModelForm, encode_model, parse_model
from roost.protocol.task import topics as task_topics
from roost.protocol.task.messages import Presence, PresenceStatus
from roost.wire.blob import INLINE_LIMIT, Manifest

from .failpoint import Order
from .processes import DEADLINE_S, PROPLETS, SERVICES, Broker, Life, service, ticks

OPERATOR = "operator"
#: Layers of the two models; the second one and its updates travel as blobs.
SIZES = {"small": (8, 4, 2), "large": (784, 400, 10)}
_FOUND = TypeVar("_FOUND")


class Operator:
    """A client that starts rounds and hears everything; it owns the guest's image."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.heard: dict[str, Received] = {}
        self._lock = threading.Lock()
        self.image = manifest_of(OPERATOR, guest_path())
        self._offered: Manifest | None = None
        self.session = Session(
            BrokerSettings(broker=url), OPERATOR, rng=random.Random(1), clean=True
        )
        self.fetcher = Fetcher(self.session)
        for topic_filter in ("fl/#", "tasks/#", "proplets/#", "workloads/#"):
            self.session.subscribe(topic_filter, self._hear)
        self.session.on_connected = self._offer_image

    def start(self) -> None:
        """Connect."""
        self.session.start()
        assert self.session.wait_connected(DEADLINE_S)

    def _hear(self, received: Received, token: Token) -> None:
        self.session.ack(token)
        with self._lock:
            self.heard[received.topic] = received

    def _offer_image(self, _generation: int) -> None:
        """Offer the image again after each reconnect: the broker may have forgotten it."""
        for message in offer(self.image, guest_path()):
            self.session.publish(message)

    def last(self, topic: str) -> bytes | None:
        """Return what was said last on a topic."""
        with self._lock:
            found = self.heard.get(topic)
        return found.payload if found else None

    def forget(self, topic: str) -> None:
        """Wait for news of a topic."""
        with self._lock:
            self.heard.pop(topic, None)

    def send(self, message: Publish) -> None:
        """Publish and wait for the acknowledgement."""
        send_all(self.session, [message], DEADLINE_S)

    def publish_model(self, content: bytes) -> None:
        """Publish version 0 of a model, inline or as a blob."""
        if len(content) <= INLINE_LIMIT:
            self.send(Publish(topics.MODEL_PUBLISH.format(), content))
            return
        path = self.folder / "model"
        path.write_bytes(content)
        self._offered = manifest_of(OPERATOR, path)
        message = manifest_message(topics.MODEL_PUBLISH.format(), self._offered)
        send_all(self.session, (*offer(self._offered, path), message), DEADLINE_S)

    def withdraw_model(self) -> None:
        """Clear the blob of the model that was published last, if it was one."""
        if self._offered is not None:
            send_all(self.session, withdraw(self._offered), DEADLINE_S)
            self._offered = None

    def index(self) -> ModelIndex:
        """Return the index as it was told last."""
        found = self.last(topics.MODEL_INDEX.format())
        return ModelIndex.decode(found) if found else ModelIndex()

    def versions(self, name: str) -> list[int]:
        """Return the versions of a model."""
        line = self.index().models.get(name)
        return [each.version for each in line.versions] if line else []

    def outcome(self, round_id: str) -> RoundComplete | None:
        """Return the outcome of a round, if it was told."""
        found = self.last(topics.ROUND_COMPLETE.format(round_id=round_id))
        return RoundComplete.decode(found) if found else None

    def model(self, topic: str) -> Model:
        """Return a model as a reader would get it."""
        path = self.folder / "fetched"
        self.fetcher.fetch_payload(topic, DEADLINE_S, path)
        return parse_model(path.read_bytes())

    def presence(self, proplet: str) -> Presence | None:
        """Return what a proplet says of itself."""
        found = self.last(task_topics.PRESENCE.format(proplet_id=proplet))
        return Presence.decode(found) if found else None


class Fleet:
    """Mosquitto, manager, model server, coordinator, three proplets, and an operator."""

    def __init__(self, folder: Path, *, persistence: bool = False) -> None:
        self.folder = folder
        self.broker = Broker(folder, persistence=persistence)
        self.services = {name: service(name, self.broker.url, folder) for name in SERVICES}
        for number, name in enumerate(PROPLETS):
            write_samples(folder / name / "data", number)
        self.operator = Operator(self.broker.url, folder)

    def start(self) -> None:
        """Start everything, and wait until it is there."""
        self.revive()
        self.operator.start()
        self.until(self.ready, "every service is there")

    @property
    def lives(self) -> list[Life]:
        """All processes."""
        return [self.broker, *self.services.values()]

    def ready(self) -> bool:
        """Tell whether every service has told its state."""
        said = self.operator.last
        told = (task_topics.WORKLOADS_STATE, topics.MODEL_INDEX, topics.COORDINATOR_STATE)
        cards = [self.operator.presence(name) for name in PROPLETS]
        return all(said(topic.format()) for topic in told) and all(
            card is not None and card.status is PresenceStatus.ONLINE for card in cards
        )

    def until(
        self, look: Callable[[], _FOUND | None], what: str, deadline_s: float = DEADLINE_S
    ) -> _FOUND:
        """Wait until something is found, and nobody dies meanwhile."""
        try:
            for _ in ticks(deadline_s, self.lives):
                found = look()
                if found:
                    return found
        except AssertionError as error:
            raise AssertionError(f"waiting until {what}: {error}\n{self.story()}") from None
        raise AssertionError(what)

    def state(self, name: str) -> Path:
        """Return the state folder of a service."""
        return self.folder / name / "state"

    def revive(self) -> None:
        """Start all that do not run, the broker first."""
        for life in self.lives:
            if life.process is None or life.process.poll() is not None:
                life.start()

    def arm(self, name: str, order: Order) -> None:
        """Give a service the order to kill itself, or the broker."""
        for suffix in ("fired", "order"):
            (self.folder / f"{name}.{suffix}").unlink(missing_ok=True)
        part = self.folder / f"{name}.order.part"
        part.write_text(json.dumps(asdict(order)))
        part.replace(self.folder / f"{name}.order")

    def await_kills(self, victims: Mapping[str, str]) -> list[dict[str, Any]]:
        """Wait until services have fulfilled their orders and the victims are gone.

        Args:
            victims: Who is killed, by the service that has the order.

        Returns:
            What the services wrote down of each kill.
        """
        fired = [self.folder / f"{name}.fired" for name in victims]
        others = [life for life in self.lives if life.name not in victims.values()]
        try:
            for _ in ticks(DEADLINE_S, others):
                if all(path.exists() for path in fired):
                    break
        except AssertionError as error:
            who = ", ".join(victims)
            raise AssertionError(f"{who} did not come to kill: {error}\n{self.story()}") from None
        for victim in victims.values():
            self.life(victim).bury()
        return [json.loads(path.read_text()) for path in fired]

    def life(self, name: str) -> Life:
        """Return a process by name."""
        return self.broker if name == self.broker.name else self.services[name]

    def story(self) -> str:
        """Return the end of all logs."""
        return "\n".join(life.said() for life in self.lives)

    def stop(self) -> None:
        """End all in good order, the broker last."""
        codes = {name: life.end() for name, life in self.services.items()}
        self.operator.session.stop()
        self.broker.end()
        assert set(codes.values()) == {0}, f"{codes}\n{self.story()}"

    def abandon(self) -> None:
        """End all at once."""
        self.operator.session.stop()
        for life in self.lives:
            if life.process is not None:
                life.process.kill()
                life.process.wait(DEADLINE_S)


def write_samples(folder: Path, number: int) -> None:
    """Write a proplet's own data, a mount for each size of model."""
    rng = np.random.default_rng(number)
    for size, layers in SIZES.items():
        mount = folder / size
        mount.mkdir(parents=True)
        count = 4 + 2 * number
        np.save(mount / "x.npy", rng.random((count, layers[0]), np.float32))
        np.save(mount / "y.npy", rng.integers(0, layers[-1], count))


def base_model(name: str, size: str) -> bytes:
    """Return version 0 of a model; its tensors depend on the size alone."""
    rng = np.random.default_rng(17)
    layers, tensors = SIZES[size], {}
    for i in range(len(layers) - 1):
        weight = rng.normal(0, 0.1, (layers[i + 1], layers[i]))
        tensors[f"layers.{i}.weight"] = weight.astype(np.float32)
        tensors[f"layers.{i}.bias"] = np.zeros(layers[i + 1], np.float32)
    metadata = {"architecture": "mlp", "name": name, "version": "0"}
    return encode_model(Model(ModelForm.SAFETENSORS, tensors, metadata))
