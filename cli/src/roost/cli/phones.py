"""What `roost phone` needs of a machine: guests in Wasmtime, phones' credentials on disk."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from roost.cli.errors import CliError, WaitedTooLong
from roost.cli.wire_client import read
from roost.ios_bridge.invitation import invite, make_token
from roost.ios_bridge.simulator.client import BridgeAway, Credentials, NotWanted, pair
from roost.ios_bridge.simulator.core.states import Model
from roost.ios_bridge.simulator.life import Habits, Life
from roost.ios_bridge.simulator.ports import OnProgress, Run, RunEnd, Stop
from roost.proplet.guest import GuestRun, ModuleCache, Stopper, run_guest
from roost.protocol.phone.messages import BridgeCard, BridgeStatus, PhonesState
from roost.protocol.phone.topics import CARD, INVITE, PHONES
from roost.protocol.task.messages import FailureReason, Resources

if TYPE_CHECKING:
    from roost.chassis.received import Received
    from roost.cli.options import Call
    from roost.cli.wire_client import Wire

__all__ = ["WasmtimeRunner", "bridge_url", "invite_phone", "simulated_phone"]

_CACHE_BYTES = 512 * 1024 * 1024
_SIMULATOR = "roost simulator 0.1"


class WasmtimeRunner:
    """Runs the guests of simulated phones as a proplet does."""

    def __init__(self, cache: Path) -> None:
        """Keep compiled modules in a folder."""
        self._modules = ModuleCache(cache, _CACHE_BYTES)

    def run(self, run: Run, stop: Stop, on_progress: OnProgress) -> RunEnd:
        """Run a guest to its end."""
        task, stopper = run.task, Stopper()
        stop.when(stopper.stop)
        limits = task.limits
        wanted = GuestRun(
            image=run.image,
            digest=task.image.sha256,
            program=task.image.name,
            args=task.args,
            env=task.env,
            inputs=run.inputs,
            out=run.folder / "out",
            stdout=run.folder / "stdout",
            mounts=run.mounts,
            memory_mb=limits.memory_mb,
            wall_s=min(limits.wall_s or run.wall_s, run.wall_s),
            out_mb=limits.out_mb,
            stdout_mb=limits.stdout_mb,
        )
        end = run_guest(wanted, self._modules, stopper=stopper, on_progress=on_progress)
        outputs = {name: place for name in task.outputs if (place := _output(wanted, name))}
        reason, message = end.reason, end.message
        if reason is None and len(outputs) < len(task.outputs):
            missing = ", ".join(name for name in task.outputs if name not in outputs)
            reason = FailureReason.OUTPUT_MISSING
            message = f"it ended well, but wrote neither {missing} nor anything to stdout"
        return RunEnd(
            reason, message, end.exit_code, end.stderr_tail, end.usage, outputs, end.stopped
        )


def _output(run: GuestRun, name: str) -> Path | None:
    """Where an output lies: below /out, or standard output if there is no such file."""
    place = run.out / name
    if place.is_file() and not place.is_symlink():
        return place
    printed = run.stdout.is_file() and run.stdout.stat().st_size > 0
    return run.stdout if printed else None


def bridge_url(call: Call, wire: Wire) -> str:
    """Where phones find the bridge, which may just have been started.

    Raises:
        CliError: no bridge is there.
    """
    ends = time.monotonic() + call.known_within_s
    wire.subscribe(CARD.template)
    try:
        while received := wire.next(ends - time.monotonic()):
            card = read(CARD, received, BridgeCard)
            if card is not None and card.status is BridgeStatus.ONLINE and card.url is not None:
                return card.url
    finally:
        wire.unsubscribe(CARD.template)
    raise CliError("no bridge for phones is running; `roost phone bridge` starts one")


def invite_phone(call: Call, wire: Wire, device: str, expires_s: float) -> str:
    """Invite a phone and return its token.

    Raises:
        CliError: the bridge refused.
        WaitedTooLong: it does not answer.
    """
    before = _phones(wire)
    token = make_token()
    wanted = invite(token, device, expires_s)
    wire.subscribe(PHONES.template)
    wire.publish(INVITE.template, wanted)

    def answered(received: Received) -> bool:
        state = PhonesState.decode(received.payload)
        if any(each.invite_id == wanted.invite_id for each in state.invites):
            return True
        if sum(state.refusals.values()) > sum(before.refusals.values()):
            raise CliError(state.last_refusal or "the bridge refused the invitation")
        return False

    try:
        wire.await_message(answered, call.timeout_s, "the bridge did not take the invitation")
    finally:
        wire.unsubscribe(PHONES.template)
    return token


def _phones(wire: Wire) -> PhonesState:
    received = wire.retained(PHONES.template)
    return PhonesState() if received is None else PhonesState.decode(received.payload)


def simulated_phone(
    call: Call,
    wire: Wire,
    device: str,
    habits: Habits,
    mounts: Callable[[], Mapping[str, Path]],
    rng: random.Random,
) -> Life:
    """Make a simulated phone, paired before or now.

    Raises:
        CliError: it cannot be paired.
    """
    folder = call.state.root / "phones" / device
    folder.mkdir(parents=True, exist_ok=True)
    who = _credentials(call, wire, device, folder)
    runner = WasmtimeRunner(call.state.root / "phones" / "cache")
    resources = Resources(cpus=1, memory_mb=1024, arch=os.uname().machine)
    model = Model(_SIMULATOR, f"{rng.getrandbits(64):016x}", resources, tuple(mounts()))
    return Life(who, model, habits, folder, mounts, runner, rng)


def _credentials(call: Call, wire: Wire, device: str, folder: Path) -> Credentials:
    """What the phone was given, now or when it was simulated before."""
    url, kept = bridge_url(call, wire), folder / "credentials.json"
    known = any(line.device == device for line in _phones(wire).phones)
    if known and kept.is_file():
        found = json.loads(kept.read_text(encoding="utf-8"))
        return Credentials(url, found["device"], found["secret"], found["prefix"])
    if known:
        raise CliError(
            f"{device} is paired, and its password is not in {folder}: revoke it with "
            f"`roost phone revoke {device}{call.at}`"
        )
    try:
        who = pair(url, invite_phone(call, wire, device, call.timeout_s))
    except (BridgeAway, NotWanted) as problem:
        raise CliError(f"{device} could not be paired: {problem}") from problem
    handle = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(asdict(who), file)
    return who


def await_awake(wire: Wire, devices: set[str], timeout_s: float) -> None:
    """Wait until phones are awake.

    Raises:
        WaitedTooLong: one of them is not.
    """
    ends = time.monotonic() + timeout_s
    wire.subscribe(PHONES.template)
    try:
        while True:
            received = wire.next(ends - time.monotonic())
            if received is None:
                raise WaitedTooLong("the phones did not wake", timeout_s=timeout_s)
            state = PhonesState.decode(received.payload)
            if devices <= {each.device for each in state.phones if each.presence == "awake"}:
                return
    finally:
        wire.unsubscribe(PHONES.template)
