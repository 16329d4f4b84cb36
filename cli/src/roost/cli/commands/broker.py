"""`roost broker`: a broker that devices reach, with users, rights and certificates."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
from roost.cli.broker import find_mosquitto
from roost.cli.errors import CliError, UsageProblem
from roost.cli.local import find_workloads
from roost.cli.options import Call, local
from roost.cli.security.folder import BrokerFolder, running_pid
from roost.cli.security.invitations import Invitations
from roost.cli.security.planning import Wishes, plan_site
from roost.cli.security.trust import (
    expiries,
    renew_authority,
    renew_server,
    take_certificate,
)
from roost.cli.security.users import Role, new_password

__all__ = ["group"]

_FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="The broker's folder; `broker` in the state folder.",
)


@click.group(name="broker")
def group() -> None:
    """A broker that devices reach: users, rights, certificates."""


@group.command("setup")
@_FOLDER
@click.option("--listen", metavar="ADDRESS[:PORT]", help="Where devices reach it; port 8883.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="What devices call this machine, a name or an address; the first is in invitations.",
)
@click.option(
    "--loopback",
    type=click.IntRange(min=0, max=65535),
    metavar="PORT",
    help="For this machine, without passwords; 0: not at all. 1883.",
)
@click.option(
    "--prefix",
    envvar="ROOST_TOPIC_PREFIX",
    metavar="TEXT",
    help="Goes before all topics; ROOST_TOPIC_PREFIX.",
)
@click.option("--workloads", metavar="DIR", help="Folder of workload bindings.")
@click.option("--run-as", metavar="USER", help="Whom mosquitto becomes when root starts it.")
@click.option("--cert", type=click.Path(path_type=Path), help="A certificate made elsewhere.")
@click.option("--key", type=click.Path(path_type=Path), help="Its key.")
@click.option("--ca", type=click.Path(path_type=Path), help="What clients shall trust with it.")
@local
def setup(
    call: Call,
    folder: Path | None,
    loopback: int | None,
    workloads: str | None,
    cert: Path | None,
    key: Path | None,
    ca: Path | None,
    **said: object,
) -> None:
    """Write a whole configuration for mosquitto; again to change it, or after new bindings.

    Users, passwords and certificates that are there already stay. Devices, operators and viewers
    need a password and TLS; only this machine does without.
    """
    broker = _folder(call, folder)
    is_new = workloads is not None or not broker.exists
    found = find_workloads(workloads) if is_new else None
    wishes = Wishes(loopback_port=loopback, workloads=found, **said)  # type: ignore[arg-type]
    site = plan_site(wishes, broker)
    if cert is not None or key is not None or ca is not None:
        if cert is None or key is None or ca is None:
            raise UsageProblem("--cert, --key and --ca belong together")
        site = replace(site, given_certificate=True)
        broker.prepare(site)
        take_certificate(broker.paths, site, cert, key, ca)
    broker.setup(site, datetime.now(UTC))
    paths = broker.paths
    call.out.result(
        {"folder": str(paths.root), "url": site.url, "operators": site.people_url},
        f"{paths.root}: mosquitto.conf, certificates, users and rights are written.\n"
        f"Devices connect to {site.url}, operators to {site.people_url}.\n"
        f"Start it:  {find_mosquitto() or 'mosquitto'} -c {paths.config}\n"
        f"Services:  {paths.settings('services', 'manager').parent}/*.env has their settings\n"
        f"You:       set -a; . {paths.settings('people', 'operator')}",
    )


@group.command("show")
@_FOLDER
@local
def show(call: Call, folder: Path | None) -> None:
    """Show addresses, certificates and users."""
    broker = _folder(call, folder)
    site, users = broker.site(), broker.users()
    pid = running_pid(broker.paths)
    now = datetime.now(UTC)
    ends = {each.what: each.at for each in expiries(broker.paths)}
    invited = {
        each.name: each.expires_at for each in Invitations(broker.paths.invites).waiting(now)
    }
    found = {
        "folder": str(broker.paths.root),
        "pid": pid,
        "devices": site.url,
        "operators": site.people_url,
        "loopback_port": site.loopback_port,
        "hosts": list(site.hosts),
        "users": {role.value: users.named(role) for role in Role},
        "invited": sorted(invited),
        "certificates_end": {what: at.isoformat() for what, at in ends.items()},
    }
    lines = [
        f"{broker.paths.root}: " + (f"runs with pid {pid}" if pid else "not running"),
        f"devices    {site.url} (also {', '.join(site.hosts[1:]) or 'no other name'})",
        f"operators  {site.people_url}",
        *(f"{what} ends {at:%Y-%m-%d}, in {(at - now).days} days" for what, at in ends.items()),
        *(f"{role.value}s: {', '.join(users.named(role)) or 'none'}" for role in Role),
        *(f"invited: {name}, until {at:%H:%M} UTC" for name, at in invited.items()),
    ]
    call.out.result(found, "\n".join(lines))


@group.command("renew")
@_FOLDER
@click.option("--authority", is_flag=True, help="A new authority, too; the old one stays trusted.")
@local
def renew(call: Call, folder: Path | None, *, authority: bool) -> None:
    """Make a new certificate for the broker; devices stay connected and need nothing new."""
    broker = _folder(call, folder)
    site = broker.site()
    (renew_authority if authority else renew_server)(broker.paths, site, datetime.now(UTC))
    running = broker.reload()
    ends = {each.what: f"{each.at:%Y-%m-%d}" for each in expiries(broker.paths)}
    how = "the running broker shows it" if running else "it counts when the broker starts"
    text = "; ".join(f"{what} ends {at}" for what, at in ends.items())
    call.out.result({"running": running, "certificates_end": ends}, f"{text}; {how}")


@group.command("join-server")
@_FOLDER
@local
def join_server(call: Call, folder: Path | None) -> None:
    """Let invited boards join, until Ctrl-C; `roost up --listen` runs this itself."""
    from roost.cli.security.join_server import serve  # noqa: PLC0415 - an HTTP server

    broker = _folder(call, folder)
    broker.site()
    serve(broker)


@group.group("user")
def user() -> None:
    """Operators, who give orders, and viewers, who look on."""


@user.command("add")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([Role.OPERATOR.value, Role.VIEWER.value, Role.DEVICE.value]),
    required=True,
    help="A viewer has one connection at a time.",
)
@_FOLDER
@local
def add(call: Call, name: str, role: str, folder: Path | None) -> None:
    """Let NAME connect; writes a file with the settings to connect with."""
    broker = _folder(call, folder)
    kind, password = Role(role), new_password()
    broker.add(name, kind, password)
    site = broker.site()
    url = site.people_url if kind is Role.OPERATOR else site.url
    settings = broker.environment(name, password, url)
    file = broker.write_environment("people", name, settings)
    call.out.result(
        {"user": name, "role": role, "settings": str(file)},
        f"{name} may connect to {url}: settings, with the password, are in {file}; "
        f"its machine needs {broker.paths.authority} as well",
    )


@user.command("remove")
@click.argument("name")
@_FOLDER
@local
def remove(call: Call, name: str, folder: Path | None) -> None:
    """Let NAME connect no longer; an open connection ends."""
    broker = _folder(call, folder)
    found = broker.users().by_name.get(name)
    if found is None or found.role is Role.SERVICE:
        raise CliError(f"there is no such user: {name}; `roost broker show` names them")
    broker.remove(name)
    call.out.result({"removed": name}, f"{name} may connect no longer")


def _folder(call: Call, folder: Path | None) -> BrokerFolder:
    return BrokerFolder(folder or call.state.broker)
