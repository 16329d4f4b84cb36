"""Carries out ``SendOutputs`` and ``Discard``: what a phone handed in, to where it is wanted."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from roost.chassis.blobs import manifest_message, manifest_of, offer, withdraw
from roost.chassis.effects import Publish
from roost.chassis.errors import BrokerRefused, ChassisError
from roost.chassis.logs import get_logger
from roost.ios_bridge.adapters.files import Tray
from roost.ios_bridge.core.effects import Discard, SendOutputs
from roost.ios_bridge.core.events import OutputsDelayed, OutputsMissing, OutputsSent
from roost.ios_bridge.core.states import Outcome
from roost.ios_bridge.errors import OutputRefused
from roost.ios_bridge.ports import Transport
from roost.protocol.task.messages import FailureReason
from roost.wire.blob import INLINE_LIMIT, Manifest

SEND_TIMEOUT_S: Final = 30.0
WITHDRAW_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Outputs:
    """Publishes outputs, and withdraws the blobs that carried large ones.

    Attributes:
        tray: What phones handed in.
        transport: The broker.
        clock: Seconds, as in the events.
    """

    tray: Tray
    transport: Transport
    clock: Callable[[], float]

    def send(self, effect: SendOutputs) -> Iterable[Any]:
        """Publish every output of an attempt: inline, or as a blob above ``INLINE_LIMIT``."""
        who = (effect.device, effect.task_id, effect.attempt)
        folder = self.tray.attempt(*who)
        files = [(folder / output.file, output.topic) for output in effect.spec.outputs]
        if not all(path.is_file() for path, _ in files):
            return (OutputsMissing(self.clock(), *who),)
        try:
            for path, topic in files:
                self._send_one(effect, path, topic)
        except OutputRefused as error:
            refused = Outcome(FailureReason.OUTPUT_TOO_LARGE, str(error))
            return (OutputsSent(self.clock(), *who, refused=refused),)
        except BrokerRefused as error:
            refused = Outcome(FailureReason.INTERNAL, f"{error}: may the bridge write there?")
            return (OutputsSent(self.clock(), *who, refused=refused),)
        except ChassisError as error:
            get_logger().warning("outputs.delayed", task=effect.task_id, why=str(error))
            return (OutputsDelayed(self.clock(), *who),)
        return (OutputsSent(self.clock(), *who),)

    def _send_one(self, effect: SendOutputs, path: Path, topic: str) -> None:
        if path.stat().st_size <= INLINE_LIMIT:
            message = Publish(topic, path.read_bytes(), durable=False)
            self.transport.send([message], SEND_TIMEOUT_S)
            return
        manifest = manifest_of(effect.device, path)
        self.tray.note_offer(effect.device, effect.task_id, effect.attempt, manifest)
        expiry_s = max(1.0, effect.until - self.clock())
        self.transport.send(offer(manifest, path, expiry_s), SEND_TIMEOUT_S)
        self.transport.send([manifest_message(topic, manifest)], SEND_TIMEOUT_S)

    def discard(self, effect: Discard) -> None:
        """Remove the files of attempts, and withdraw the blobs that they offered."""
        device, task_id = effect.device, effect.task_id
        for attempt in self.tray.attempts(device, task_id):
            if attempt < effect.below:
                self._withdraw(self.tray.offered(device, task_id, attempt))
                self.tray.remove(device, task_id, attempt)

    def _withdraw(self, manifests: list[Manifest]) -> None:
        if not manifests:
            return
        try:
            self.transport.send(_clearing(manifests), WITHDRAW_TIMEOUT_S)
        except ChassisError as error:
            # They carry an expiry: the broker drops them by itself, only later.
            get_logger().info("blobs.left", why=str(error))


def _clearing(manifests: Iterable[Manifest]) -> Iterator[Publish]:
    for manifest in manifests:
        yield from withdraw(manifest)
