"""Small stand-ins for the adapters that touch files, guests and a second connection.

What they keep lies on the process's disk and outlives it. The forms of messages, updates and
models are read and written by the real protocol code.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from roost.chassis.effects import Publish
from roost.chassis.errors import ChassisError, FetchTimeout
from roost.chassis.ports import SessionPort
from roost.chassis.received import Received
from roost.chassis.session import Token
from roost.chassis.transfer import Fetcher, send_all
from roost.coordinator.adapters.models import Description
from roost.coordinator.adapters.spool import Arrival, summary
from roost.coordinator.core.average import weighted_sum
from roost.manager.core.forward import SOURCE_TOPIC, Plan
from roost.model_server.adapters.files import FileDamaged
from roost.model_server.core.state import Submitted, Version
from roost.proplet.core.effects import Discard, Execute, SendOutputs, StopGuest, Sweep
from roost.proplet.core.events import GuestEnded, GuestStarted, OutputsDelayed, OutputsSent
from roost.proplet.core.states import Outcome
from roost.protocol.round.label import ModelLabel, read_label, with_label, without_label
from roost.protocol.round.model import (
    Model,
    ModelForm,
    digest,
    encode_model,
    encode_safetensors,
    parse_model,
    parse_safetensors,
)
from roost.protocol.round.refusals import WRONG_DIGEST
from roost.protocol.round.tensorfile import dtypes_digest, read_layout, shapes_digest
from roost.protocol.round.update import parse_update
from roost.protocol.task.messages import FailureReason
from roost.wire.refusal import Refused

from .disk import Disk, MemoryPath
from .process import Process

# -- coordinator ---------------------------------------------------------------------------------


class MemorySpool:
    """``roost.coordinator.adapters.spool.Spool`` on a disk in memory."""

    def __init__(self, folder: MemoryPath, nonce: Callable[[], str], *_clock: object) -> None:
        self._disk, self._folder, self._nonce = folder.disk, folder.name, nonce
        self._disk.remove_all(f"{self._folder}/.working/")

    def take_in(self, round_id: str, sender: str, payload: bytes) -> Arrival:
        """Read an update and keep its tensors."""
        update = parse_update(payload)
        name = f"{round_id}/{sender}.{self._nonce()}"
        self._disk.write_whole(f"{self._folder}/{name}", update.file)
        entries = update.layout.entries
        typed = update.form is ModelForm.SAFETENSORS
        return Arrival(
            sender=sender,
            round_id=update.round_id,
            base_model_uri=update.base_model_uri,
            num_samples=update.num_samples,
            metrics=update.metrics,
            spool=name,
            shapes=shapes_digest((entry.name, entry.shape) for entry in entries),
            dtypes=dtypes_digest((e.name, e.dtype) for e in entries) if typed else None,
            summary=summary(update.layout),
        )

    def take_in_file(self, round_id: str, sender: str, path: MemoryPath) -> Arrival:
        """Read an update that was fetched to a file."""
        return self.take_in(round_id, sender, path.read_bytes())

    def settle(self) -> None:
        """Nothing to wait for: this disk keeps what was written."""

    def path(self, name: str) -> MemoryPath:
        """Return where an update lies."""
        return self._disk.path(f"{self._folder}/{name}")

    def temporary(self) -> MemoryPath:
        """Return a new path."""
        return self._disk.path(f"{self._folder}/.working/{self._nonce()}")

    def drop(self, names: Iterable[str]) -> None:
        """Delete refused updates."""
        for name in names:
            self.path(name).unlink(missing_ok=True)

    def tidy(
        self, rounds: Iterable[str], before: float, spools: Iterable[str] | None = None
    ) -> None:
        """Delete all updates but these and what is newer."""
        rounds = set(rounds)
        known = None if spools is None else set(spools)
        for path in self._disk.names(self._folder + "/"):
            name = path.removeprefix(self._folder + "/")
            round_id = name.partition("/")[0]
            if round_id == ".working" or self._disk.files[path].changed >= before:
                continue
            if round_id not in rounds or (known is not None and name not in known):
                self._disk.path(path).unlink(missing_ok=True)


class MemoryModels:
    """``roost.coordinator.adapters.models.Models`` on a disk in memory."""

    def __init__(self, folder: MemoryPath, *_clock: object) -> None:
        self._disk, self._folder = folder.disk, folder.name
        self._disk.remove_all(f"{self._folder}/working/")

    def path(self, model_digest: str) -> MemoryPath:
        """Return where a model lies or would lie."""
        return self._disk.path(f"{self._folder}/{model_digest}")

    def incoming(self, for_id: str) -> MemoryPath:
        """Return where a model is fetched to."""
        return self._disk.path(f"{self._folder}/working/fetch.{for_id}")

    def has(self, model_digest: str) -> bool:
        """Tell whether a model is here, and keep it from being tidied away just now."""
        if not self.path(model_digest).exists():
            return False
        self.path(model_digest).touch()
        return True

    def adopt(self, path: MemoryPath, model_digest: str) -> None:
        """Keep a fetched file under its digest."""
        try:
            found = digest(parse_model(path.read_bytes()).tensors)
        except Refused:
            path.unlink()
            raise
        if found != model_digest:
            path.unlink()
            raise Refused(WRONG_DIGEST, f"the topic holds {found}")
        path.replace(self.path(model_digest))

    def describe(self, model_digest: str) -> Description:
        """Say what updates of a model must look like."""
        tensors = parse_model(self.path(model_digest).read_bytes()).tensors
        layout = read_layout(encode_safetensors(tensors, {}))
        return Description(
            shapes_digest((entry.name, entry.shape) for entry in layout.entries),
            dtypes_digest((entry.name, entry.dtype) for entry in layout.entries),
            summary(layout),
        )

    def average(
        self, base_digest: str, updates: Sequence[MemoryPath], weights: Sequence[int], name: str
    ) -> str:
        """Average updates into a model of the base's form and return its digest."""
        del name
        base = parse_model(self.path(base_digest).read_bytes())
        read = [parse_safetensors(path.read_bytes()).tensors for path in updates]
        tensors = {each: mean([one[each] for one in read], weights) for each in base.tensors}
        made = digest(tensors)
        content = encode_model(Model(base.form, tensors, without_label(base.metadata)))
        self._disk.write_whole(f"{self._folder}/{made}", content)
        return made

    def labelled(self, model_digest: str, publish_id: str, label: ModelLabel) -> MemoryPath:
        """Write a model with its label, ready to be sent."""
        model = parse_model(self.path(model_digest).read_bytes())
        metadata = with_label(model.form, model.metadata, label)
        into = self.outgoing(publish_id)
        into.write_bytes(encode_model(Model(model.form, model.tensors, metadata)))
        return into

    def outgoing(self, publish_id: str) -> MemoryPath:
        """Return where a labelled model lies until the index lists it."""
        return self._disk.path(f"{self._folder}/outgoing/{publish_id}")

    def tidy(self, keep: Iterable[str], before: float) -> None:
        """Delete models but these, and what is newer."""
        kept = set(keep)
        for name in self._disk.names(self._folder + "/"):
            rest = name.removeprefix(self._folder + "/")
            if "/" not in rest and rest not in kept and self._disk.files[name].changed < before:
                self._disk.path(name).unlink(missing_ok=True)


def mean(arrays: Sequence[Any], weights: Sequence[int]) -> Any:
    """Return the weighted mean of arrays, summed in their order."""
    flat = [np.ravel(array) for array in arrays]
    size = flat[0].size
    out = weighted_sum(flat, weights, np.empty(size), np.empty(size))
    return out.reshape(arrays[0].shape).astype(arrays[0].dtype)


# -- model server --------------------------------------------------------------------------------


class MemoryFiles:
    """``roost.model_server.adapters.files.Files`` on a disk in memory."""

    def __init__(self, folder: MemoryPath, nonce: Callable[[], str], *_clock: object) -> None:
        self._disk, self._nonce = folder.disk, nonce

    def temporary(self) -> MemoryPath:
        """Return a new path in the incoming folder."""
        return self._disk.path(f"incoming/{self._nonce()}")

    def take_in(self, payload: bytes, at: float) -> Submitted:
        """Keep a publish request's file and read what the core judges."""
        path = self.temporary()
        path.write_bytes(payload)
        return self.read(path, at)

    def read(self, path: MemoryPath, at: float) -> Submitted:
        """Read an incoming file; it is deleted when it cannot be used."""
        content = path.read_bytes()
        try:
            model = parse_model(content)
            label = read_label(model.form, model.metadata)
        except Refused:
            path.unlink()
            raise
        sha256 = hashlib.sha256(content).hexdigest()
        name = path.name.removeprefix("incoming/")
        found = digest(model.tensors)
        return Submitted(at, name, label, found, sha256, len(content), model.form.value)

    def release(self, version: Version) -> None:
        """Give an incoming file its final name, unless that was done before."""
        incoming = self._disk.path(f"incoming/{version.file}")
        if incoming.exists():
            incoming.replace(self.path(version))

    def check(self, version: Version) -> None:
        """Make sure that a version's file is whole."""
        path = self.path(version)
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != version.sha256:
            raise FileDamaged(str(path))

    def restore(self, version: Version, copy: MemoryPath) -> None:
        """Put a copy in the place of a damaged file."""
        if hashlib.sha256(copy.read_bytes()).hexdigest() != version.sha256:
            copy.unlink()
            raise FileDamaged(str(copy))
        copy.replace(self.path(version))

    def path(self, version: Version) -> MemoryPath:
        """Return where a version lies."""
        return self._disk.path(f"models/{version.name}_v{version.version}")

    def drop(self, file: str) -> None:
        """Delete an incoming file."""
        self._disk.path(f"incoming/{file}").unlink(missing_ok=True)

    def tidy(self, keep: Iterable[str], before: float) -> None:
        """Delete incoming files that an earlier process left, but these."""
        kept = {f"incoming/{name}" for name in keep}
        for name in self._disk.names("incoming/"):
            if name not in kept and self._disk.files[name].changed < before:
                self._disk.path(name).unlink(missing_ok=True)


# -- manager -------------------------------------------------------------------------------------


class SimForwarder:
    """The real forward rules on a connection of virtual time; acknowledges after the PUBACK."""

    def __init__(self, session: SessionPort) -> None:
        self._session = session
        self._plan = Plan()
        self._topics: set[str] = set()

    def start(self) -> None:
        """Nothing: the process starts its sessions."""

    def stop(self) -> None:
        """Nothing: the process ends them."""

    def apply(self, pairs: Iterable[tuple[str, str]], gone: Iterable[str] = ()) -> str | None:
        """Put other rules in force."""
        self._plan = Plan(pairs)
        wanted = set(self._plan.sources)
        for topic in sorted((self._topics | set(gone)) - wanted):
            self._session.unsubscribe(topic)
        for topic in sorted(wanted - self._topics):
            self._session.subscribe(topic, self._receive, retained=False)
        self._topics = wanted
        return None

    def _receive(self, received: Received, token: Token) -> None:
        targets = self._plan.targets(received.topic)
        left = len(targets)

        def one_done(_problem: str | None) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self._session.ack(token)

        if not targets:
            self._session.ack(token)
        others = [pair for pair in received.properties if pair[0] != SOURCE_TOPIC]
        for target in targets:
            message = Publish(
                target,
                received.payload,
                expiry_s=received.expiry_s,
                content_type=received.content_type,
                correlation=received.correlation,
                properties=(*others, (SOURCE_TOPIC, received.topic)),
                durable=False,
            )
            self._session.publish(message, one_done)


# -- proplet -------------------------------------------------------------------------------------

Guest = Callable[[str, str, bytes], bytes]
"""What a proplet's guest makes of a round's id, its base's topic, and the model."""


_IMAGE_S = 0.02


class SimExecutor:
    """Fetches the model, computes, leaves the update on the disk; can be stopped on the way."""

    def __init__(
        self,
        process: Process,
        fetcher: Fetcher,
        post: Callable[[Any], None],
        guest: Guest,
        run_s: Callable[[], float],
        begins: Callable[[str, int], None],
    ) -> None:
        self._hub, self._disk, self._clock = process.hub, process.disk, process.clock
        self._fetcher, self._post, self._guest = fetcher, post, guest
        self._run_s, self._begins = run_s, begins
        self._stopped: set[tuple[str, int]] = set()
        self.running = 0

    def stop(self, effect: StopGuest) -> None:
        """Let an attempt not go on."""
        self._stopped.add((effect.task_id, effect.attempt))

    def execute(self, effect: Execute) -> Iterable[Any]:
        """Run an attempt to its end; one that was stopped has none."""
        key = (effect.task_id, effect.attempt)
        if key in self._stopped:
            return ()
        self.running += 1
        try:
            outcome = self._outcome(effect)
        finally:
            self.running -= 1
        if key in self._stopped:
            return ()
        return (GuestEnded(self._clock(), *key, outcome),)

    def _outcome(self, effect: Execute) -> Outcome:
        spec, folder = effect.spec, f"tasks/{effect.task_id}/{effect.attempt}"
        patience = max(0.0, min(30.0, (effect.until - self._clock()) * 0.8))
        model = b""
        try:
            for wanted in spec.inputs:
                model = self._fetcher.fetch_topic(wanted.topic or "", patience).payload
        except ChassisError as error:
            return Outcome(FailureReason.INPUT_UNAVAILABLE, str(error))
        self._hub.sleep(_IMAGE_S)
        if (effect.task_id, effect.attempt) in self._stopped:
            return Outcome(None)
        self._begins(effect.task_id, effect.attempt)
        self._post(GuestStarted(self._clock(), effect.task_id, effect.attempt))
        self._hub.sleep(self._run_s())
        if effect.until <= self._clock():
            return Outcome(FailureReason.TIME_LIMIT, "the deadline passed")
        try:
            for output in spec.outputs:
                made = self._guest(spec.env["ROUND_ID"], spec.env["MODEL_URI"], model)
                self._disk.write(f"{folder}/{output.file}", made)
        except OSError as error:
            return Outcome(FailureReason.INTERNAL, str(error))
        return Outcome(None, exit_code=0)


class SimOutputs:
    """Publishes what guests left, and removes it."""

    def __init__(self, disk: Disk, session: Any, clock: Callable[[], float]) -> None:
        self._disk, self._session, self._clock = disk, session, clock
        self._found = disk.names("tasks/")

    def send(self, effect: SendOutputs) -> Iterable[Any]:
        """Publish every output of an attempt."""
        folder, who = f"tasks/{effect.task_id}/{effect.attempt}", (effect.task_id, effect.attempt)
        try:
            if not self._session.wait_connected(30.0):
                raise FetchTimeout("no broker within 30 s")
            messages = [
                Publish(
                    output.topic,
                    self._disk.path(f"{folder}/{output.file}").read_bytes(),
                    durable=False,
                )
                for output in effect.spec.outputs
            ]
            send_all(self._session, messages, 30.0)
        except FileNotFoundError as error:
            gone = Outcome(FailureReason.INTERNAL, f"{error.filename} is gone from this device")
            return (OutputsSent(self._clock(), *who, refused=gone),)
        except ChassisError:
            return (OutputsDelayed(self._clock(), *who),)
        return (OutputsSent(self._clock(), *who),)

    def discard(self, effect: Discard) -> None:
        """Remove the files of attempts."""
        for name in self._disk.names(f"tasks/{effect.task_id}/"):
            if int(name.split("/")[2]) < effect.below:
                self._disk.path(name).unlink(missing_ok=True)

    def sweep(self, effect: Sweep) -> None:
        """Remove what lay there at the start and nobody knows."""
        kept = {f"{task_id}/{attempt}" for task_id, attempt in effect.keep}
        for name in self._found:
            if "/".join(name.split("/")[1:3]) not in kept:
                self._disk.path(name).unlink(missing_ok=True)
