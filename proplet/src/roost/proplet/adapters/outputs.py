"""Carries out ``SendOutputs`` and ``Discard``: what a guest made, to where the task wants it."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from roost.chassis.blobs import manifest_message, manifest_of, offer, withdraw
from roost.chassis.effects import Publish
from roost.chassis.errors import BrokerRefused, ChassisError
from roost.chassis.logs import get_logger
from roost.proplet.adapters.folders import AttemptFolder, TaskFolders
from roost.proplet.core.effects import Discard, SendOutputs, Sweep
from roost.proplet.core.events import OutputsDelayed, OutputsSent
from roost.proplet.core.states import Outcome
from roost.proplet.errors import OutputRefused
from roost.proplet.guest.folders import read_regular
from roost.proplet.ports import Transport
from roost.protocol.task.messages import FailureReason, TaskOutput
from roost.wire.blob import INLINE_LIMIT, Manifest
from roost.wire.refusal import Refused

SEND_TIMEOUT_S: Final = 30.0
WITHDRAW_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Outputs:
    """Publishes outputs, and withdraws the blobs that carried large ones.

    Attributes:
        proplet_id: Owner of the blobs.
        folders: Where attempts lie.
        transport: The broker.
        clock: Seconds, as in the events.
    """

    proplet_id: str
    folders: TaskFolders
    transport: Transport
    clock: Callable[[], float]
    # Between looking who else offers a blob and withdrawing it, nobody begins to offer it.
    _offering: threading.Lock = field(default_factory=threading.Lock)

    def send(self, effect: SendOutputs) -> Iterable[Any]:
        """Publish every output of an attempt: inline, or as a blob above ``INLINE_LIMIT``."""
        folder = self.folders.attempt(effect.task_id, effect.attempt)
        who = (effect.task_id, effect.attempt)
        try:
            for output in effect.spec.outputs:
                self._send_one(output, folder, effect.until)
        except OutputRefused as error:
            refused = Outcome(error.reason, str(error))
            return (OutputsSent(self.clock(), *who, refused=refused),)
        except BrokerRefused as error:
            refused = Outcome(FailureReason.INTERNAL, f"{error}: may this proplet write there?")
            return (OutputsSent(self.clock(), *who, refused=refused),)
        except FileNotFoundError as error:
            refused = Outcome(FailureReason.INTERNAL, f"{error.filename} is gone from this device")
            return (OutputsSent(self.clock(), *who, refused=refused),)
        except (ChassisError, OSError) as error:
            get_logger().warning("outputs.delayed", task=effect.task_id, why=str(error))
            return (OutputsDelayed(self.clock(), *who),)
        return (OutputsSent(self.clock(), *who),)

    def _send_one(self, output: TaskOutput, folder: AttemptFolder, until: float) -> None:
        with ExitStack() as stack:
            handle = read_regular(folder.out, output.file)
            if handle is None:
                handle = os.open(folder.stdout, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, handle)
            size = os.fstat(handle).st_size
            if size <= INLINE_LIMIT:
                message = Publish(output.topic, os.pread(handle, size, 0), durable=False)
                self.transport.send([message], SEND_TIMEOUT_S)
                return
            # Not by its name: a guest could have left a link there.
            manifest = manifest_of(self.proplet_id, Path(f"/proc/self/fd/{handle}"))
            self._note_offer(folder, manifest)
            expiry_s = max(1.0, until - self.clock())
            messages = offer(manifest, Path(f"/proc/self/fd/{handle}"), expiry_s)
            self.transport.send(messages, SEND_TIMEOUT_S)
            self.transport.send([manifest_message(output.topic, manifest)], SEND_TIMEOUT_S)

    def _note_offer(self, folder: AttemptFolder, manifest: Manifest) -> None:
        """Write down what will have to be withdrawn, before it is offered."""
        with self._offering:
            if manifest not in _offered(folder):
                with folder.offered.open("ab") as file:
                    file.write(manifest.encode() + b"\n")

    def discard(self, effect: Discard) -> None:
        """Remove the files of attempts, and the blobs that no other attempt offers."""
        self._remove(
            attempt
            for number, attempt in self.folders.attempts(effect.task_id)
            if number < effect.below
        )

    def sweep(self, effect: Sweep, found: Iterable[AttemptFolder]) -> None:
        """Remove what attempts left that nobody here knows any more.

        Args:
            effect: Names those that are known.
            found: What lay there before anything ran.
        """
        kept = {self.folders.attempt(task_id, number).root for task_id, number in effect.keep}
        self._remove(attempt for attempt in found if attempt.root not in kept)

    def _remove(self, attempts: Iterable[AttemptFolder]) -> None:
        going = [attempt for attempt in attempts if attempt.root.is_dir()]
        withdrawn = {manifest for attempt in going for manifest in _offered(attempt)}
        if withdrawn:
            with self._offering:
                self._withdraw(withdrawn, going)
        for attempt in going:
            try:
                self.folders.remove(attempt)
            except OSError as error:
                # The next start sweeps it.
                get_logger().error("files.left", folder=str(attempt.root), why=str(error))

    def _withdraw(self, manifests: Iterable[Manifest], going: Sequence[AttemptFolder]) -> None:
        staying = {
            manifest.sha256
            for attempt in self.folders.all()
            if attempt not in going
            for manifest in _offered(attempt)
        }
        gone = [manifest for manifest in manifests if manifest.sha256 not in staying]
        try:
            self.transport.send(_clearing(gone), WITHDRAW_TIMEOUT_S)
        except ChassisError as error:
            # They carry an expiry: the broker drops them by itself, only later.
            get_logger().info("blobs.left", why=str(error))


def _offered(folder: AttemptFolder) -> list[Manifest]:
    try:
        lines = folder.offered.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [manifest for line in lines if (manifest := _read_manifest(line)) is not None]


def _read_manifest(line: bytes) -> Manifest | None:
    """Read a line; one that a loss of power cut off tells of what expires by itself."""
    try:
        return Manifest.decode(line)
    except Refused:
        return None


def _clearing(manifests: Iterable[Manifest]) -> Iterator[Publish]:
    for manifest in manifests:
        yield from withdraw(manifest)
