"""A decision in the making: what it put is seen by what it reads next."""

from collections.abc import Mapping
from typing import Any

from roost.chassis.core import Decision, Key, View
from roost.chassis.effects import Effect


class Draft:
    """Collects the puts and effects of one event over an unchanging view."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._puts: dict[Key, Any] = {}
        self._effects: list[Effect] = []

    def get(self, kind: str, id_: str) -> Any:
        """Return an entity as it will be, or None."""
        key = (kind, id_)
        return self._puts[key] if key in self._puts else self._view.get(kind, id_)

    def all(self, kind: str) -> Mapping[str, Any]:
        """Return all entities of a kind as they will be, oldest first."""
        changed = {id_: state for (each, id_), state in self._puts.items() if each == kind}
        if not changed:
            return self._view.all(kind)
        merged = {**self._view.all(kind), **changed}
        return {id_: state for id_, state in merged.items() if state is not None}

    def put(self, kind: str, id_: str, state: Any | None) -> None:
        """Set an entity or, with None, delete it."""
        self._puts[kind, id_] = state

    def emit(self, *effects: Effect) -> None:
        """Ask for effects, after those that were asked for."""
        self._effects.extend(effects)

    def decision(self) -> Decision:
        """Return what was collected."""
        return Decision(self._puts, tuple(self._effects))
