"""Carries service effects out on their lanes, with patience."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from roost.chassis.effects import ServiceEffect
from roost.chassis.errors import BrokerAway
from roost.chassis.lanes import LanesPort
from roost.chassis.logs import get_logger
from roost.chassis.trouble import Trouble, passes
from roost.chassis.turn import Performed

Performer: TypeAlias = Callable[[Any], Iterable[Any] | None]
"""Carries one service effect out and returns the events that come of it."""

_TRIES: Final = 5
_LONGEST_EXPONENT: Final = 4


class Doing:
    """Hands effects to their performers, and what comes of them to the runner."""

    def __init__(
        self,
        performers: Mapping[type[Any], Performer],
        lanes: LanesPort,
        put: Callable[[Performed], None],
        pause: Callable[[float], None],
        trouble: Trouble,
    ) -> None:
        """Put the parts together.

        Args:
            performers: A function for each effect.
            lanes: Where they run.
            put: Takes what came of an effect.
            pause: Waits between tries of an effect that raised.
            trouble: Hears of a full disk.
        """
        self._performers, self._lanes, self._put = performers, lanes, put
        self._pause, self._trouble = pause, trouble
        self._log = get_logger()
        self._is_ending = False

    def end(self) -> None:
        """Begin no more tries of what fails."""
        self._is_ending = True

    def submit(self, entry: int, effect: ServiceEffect) -> None:
        """Carry a journalled effect out after all earlier ones of its lane."""
        self._lanes.submit(effect.lane, lambda: self._do(entry, effect))

    def _do(self, entry: int, effect: ServiceEffect) -> None:
        performed = self._perform(entry, effect)
        if performed is not None:
            self._put(performed)

    def _perform(self, entry: int, effect: ServiceEffect) -> Performed | None:
        """Return what came of an effect; None: the process ends first, the next one does it."""
        performer = self._performers[type(effect)]
        tries, waited = 0, False
        while True:
            try:
                performed = Performed(entry, tuple(performer(effect) or ()))
            except Exception as error:  # noqa: BLE001 - tried again, then reported
                problem = f"{type(effect).__name__}: {error!r}"
                self._log.warning("effect.raised", problem=problem, attempt=tries)
                if isinstance(error, BrokerAway):
                    waited = True  # however long it is away
                elif passes(error):
                    waited = True
                    self._trouble.met(error)
                elif tries >= _TRIES - 1:
                    return Performed(entry, (), problem, effect)
                if waited and self._is_ending:
                    return None
                self._pause(2.0 ** min(tries, _LONGEST_EXPONENT) / 2)
                tries += 1
            else:
                if waited:
                    self._trouble.over()
                return performed
