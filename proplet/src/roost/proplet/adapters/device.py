"""What a Linux device has and how it does, read from ``/proc`` and ``/sys``."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

from roost.protocol.task.messages import Resources, Telemetry

_MB: Final = 1024 * 1024
_NEAR_C: Final = 10.0
PROTOCOLS: Final = {"task": 1}


def resources() -> Resources:
    """Return processors that this process may use, memory, architecture."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Resources(
        cpus=len(os.sched_getaffinity(0)),
        memory_mb=max(1, memory // _MB),
        arch=platform.machine(),
    )


def runtimes() -> tuple[str, ...]:
    """Return what runs guests here, by name and version, and what guests may expect."""
    return ("wasi-preview1", f"wasmtime-{version('wasmtime')}")


def telemetry(running: int, root: Path = Path("/")) -> Telemetry:
    """Sample the device.

    Args:
        running: Tasks that run now.
        root: Where ``proc`` and ``sys`` lie.
    """
    return Telemetry(
        load=float(_text(root / "proc/loadavg", "0").split()[0]),
        memory_free_mb=_memory_free_mb(root),
        battery=_battery(root),
        on_power=_on_power(root),
        thermal=_thermal(root),
        running=running,
    )


def _text(path: Path, default: str = "") -> str:
    """Return a small file's text; such files come and go with the hardware."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or default
    except OSError:
        return default


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None


def _memory_free_mb(root: Path) -> int:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def _supplies(root: Path, kind: str) -> list[Path]:
    folder = root / "sys/class/power_supply"
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        supply
        for supply in found
        if _text(supply / "type") == kind and _text(supply / "scope", "System") == "System"
    ]


def _battery(root: Path) -> float | None:
    """Return the charge of the first battery in percent."""
    for supply in _supplies(root, "Battery"):
        charge = _number(supply / "capacity")
        if charge is not None:
            return min(100.0, max(0.0, charge))
    return None


def _on_power(root: Path) -> bool | None:
    """Tell whether a charger is connected; None where the device does not say."""
    chargers = [*_supplies(root, "Mains"), *_supplies(root, "USB")]
    states = [_number(supply / "online") for supply in chargers]
    known = [state for state in states if state is not None]
    return any(state > 0 for state in known) if known else None


def _thermal(root: Path) -> str | None:
    """Return the worst state of all zones that name a temperature at which they throttle."""
    folder = root / "sys/class/thermal"
    zones = sorted(folder.glob("thermal_zone*")) if folder.is_dir() else []
    levels = [level for zone in zones if (level := _zone_level(zone)) is not None]
    return ("nominal", "fair", "serious", "critical")[max(levels)] if levels else None


def _zone_level(zone: Path) -> int | None:
    celsius = _number(zone / "temp")
    trips = {
        _text(path.with_name(path.name.replace("_type", "_temp"))): _text(path)
        for path in sorted(zone.glob("trip_point_*_type"))
    }
    limits = {kind: float(temp) for temp, kind in trips.items() if temp.lstrip("-").isdecimal()}
    throttle = limits.get("passive", limits.get("hot"))
    critical = limits.get("critical")
    if celsius is None or (throttle is None and critical is None):
        return None
    if critical is not None and celsius >= critical:
        return 3
    if throttle is None:
        return 0
    if celsius >= throttle:
        return 2
    return 1 if celsius >= throttle - _NEAR_C * 1000 else 0
