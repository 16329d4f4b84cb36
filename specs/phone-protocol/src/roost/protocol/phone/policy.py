"""Battery, power and heat: whether a phone may work (rules PHONE-020 ff.).

The bridge decides with what it heard last, the phone once more with what it feels now; work goes
on only where both allow it. ``specs/vectors/phone/policy.json`` holds cases that every
implementation passes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from roost.protocol.phone.messages import MINUTES_A_DAY, Reading

STALE_S: Final = 900.0
LOW_BATTERY: Final = 20.0
ENOUGH_BATTERY: Final = 25.0
GOOD_BATTERY: Final = 50.0
NIGHT_FROM: Final = 22 * 60
NIGHT_UNTIL: Final = 6 * 60
HOT: Final = frozenset({"serious", "critical"})


class Readiness(StrEnum):
    """How willing a phone is to work."""

    PREFERRED = "preferred"
    ELIGIBLE = "eligible"
    STANDBY = "standby"
    PAUSED = "paused"

    @property
    def begins(self) -> bool:
        """Whether work that has not begun may begin."""
        return self in (Readiness.PREFERRED, Readiness.ELIGIBLE)


class Why(StrEnum):
    """What decided a phone's readiness."""

    HEAT = "heat"
    LOW_POWER = "low_power"
    LOW_BATTERY = "low_battery"
    CHARGING_AT_NIGHT = "charging_at_night"
    CHARGING = "charging"
    GOOD_BATTERY = "good_battery"
    NOT_CHARGING = "not_charging"


TABLE: Final[Mapping[Why, Readiness]] = {
    Why.HEAT: Readiness.PAUSED,
    Why.LOW_POWER: Readiness.PAUSED,
    Why.LOW_BATTERY: Readiness.PAUSED,
    Why.CHARGING_AT_NIGHT: Readiness.PREFERRED,
    Why.CHARGING: Readiness.ELIGIBLE,
    Why.GOOD_BATTERY: Readiness.ELIGIBLE,
    Why.NOT_CHARGING: Readiness.STANDBY,
}
"""The policy: the first reason that applies decides."""


@dataclass(frozen=True, slots=True)
class Senses:
    """The latest word on each sensor, whoever said it.

    Attributes:
        known: Value and time in seconds, by the name of the reading's field.
    """

    known: dict[str, tuple[Any, float]] = field(default_factory=dict)

    def told(self, reading: Reading, at: float) -> "Senses":
        """Return these senses with what a reading adds; what it leaves out stays as it was."""
        new = {name: (value, at) for name, value in reading if value is not None}
        return Senses({**self.known, **new})

    def get(self, name: str, at: float) -> Any:
        """Return what is known of a sensor, or None: never heard of, or for 15 minutes."""
        value, since = self.known.get(name, (None, at))
        return value if at - since < STALE_S else None

    def night(self, at: float) -> bool:
        """Tell whether the phone's own clock is known to say night."""
        minute = self.get("local_minute", at)
        if minute is None:
            return False
        now = (minute + (at - self.known["local_minute"][1]) / 60) % MINUTES_A_DAY
        return bool(now >= NIGHT_FROM or now < NIGHT_UNTIL)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a phone may work.

    Attributes:
        readiness: How willing it is.
        why: What decided.
        low: The battery has been low and not been seen at 25 % since; given to the next verdict.
    """

    readiness: Readiness
    why: Why
    low: bool

    @property
    def pause(self) -> str | None:
        """Why work must rest; None: it need not."""
        return self.why.value if self.readiness is Readiness.PAUSED else None


def judge(senses: Senses, at: float, *, low: bool) -> Verdict:
    """Return whether a phone may work now.

    Args:
        senses: What is known of it.
        at: Now, in seconds on the clock of the senses.
        low: As the last verdict said; False for the first.
    """
    battery = senses.get("battery", at)
    if battery is not None:
        low = battery < LOW_BATTERY or (low and battery < ENOUGH_BATTERY)
    charging = bool(senses.get("on_power", at))
    applies = {
        Why.HEAT: senses.get("thermal", at) in HOT,
        Why.LOW_POWER: bool(senses.get("low_power", at)),
        Why.LOW_BATTERY: battery is not None and low,
        Why.CHARGING_AT_NIGHT: charging and senses.night(at),
        Why.CHARGING: charging,
        Why.GOOD_BATTERY: battery is not None and battery > GOOD_BATTERY,
        Why.NOT_CHARGING: True,
    }
    why = next(each for each in TABLE if applies[each])
    return Verdict(TABLE[why], why, low)
