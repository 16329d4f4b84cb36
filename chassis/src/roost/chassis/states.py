"""The entities of a core: in memory, but for those that grow for ever."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from roost.chassis.core import Key


def _nothing(_key: Key) -> None:
    """There is no store."""


class States:
    """All entities; the durable ones mirror the store, the cold ones are read from it."""

    def __init__(
        self, cold: Collection[str] = (), look_up: Callable[[Key], Any] = _nothing
    ) -> None:
        """Begin with nothing.

        Args:
            cold: Kinds that are not kept in memory.
            look_up: Reads an entity of those from the store, as it was committed.
        """
        self._kinds: dict[str, dict[str, Any]] = {}
        self._cold, self._look_up = cold, look_up
        self._uncommitted: dict[Key, Any] = {}

    def get(self, kind: str, id_: str, /) -> Any:
        """Return the state of one entity, or None."""
        if kind not in self._cold:
            return self._kinds.get(kind, {}).get(id_)
        key = (kind, id_)
        return self._uncommitted[key] if key in self._uncommitted else self._look_up(key)

    def all(self, kind: str, /) -> Mapping[str, Any]:
        """Return all entities of a kind by id, oldest first."""
        assert kind not in self._cold, f"'{kind}' is not kept in memory"
        return self._kinds.get(kind, {})

    def put(self, key: Key, state: Any) -> None:
        """Set or, with None, delete one entity."""
        kind, id_ = key
        if kind in self._cold:
            self._uncommitted[key] = state
            return
        entities = self._kinds.setdefault(kind, {})
        if state is None:
            entities.pop(id_, None)
        else:
            entities[id_] = state

    def committed(self) -> None:
        """Forget what the store has now."""
        self._uncommitted.clear()
