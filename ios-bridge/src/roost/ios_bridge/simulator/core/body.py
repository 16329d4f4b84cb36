"""A phone's battery and case, as far as they decide whether it may work. Not a measurement."""

from dataclasses import dataclass, replace
from typing import Final

from roost.protocol.phone.messages import MINUTES_A_DAY, Reading

HOUR_S: Final = 3600.0
CHARGE, IDLE_DRAIN, WORK_DRAIN = 40.0, 3.0, 30.0
"""Percent an hour."""
_WARM_S: Final = 1500.0
_COOL_S: Final = 900.0
_HEAT: Final = ((0.5, "nominal"), (0.75, "fair"), (0.95, "serious"))


@dataclass(frozen=True, slots=True)
class Body:
    """How a phone is.

    Attributes:
        battery: Percent.
        warmth: 0 is cold, 1 as hot as it gets.
        plugged: Whether it hangs on a charger.
        low_power: Whether its owner switched Low Power Mode on.
    """

    battery: float
    warmth: float = 0.0
    plugged: bool = False
    low_power: bool = False

    def after(self, seconds: float, *, working: bool, plugged: bool) -> "Body":
        """Return the phone some time later.

        Args:
            seconds: How much later.
            working: Whether it worked meanwhile.
            plugged: Whether it hung on a charger.
        """
        rate = (CHARGE if plugged else 0.0) - (WORK_DRAIN if working else IDLE_DRAIN)
        battery = min(100.0, max(0.0, self.battery + rate * seconds / HOUR_S))
        if working:
            warmth = self.warmth + (1.0 - self.warmth) * min(1.0, seconds / _WARM_S)
        else:
            warmth = self.warmth * (1.0 - min(1.0, seconds / _COOL_S))
        return replace(self, battery=battery, warmth=warmth, plugged=plugged)

    @property
    def thermal(self) -> str:
        """The word for its warmth."""
        return next((word for limit, word in _HEAT if self.warmth < limit), "critical")

    def reading(self, minute: float) -> Reading:
        """Return what its sensors say.

        Args:
            minute: Minutes since some midnight, on its own clock.
        """
        return Reading(
            battery=round(self.battery, 1),
            on_power=self.plugged,
            low_power=self.low_power,
            thermal=self.thermal,
            local_minute=int(minute % MINUTES_A_DAY),
        )
