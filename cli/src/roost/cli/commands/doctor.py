"""`roost doctor`: what is missing or wrong on this machine."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version

import click
from roost.cli.broker import find_mosquitto, mosquitto_version, parse_url
from roost.cli.broker.embedded import embedded_version
from roost.cli.errors import CliError
from roost.cli.options import Call, remote
from roost.cli.output import paint, wants_colour
from roost.cli.ports import holder_of
from roost.cli.security.folder import BrokerFolder
from roost.cli.security.trust import RENEW_BEFORE, expiries
from roost.cli.views import model_index, proplet_rows
from roost.cli.wire_client import read
from roost.client_wasm import GuestDamagedError, guest_digest
from roost.protocol.round.messages import CoordinatorState
from roost.protocol.round.topics import COORDINATOR_STATE
from roost.protocol.task.messages import WorkloadsState
from roost.protocol.task.topics import WORKLOADS_STATE

__all__ = ["doctor"]

OLDEST_PYTHON = (3, 11)
_WHEELS = ("paho-mqtt", "numpy", "safetensors", "pydantic", "wasmtime", "iotcore", "scikit-learn")
_FILES_NEEDED = 1024
_DISK_NEEDED_MB = 500
_MEMORY_NEEDED_MB = 1024
_MB = 1024 * 1024
_COLOURS = {"ok": "32", "warning": "33", "problem": "31"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: the thing.
        level: `ok`, `warning` (Roost works without) or `problem`.
        found: what is there, and what to do about it.
    """

    what: str
    level: str
    found: str


@click.command("doctor")
@remote
def doctor(call: Call) -> int:
    """Look at Python, brokers, limits, port, wheels and who answers; 1 if something is wrong."""
    findings = [
        *machine(), *brokers(), *limits(call), *certificates(call), *who_answers(call),
    ]  # fmt: skip
    for finding in findings:
        call.out.result(finding.__dict__, _line(finding))
    return 1 if any(f.level == "problem" for f in findings) else 0


def machine() -> Iterator[Finding]:
    """Python, the platform, the wheels."""
    python = platform.python_version()
    old = sys.version_info < OLDEST_PYTHON
    yield Finding("python", "problem" if old else "ok", f"{python} at {sys.executable}")
    system = f"{platform.system()} {platform.machine()}"
    linux = sys.platform == "linux"
    yield Finding(
        "platform",
        "ok" if linux else "warning",
        system if linux else f"{system}: proplets run on Linux; the other services run here",
    )
    for wheel in _WHEELS:
        try:
            yield Finding(f"wheel {wheel}", "ok", version(wheel))
        except PackageNotFoundError:
            cure = "not installed: `uv sync --package roost-cli`"
            yield Finding(f"wheel {wheel}", "problem", cure)
    try:
        yield Finding("guest", "ok", f"blob:operator/{guest_digest()}")
    except GuestDamagedError as problem:
        yield Finding("guest", "problem", str(problem))


def brokers() -> Iterator[Finding]:
    """The brokers and clients of this machine."""
    program = find_mosquitto()
    embedded = embedded_version()
    if program is not None:
        yield Finding("mosquitto", "ok", f"{mosquitto_version(program)} at {program}")
    else:
        cure = "not installed (`apt-get install mosquitto`); `roost up` takes the embedded broker"
        yield Finding("mosquitto", "warning" if embedded else "problem", cure)
    if embedded is not None:
        yield Finding("embedded broker", "ok", f"iotcore {embedded}")
    else:
        level = "warning" if program else "problem"
        yield Finding("embedded broker", level, "iotcore is not installed")
    client = shutil.which("mosquitto_pub")
    yield Finding(
        "mosquitto_pub",
        "ok" if client else "warning",
        client or "not installed (`apt-get install mosquitto-clients`); `roost` does without",
    )


def limits(call: Call) -> Iterator[Finding]:
    """Open files, disk, memory, the broker's port."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft < _FILES_NEEDED
    cure = f"{soft}, which is few: `ulimit -n {_FILES_NEEDED}`" if few else str(soft)
    yield Finding("open files", "warning" if few else "ok", cure)
    place = next(p for p in (call.state.root, *call.state.root.parents) if p.exists())
    free = shutil.disk_usage(place).free // _MB
    full = free < _DISK_NEEDED_MB
    yield Finding("disk", "problem" if full else "ok", f"{free} MB free at {place}")
    if not os.access(place, os.W_OK):
        yield Finding("state folder", "problem", f"{place} cannot be written: choose --state")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MB
    little = memory < _MEMORY_NEEDED_MB
    yield Finding("memory", "warning" if little else "ok", f"{memory} MB, {os.cpu_count()} CPUs")


def certificates(call: Call) -> Iterator[Finding]:
    """When the certificates of a broker that devices reach end."""
    now = datetime.now(UTC)
    for each in expiries(BrokerFolder(call.state.broker).paths):
        left = each.at - now
        level = "problem" if left < timedelta(0) else "warning" if left < RENEW_BEFORE else "ok"
        cure = "" if level == "ok" else f": `{each.cure}` makes a new one"
        yield Finding(each.what, level, f"ends {each.at:%Y-%m-%d}, in {left.days} days{cure}")


def who_answers(call: Call) -> Iterator[Finding]:
    """The broker that commands would talk to, and the services behind it."""
    url = call.broker_url
    _, host, port = parse_url(url)
    pid = call.state.running_pid()
    about = f"runs with pid {pid}" if pid is not None else "is not running"
    yield Finding("instance", "ok", f"{call.state.root} {about}")
    holder = holder_of(port) if host in ("127.0.0.1", "localhost") else None
    if holder is not None:
        yield Finding(f"port {port}", "ok", f"held by {holder}")
    for name in call.state.services_at_rest() if pid is not None else ():
        log = call.state.logs / f"{name}.log"
        yield Finding(name, "problem", f"does not run; the last lines of {log} say why")
    try:
        with call.wire() as wire:
            yield Finding("broker", "ok", f"{url} answers and speaks MQTT 5")
            manager = wire.retained(WORKLOADS_STATE.template)
            coordinator = wire.retained(COORDINATOR_STATE.template)
            index = model_index(wire)
            proplets = [row for row in proplet_rows(wire) if row["status"] == "online"]
    except CliError as problem:
        yield Finding("broker", "warning" if pid is None else "problem", str(problem))
        return
    state = read(WORKLOADS_STATE, manager, WorkloadsState)
    yield _service("manager", there=state is not None)
    if state is not None and state.refused:
        yield Finding("workloads", "problem", state.refused)
    known = read(COORDINATOR_STATE, coordinator, CoordinatorState)
    yield _service("coordinator", there=known is not None)
    yield _service("model server", there=index is not None)
    yield from _refusals(
        {
            "manager": state.last_refusal if state else None,
            "coordinator": known.last_refusal if known else None,
            "model server": index.refusals[-1].reason if index and index.refusals else None,
        }
    )
    names = ", ".join(str(row["proplet"]) for row in proplets) or "none online"
    yield Finding("proplets", "ok" if proplets else "warning", names)


def _refusals(last: Mapping[str, str | None]) -> Iterator[Finding]:
    """What each service turned down last: nothing is wrong with it, but somebody may wonder."""
    for name, said in last.items():
        if said is not None:
            yield Finding(f"last refusal of the {name}", "ok", said)


def _service(name: str, *, there: bool) -> Finding:
    said = "has told its state" if there else "has never told its state at this broker"
    return Finding(name, "ok" if there else "problem", said)


def _line(finding: Finding) -> str:
    level = f"{finding.level:<8}"
    if wants_colour(sys.stdout):
        level = paint(level, _COLOURS[finding.level])
    return f"{level} {finding.what}: {finding.found}"
