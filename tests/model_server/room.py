"""The model server's core with its states, as the runner keeps them."""

from typing import Any

from roost.chassis.core import Connected, Decision, TimerFired
from roost.chassis.effects import ClearTimer
from roost.chassis.states import States
from roost.model_server.core.shelf import Shelf
from roost.model_server.core.state import (
    Clear,
    Cleared,
    IndexKept,
    PublishIndex,
    Refresh,
    Refreshed,
    Release,
    Released,
    Submitted,
)
from roost.protocol.round.label import ModelLabel
from roost.protocol.round.messages import ModelIndex

A, B = "aa" * 32, "bb" * 32


class Room:
    """A shelf with its states; releases are carried out at once unless held."""

    def __init__(self, keep: int = 50, *, connected: bool = True) -> None:
        self.shelf, self.states = Shelf(keep), States()
        self.effects: list[Any] = []
        self.hold = False
        self.held: list[Any] = []
        self.files = 0
        if connected:
            self.connect()

    def connect(self, kept: str | None = None) -> list[Any]:
        """Connect to a broker that had kept this index; return what is told, but for timers."""
        self.happen(Connected(1.0, 1))
        event = TimerFired(2.0, "read-back") if kept is None else IndexKept(1.5, kept)
        told = self.happen(event).effects
        return [each for each in told if not isinstance(each, ClearTimer)]

    def restart(self) -> None:
        """Lose what is in memory only, as a process that ends."""
        kept = States()
        for kind in self.shelf.kinds:
            for id_, state in self.states.all(kind).items():
                kept.put((kind, id_), state)
        self.states = kept

    def happen(self, event: Any) -> Decision:
        """Let one event happen, and what it brings about, unless that is held."""
        decision = self.shelf.handle(event, self.states)
        for key, state in decision.puts.items():
            self.states.put(key, state)
        self.effects.extend(decision.effects)
        for effect in decision.effects:
            if isinstance(effect, Release | Refresh | Clear):
                self.held.append(effect)
        if not self.hold:
            self.release()
        return decision

    def release(self) -> None:
        """Carry out what waits."""
        held, self.held = self.held, []
        for each in held:
            match each:
                case Release(version=version):
                    self.happen(Released(2.0, version.name, version.version))
                case Refresh():
                    self.happen(Refreshed(2.0))
                case Clear(versions=versions):
                    self.happen(Cleared(2.0, tuple(version.id for version in versions)))

    def submit(
        self,
        version: int,
        digest: str = A,
        publish_id: str | None = "r",
        says: str | None = None,
        **more: Any,
    ) -> Decision:
        """Let a publish request arrive whose label says this digest."""
        self.files += 1
        said: dict[str, Any] = {"parent": version - 1 if version else None, **more}
        label = ModelLabel(version=version, publish_id=publish_id, digest=says, **said)
        event = Submitted(1.0, f"file{self.files}", label, digest, "cc" * 32, 100, "json")
        return self.happen(event)

    def fill(self, count: int, name: str = "global_model") -> None:
        """Publish versions 0 to count - 1."""
        for number in range(count):
            self.submit(number, f"{number:064x}", f"r{number}", name=name)

    @property
    def text(self) -> str:
        """Return the last index as it was told."""
        told = [each.text for each in self.effects if isinstance(each, PublishIndex | Refresh)]
        return str(told[-1])

    @property
    def index(self) -> ModelIndex:
        """Return the last index."""
        return ModelIndex.decode(self.text.encode())

    def numbers(self, name: str = "global_model") -> list[int]:
        """Return the versions that the index lists."""
        line = self.index.models.get(name)
        return [each.version for each in line.versions] if line else []

    def refused(self) -> list[str]:
        """Return the names of the refusals in the index."""
        return [each.reason.partition(":")[0] for each in self.index.refusals]
