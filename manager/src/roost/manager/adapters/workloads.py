"""Performs the reading and the applying of workload bindings."""

from collections.abc import Callable
from pathlib import Path

from roost.manager.bindings import Bindings, BindingsInvalid, load
from roost.manager.core.events import (
    ApplyBindings,
    BindingsApplied,
    BindingsRead,
    BindingsRefused,
    ReadBindings,
)
from roost.manager.ports import Forwards, LaunchTopics


class WorkloadsFolder:
    """Keeps the bindings that were read last, and makes the subscriptions follow them."""

    def __init__(
        self,
        folder: Path,
        bindings: Bindings,
        launches: LaunchTopics,
        forwards: Forwards,
        clock: Callable[[], float],
    ) -> None:
        """Begin with the bindings that the process started with."""
        self._folder, self._latest = folder, bindings
        self._launches, self._forwards, self._clock = launches, forwards, clock

    def read(self, effect: ReadBindings) -> tuple[BindingsRead | BindingsRefused]:
        """Read the folder again."""
        try:
            self._latest = load(self._folder)
        except BindingsInvalid as error:
            return (BindingsRefused(self._clock(), str(error), effect.reload_id),)
        return (BindingsRead(self._clock(), self._latest, effect.reload_id),)

    def apply(self, effect: ApplyBindings) -> tuple[BindingsApplied]:
        """Subscribe to what the bindings read last name, and to no more.

        An effect that an earlier process left to do is done with today's bindings.
        """
        latest = self._latest
        self._launches.apply([rule.topic for rule in latest.launches], effect.launches_gone)
        pairs = [(rule.source, rule.to) for rule in latest.forwards]
        problem = self._forwards.apply(pairs, effect.forwards_gone)
        return (BindingsApplied(self._clock(), effect.reload_id, problem),)
