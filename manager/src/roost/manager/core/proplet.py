"""What the manager knows of proplets: kept in memory, learnt again after a start.

A proplet is online while its presence or telemetry came, not as a retained message, within the
last 30 s. A retained presence only tells that it exists; that is enough to send a start order to
the one proplet a task is pinned to, for orders are repeated, but not to choose it for a task.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from roost.manager.core.step import LEASE_S
from roost.protocol.task.messages import Presence, PresenceStatus

ONLINE_S: Final = LEASE_S


@dataclass(frozen=True, slots=True)
class Link:
    """The manager's own connection: without it nobody else's silence means anything.

    Attributes:
        up: Whether it stands.
        since: Since when.
    """

    up: bool
    since: float


@dataclass(frozen=True, slots=True)
class Proplet:
    """One proplet.

    Attributes:
        id: Its id.
        presence: Its last presence, retained or not; None: only telemetry or reports came.
        seen_at: When it last showed life itself.
        hinted_at: When a retained presence last said that it was online.
    """

    id: str
    presence: Presence | None = None
    seen_at: float | None = None
    hinted_at: float | None = None

    @property
    def online_status(self) -> bool:
        """Whether its last presence does not say otherwise."""
        return self.presence is None or self.presence.status is PresenceStatus.ONLINE

    def online(self, at: float) -> bool:
        """Whether it showed life itself within the last 30 s."""
        return self.online_status and _recent(self.seen_at, at)

    def reachable(self, at: float) -> bool:
        """Whether a start order sent now has a chance."""
        return self.online(at) or (self.online_status and _recent(self.hinted_at, at))

    def alive(self, at: float) -> "Proplet":
        """Return what it is after a life sign: a last will that came before was an old one's."""
        card = self.presence
        if card is not None and card.status is PresenceStatus.OFFLINE:
            card = card.model_copy(update={"status": PresenceStatus.ONLINE})
        return replace(self, presence=card, seen_at=at)

    def serves(self, selector: Mapping[str, str]) -> bool:
        """Whether its labels are what a task asks for."""
        labels = self.presence.labels if self.presence is not None else {}
        return all(labels.get(name) == value for name, value in selector.items())


def _recent(moment: float | None, at: float) -> bool:
    return moment is not None and at - moment < ONLINE_S


def quiet_since(proplet: Proplet | None, link: Link) -> float:
    """Return the moment of the last life sign that the manager could have heard of."""
    seen = proplet.seen_at if proplet is not None else None
    return max(link.since, seen) if seen is not None else link.since


def choose(
    proplets: Iterable[Proplet], selector: Mapping[str, str], load: Mapping[str, int], at: float
) -> str | None:
    """Return the online proplet with these labels that has the fewest tasks, if there is one."""
    fitting = [p for p in proplets if p.presence and p.online(at) and p.serves(selector)]
    if not fitting:
        return None
    return min(fitting, key=lambda proplet: (load.get(proplet.id, 0), proplet.id)).id
