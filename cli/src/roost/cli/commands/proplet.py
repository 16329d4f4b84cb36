"""`roost proplet list|invite|join|revoke`."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from roost.cli.errors import UsageProblem
from roost.cli.options import Call, local, remote, require_id
from roost.cli.views import proplet_rows

__all__ = ["group"]

_BOARD = "/var/lib/roost"
_NO_WHEELS = ("armv6l", "armv7l", "armv8l", "i386", "i686")
_FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="The broker's folder; `broker` in the state folder.",
)


@click.group(name="proplet")
def group() -> None:
    """Which proplets there are, and who may become one."""


@group.command("list")
@remote
def list_(call: Call) -> None:
    """Show every proplet that the broker knows of, online or not."""
    with call.wire() as wire:
        rows = proplet_rows(wire)
    call.out.table(
        ("proplet", "status", "mounts", "running", "load", "memory_free_mb", "arch"),
        rows,
        empty="no proplet has ever connected here; `roost up` starts some",
    )


@group.command("invite")
@click.option("--name", metavar="NAME", help="The proplet's id; by default the next board-N.")
@click.option(
    "--label", "labels", multiple=True, metavar="NAME=VALUE", help="What selectors shall see."
)
@click.option(
    "--minutes",
    type=click.IntRange(min=1, max=7 * 24 * 60),
    default=60,
    show_default=True,
    help="How long the invitation is good.",
)
@click.option("--no-qr", is_flag=True, help="Print no QR code.")
@_FOLDER
@local
def invite(
    call: Call,
    name: str | None,
    labels: tuple[str, ...],
    minutes: int,
    folder: Path | None,
    *,
    no_qr: bool,
) -> None:
    """Let one board join: prints a line to run on it, and the same as a QR code.

    Whoever reads the line first becomes that proplet, once; so show it to nobody else. Run it on
    the machine of the broker.
    """
    from roost.cli.security import inviting  # noqa: PLC0415 - not for `list`
    from roost.cli.security.folder import BrokerFolder  # noqa: PLC0415

    broker = BrokerFolder(folder or call.state.broker)
    now = datetime.now(UTC)
    pairs = inviting.read_labels(labels)
    line, chosen = inviting.invite(broker, name, pairs, now, timedelta(minutes=minutes))
    command = f"python3 bootstrap.py join '{line}'"
    call.out.result(
        {"proplet": chosen, "line": str(line), "minutes": minutes, "command": command},
        f"Good for {minutes} minutes and one board, which becomes {chosen}. "
        f"In a clone of Roost on the board:\n\n  {command}\n",
    )
    if not inviting.is_served(broker.site()):
        call.out.note(
            "Nothing answers there yet: start `roost up --listen`, or `roost broker join-server` "
            "beside a broker of your own."
        )
    if not no_qr and not call.out.as_json:
        call.out.line(inviting.qr_code(str(line)))


@group.command("join")
@click.argument("line")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    help=f"Where to keep everything; {_BOARD} for root, else .roost/board.",
)
@click.option("--run", is_flag=True, help="Run the proplet at once, until Ctrl-C.")
@local
def join(call: Call, line: str, directory: Path | None, *, run: bool) -> None:
    """On a board: exchange the invitation LINE for credentials, and try them.

    LINE may be - to read it from standard input, where other users of the board cannot see it.
    """
    if platform.machine() in _NO_WHEELS:
        raise UsageProblem(
            f"this board is {platform.machine()}, for which there is no Wasmtime: Roost needs a "
            "64-bit system (aarch64 or x86-64). A Raspberry Pi 3 or newer can run one"
        )
    from roost.cli.security import board  # noqa: PLC0415 - not for `list`
    from roost.cli.security.invitations import JoinLine  # noqa: PLC0415
    from roost.cli.security.login import log_in  # noqa: PLC0415

    invitation = JoinLine.parse(sys.stdin.readline() if line == "-" else line)
    place = board.Board((directory or _board_folder(call)).absolute())
    if place.settings.exists():
        raise UsageProblem(
            f"{place.root} is a proplet's already: remove {place.settings} to join as another one, "
            "or name another folder with --dir"
        )
    authority = board.fetch_authority(invitation)
    password = place.password_for(invitation)
    joined = board.join(invitation, password, authority)
    settings = place.write(joined, password, authority)
    log_in(settings)
    by_hand = f"set -a; . {shlex.quote(str(place.settings))}; {sys.executable} -m roost.proplet"
    call.out.result(
        {"proplet": joined.name, "broker": joined.broker, "folder": str(place.root)},
        f"This board is {joined.name} now, and {joined.broker} lets it in.\n"
        f"Its private data belongs into {settings['ROOST_DATA_DIR']}.\n"
        f"Run it:          {by_hand}\n"
        f"or as a service: sudo systemctl enable --now {place.unit}",
    )
    if run:
        os.execve(sys.executable, [sys.executable, "-m", "roost.proplet"],  # noqa: S606
                  {**os.environ, **settings})  # fmt: skip


@group.command("revoke")
@click.argument("name")
@_FOLDER
@local
def revoke(call: Call, name: str, folder: Path | None) -> None:
    """Let proplet NAME in no longer; its connection ends, and what it last said is cleared.

    Run it on the machine of the broker.
    """
    require_id("proplet", name)
    from roost.cli.security import inviting  # noqa: PLC0415 - not for `list`
    from roost.cli.security.folder import BrokerFolder  # noqa: PLC0415

    outcome = inviting.revoke(BrokerFolder(folder or call.state.broker), name)
    call.out.result({"proplet": name, "outcome": outcome.name.lower()}, f"{name}: {outcome.value}")


def _board_folder(call: Call) -> Path:
    return Path(_BOARD) if os.geteuid() == 0 else call.state.root / "board"
