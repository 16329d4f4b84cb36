"""Running one guest without any broker: ``run_guest(GuestRun(...), cache) -> GuestOutcome``."""

from roost.proplet.guest.cache import ModuleCache
from roost.proplet.guest.process import Stopper
from roost.proplet.guest.run import GuestOutcome, GuestRun, run_guest

__all__ = ["GuestOutcome", "GuestRun", "ModuleCache", "Stopper", "run_guest"]
