"""The folder where a local Roost keeps everything it writes (`.roost` unless `--state` says else).

    broker/           the broker's configuration and its own store
    manager/ coordinator/ model-server/
    proplets/NAME/    state/ and data/MOUNT/, the device's private data
    data/             what belongs to no proplet, such as the test split of the demo
    images/           Wasm files that `roost up` offers as blobs
    logs/             one file a service
    roost.json        the running instance: pid, broker, port
    lock              held while an instance runs

Deleting the folder forgets that Roost; nothing is written anywhere else.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from roost.cli.errors import UsageProblem

__all__ = ["SERVICES", "Instance", "StateDir"]

#: What `roost up` runs beside proplets, each in a folder of its name.
SERVICES = ("manager", "model-server", "coordinator")

#: 100 is as many as `roost up` runs.
_NUMBERED = re.compile(r"proplet-([1-9][0-9]?|100)")


@dataclass(frozen=True)
class Instance:
    """What `roost.json` tells about the instance of a state folder.

    Attributes:
        pid: the supervisor.
        broker: its broker, as `mqtt://host:port`.
        kind: `mosquitto`, `embedded` or `external`.
        port: the broker's port.
        proplets: how many proplets it runs.
    """

    pid: int
    broker: str
    kind: str
    port: int
    proplets: int


@dataclass(frozen=True)
class StateDir:
    """The layout of a state folder; `root` is absolute."""

    root: Path

    @classmethod
    def at(cls, path: str | Path) -> StateDir:
        """The state folder at `path`, relative to the working directory."""
        return cls(Path(path).expanduser().absolute())

    @property
    def broker(self) -> Path:
        """The broker's configuration and store."""
        return self.root / "broker"

    @property
    def images(self) -> Path:
        """Wasm files on offer."""
        return self.root / "images"

    @property
    def logs(self) -> Path:
        """One log file a service."""
        return self.root / "logs"

    @property
    def instance_file(self) -> Path:
        """Where the running instance says how to reach it."""
        return self.root / "roost.json"

    def service(self, name: str) -> Path:
        """The state folder of a service."""
        return self.root / name

    def proplet(self, name: str) -> Path:
        """Everything of one proplet."""
        return self.root / "proplets" / name

    def mount(self, proplet: str, mount: str) -> Path:
        """A data folder that guests on `proplet` see as /data/`mount`."""
        return self.proplet(proplet) / "data" / mount

    def held_back(self, name: str) -> Path:
        """Data that no proplet may see."""
        return self.root / "data" / name

    def proplet_names(self) -> list[str]:
        """The proplets that have a folder, in numeric order where names end in numbers."""
        folder = self.root / "proplets"
        if not folder.is_dir():
            return []
        return sorted((p.name for p in folder.iterdir() if p.is_dir()), key=_numeric)

    def proplet_count(self) -> int:
        """How many proplets `roost up` runs here: the number of the last proplet-N; 0 for none.

        Folders of other names are not counted: somebody else's proplets, or slips of the pen.
        """
        instance = self.read_instance()
        numbers = [int(m[1]) for name in self.proplet_names() if (m := _NUMBERED.fullmatch(name))]
        return max(numbers, default=0) if instance is None else instance.proplets

    def known_proplets(self) -> list[str]:
        """The proplets that have run here, or that `roost up` would run."""
        numbered = [f"proplet-{n}" for n in range(1, self.proplet_count() + 1)]
        others = [name for name in self.proplet_names() if (self.proplet(name) / "state").is_dir()]
        return sorted({*numbered, *others}, key=_numeric)

    def may_come(self, proplet: str) -> bool:
        """Whether the first `roost up` of this folder will run `proplet` once it has data."""
        return self.read_instance() is None and _NUMBERED.fullmatch(proplet) is not None

    def has_data(self, proplet: str, mount: str) -> bool:
        """Whether a data folder of `proplet` has anything in it."""
        folder = self.mount(proplet, mount)
        return folder.is_dir() and any(folder.iterdir())

    def read_instance(self) -> Instance | None:
        """The last instance of this folder, running or not; None if there was none."""
        try:
            found = json.loads(self.instance_file.read_text())
            return Instance(**{k: v for k, v in found.items() if k in Instance.__annotations__})
        except (OSError, ValueError, TypeError):
            return None

    def write_instance(self, instance: Instance) -> None:
        """Say how to reach the running instance; readers see the old or the new text, whole."""
        partial = self.instance_file.with_suffix(".partial")
        partial.write_text(json.dumps(instance.__dict__, indent=1) + "\n")
        partial.replace(self.instance_file)

    def running_pid(self) -> int | None:
        """The supervisor that runs on this folder now, or None."""
        return _holder(self.root)

    def services_at_rest(self) -> list[str]:
        """Those of the services of `roost up` that do not run now, or have not come so far."""
        folders = {name: self.service(name) for name in SERVICES}
        instance = self.read_instance()
        for number in range(1, instance.proplets + 1 if instance else 1):
            folders[f"proplet-{number}"] = self.proplet(f"proplet-{number}") / "state"
        return [name for name, folder in folders.items() if _holder(folder) is None]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: one supervisor at a time.

        Raises:
            UsageProblem: another one runs on it, or the folder cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / "lock").open("a+")
        except OSError as problem:
            raise UsageProblem(
                f"cannot write the state folder {self.root}: {problem.strerror}; "
                "choose another with --state"
            ) from problem
        with lock:
            holder = _take(lock.fileno())
            if holder is not None:
                raise UsageProblem(
                    f"Roost already runs on {self.root} (pid {holder}); stop it with Ctrl-C there "
                    f"or `kill {holder}`, or run a second one with --state and --port",
                    pid=holder,
                )
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), f"{os.getpid()}\n".encode())
            yield


def _holder(folder: Path) -> int | None:
    """The process that has locked a folder, or None."""
    try:
        with (folder / "lock").open("r+") as lock:
            return _lock_or_holder(lock.fileno())
    except FileNotFoundError:
        return None


def _lock_or_holder(fd: int) -> int | None:
    """Take the lock (None), or tell the pid of who has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).strip()
        return int(text) if text.isdigit() else 0
    return None


def _take(fd: int) -> int | None:
    """As `_lock_or_holder`, but patient with a `running_pid` that is just looking."""
    for _ in range(5):
        holder = _lock_or_holder(fd)
        if holder is None:
            return None
        time.sleep(0.05)
    return holder


def _numeric(name: str) -> tuple[str, int, str]:
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :]
    return stem, int(digits) if digits else -1, name
