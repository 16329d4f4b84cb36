"""The entities of a core in memory."""

from collections.abc import Mapping
from typing import Any

from roost.chassis.core import Key


class States:
    """All entities in memory; the durable ones mirror the store."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[str, Any]] = {}

    def get(self, kind: str, id_: str, /) -> Any:
        """Return the state of one entity, or None."""
        return self._kinds.get(kind, {}).get(id_)

    def all(self, kind: str, /) -> Mapping[str, Any]:
        """Return all entities of a kind by id, oldest first."""
        return self._kinds.get(kind, {})

    def put(self, key: Key, state: Any) -> None:
        """Set or, with None, delete one entity."""
        kind, id_ = key
        entities = self._kinds.setdefault(kind, {})
        if state is None:
            entities.pop(id_, None)
        else:
            entities[id_] = state
