"""`roost phone bridge`, `invite`, `list`, `revoke`, `simulate`."""

from __future__ import annotations

import functools
import io
import os
import random
import sys
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from roost.cli.errors import CliError, UsageProblem
from roost.cli.options import Call, remote, require_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roost.protocol.phone.messages import PhonesState

__all__ = ["group"]

_MINUTE_S = 60.0
_HEADINGS = ("phone", "presence", "readiness", "why", "task", "app")


@click.group(name="phone")
def group() -> None:
    """Phones as proplets, through the bridge."""


@group.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address for phones.")
@click.option("--port", type=click.IntRange(0, 65535), default=8470, show_default=True)
@remote
def bridge(call: Call, host: str, port: int) -> int:
    """Run the bridge until Ctrl-C; phones reach it at HOST and PORT."""
    folder = call.state.root / "ios-bridge"
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "ROOST_BROKER": call.broker_url,
        "ROOST_STATE_DIR": str(folder),
        "ROOST_PHONE_HOST": host,
        "ROOST_PHONE_PORT": str(port),
    }
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "roost.ios_bridge"], environment)  # noqa: S606


@group.command()
@click.argument("device")
@click.option("--minutes", type=click.FloatRange(0.1, 60), default=5, show_default=True)
@click.option("--png", type=click.Path(path_type=Path), help="Also write the code to this file.")
@remote
def invite(call: Call, device: str, minutes: float, png: Path | None) -> None:
    """Let one phone become DEVICE: prints a link and its QR code, good once."""
    import segno  # noqa: PLC0415 - not for the other commands
    from roost.cli.phones import bridge_url, invite_phone  # noqa: PLC0415
    from roost.ios_bridge.invitation import link  # noqa: PLC0415

    if ":" in require_id("device", device):
        raise UsageProblem(f"{device!r} cannot be a device id: only Roost itself uses ':'")
    with call.wire() as wire:
        url = bridge_url(call, wire)
        token = invite_phone(call, wire, device, minutes * _MINUTE_S)
    address = link(url, token)
    code = segno.make(address, error="m")
    if png is not None:
        code.save(str(png), kind="png", scale=8)
    picture = io.StringIO()
    code.terminal(out=picture, compact=True)
    call.out.result(
        {"device": device, "url": url, "token": token, "link": address, "minutes": minutes},
        f"{picture.getvalue()}{address}\ngood once, for {minutes:g} minutes, as {device}",
    )


@group.command("list")
@remote
def list_(call: Call) -> None:
    """Show every phone of the bridge, and invitations that nobody has used."""
    with call.wire() as wire:
        state = _state(wire)
    rows = [
        {
            "phone": each.device, "presence": each.presence.value, "readiness": each.readiness,
            "why": each.why, "task": each.task_id, "app": each.app,
        }
        for each in state.phones
    ]  # fmt: skip
    rows += [
        {**dict.fromkeys(_HEADINGS), "phone": each.device, "presence": "invited"}
        for each in state.invites
    ]
    call.out.table(_HEADINGS, rows, empty="no phone; `roost phone invite NAME` invites one")


def _state(wire: Any) -> PhonesState:
    from roost.protocol.phone.messages import PhonesState  # noqa: PLC0415
    from roost.protocol.phone.topics import PHONES  # noqa: PLC0415

    received = wire.retained(PHONES.template)
    return PhonesState() if received is None else PhonesState.decode(received.payload)


@group.command()
@click.argument("device")
@remote
def revoke(call: Call, device: str) -> None:
    """Forget a phone: its tasks fail, its connection is cut, its password is void."""
    from roost.protocol.phone.messages import PhonesState, RevokePhone  # noqa: PLC0415
    from roost.protocol.phone.topics import PHONES, REVOKE  # noqa: PLC0415

    require_id("device", device)
    with call.wire() as wire:
        if not any(each.device == device for each in _state(wire).phones):
            raise CliError(f"there is no phone {device}; `roost phone list{call.at}` shows all")
        wire.subscribe(PHONES.template)
        wire.publish(REVOKE.format(device=device), RevokePhone())
        wire.await_message(
            lambda received: all(
                each.device != device for each in PhonesState.decode(received.payload).phones
            ),
            call.timeout_s,
            f"the bridge did not forget {device}",
        )
    call.out.result({"device": device, "revoked": True}, f"{device} is a phone no longer")


@group.command()
@click.argument("number", type=click.IntRange(1, 100))
@click.option("--seed", type=int, default=1, show_default=True, help="Of sleep and network.")
@click.option("--speed", type=float, default=1.0, show_default=True, help="Of battery and warmth.")
@click.option("--battery", type=click.FloatRange(0, 100), default=80, show_default=True)
@click.option("--unplugged", is_flag=True, help="On battery instead of on a charger.")
@click.option("--sleeps", type=float, default=0, help="Mean seconds until a phone sleeps.")
@click.option("--loses", type=float, default=0, help="Mean seconds until it loses the network.")
@click.option("--seconds", type=float, help="End by itself after this time.")
@remote
def simulate(
    call: Call, number: int, seed: int, seconds: float | None, unplugged: bool, **habits: float
) -> int:
    """Run NUMBER simulated phones, phone-1 and so on, until Ctrl-C.

    They pair with the bridge, and run guests as phones do: one task at a time, while awake and
    willing. The data of phone-1 is what `roost data import --proplet phone-1` gave it.
    """
    from roost.cli.phones import await_awake, simulated_phone  # noqa: PLC0415
    from roost.ios_bridge.simulator.life import Habits  # noqa: PLC0415

    names = [f"phone-{n}" for n in range(1, number + 1)]
    lives = []
    with call.wire() as wire, ExitStack() as stack:
        for n, name in enumerate(names):
            life = simulated_phone(
                call,
                wire,
                name,
                Habits(
                    battery=habits["battery"],
                    plugged=not unplugged,
                    speed=habits["speed"],
                    sleeps_every_s=habits["sleeps"],
                    loses_every_s=habits["loses"],
                ),
                functools.partial(_mounts, call.state.proplet(name) / "data"),
                random.Random(seed * 1000 + n),  # noqa: S311 - sleep and network, not secrets
            )
            lives.append(life)
            stack.enter_context(closing(_Stopping(life)))
            life.start()
        await_awake(wire, set(names), call.timeout_s)
        call.out.result({"event": "ready", "phones": names}, f"{number} phones are awake")
        threading.Event().wait(seconds)
    return 0


class _Stopping:
    """Ends a phone where a block ends."""

    def __init__(self, life: Any) -> None:
        self._life = life

    def close(self) -> None:
        self._life.stop()


def _mounts(folder: Path) -> Mapping[str, Path]:
    if not folder.is_dir():
        return {}
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
