"""Small stand-ins for the adapters of coordinator and model server that touch files.

What they keep lies on the process's disk and outlives it. The forms of messages, updates and
models are read and written by the real protocol code.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from roost.coordinator.adapters.models import Description
from roost.coordinator.adapters.spool import Arrival, arrival
from roost.coordinator.core.average import weighted_sum
from roost.model_server.adapters.files import FileDamaged
from roost.model_server.core.state import Submitted, Version
from roost.protocol.round.label import ModelLabel, read_label, with_label, without_label
from roost.protocol.round.model import (
    Model,
    digest,
    encode_model,
    encode_safetensors,
    parse_model,
    parse_safetensors,
)
from roost.protocol.round.refusals import WRONG_DIGEST
from roost.protocol.round.tensorfile import read_layout
from roost.protocol.round.update import parse_update
from roost.wire.refusal import Refused

from .disk import MemoryPath

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
        return arrival(sender, name, update)

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
        return Description.of(read_layout(encode_safetensors(tensors, {})))

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
