"""`roost up --listen`: a local Roost whose broker devices of other machines reach as well."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from roost.cli.broker import BrokerPlan
from roost.cli.children import Program
from roost.cli.errors import NoBroker, UsageProblem
from roost.cli.ports import holder_of
from roost.cli.security.folder import BrokerFolder
from roost.cli.security.planning import Wishes, plan_site
from roost.cli.security.site import Site
from roost.specs.acl import SERVICES

__all__ = ["Hosted", "host"]


@dataclass(frozen=True)
class Hosted:
    """A broker's folder that is ready to be used.

    Attributes:
        url: What devices connect to.
        about: One line for a person.
        credentials: Settings with user name and password, by service and local proplet.
        programs: What runs beside the services: where boards exchange their invitations.
    """

    url: str
    about: str
    credentials: Mapping[str, Mapping[str, str]]
    programs: Sequence[Program]


def host(wishes: Wishes, plan: BrokerPlan, root: Path, proplets: Sequence[str]) -> Hosted:
    """Write the configuration over the one for the loopback alone.

    Args:
        wishes: Where to listen, and more.
        plan: The broker that was chosen.
        root: Its folder.
        proplets: Those of this machine.

    Raises:
        UsageProblem: the address is none, or the broker has neither TLS nor rights.
        NoBroker: a port is taken.
    """
    if plan.kind != "mosquitto":
        raise UsageProblem(
            "--listen needs mosquitto, started here: the embedded broker has neither TLS nor "
            "rights, and another broker is not ours to configure. Install mosquitto "
            "(`apt-get install mosquitto`), or use `roost broker setup` for one that runs elsewhere"
        )
    folder = BrokerFolder(root)
    site = plan_site(wishes, folder)
    for port in (site.port, site.people_port, site.join_port):
        _require_free(port)
    folder.setup(site, datetime.now(UTC))
    credentials = {name: folder.read_environment("services", name) for name in SERVICES}
    credentials |= folder.local_devices(proplets)
    return Hosted(site.url, _about(site), credentials, [_join_program(folder)])


def _about(site: Site) -> str:
    said = (
        f"devices of other machines: {site.url}, operators: {site.people_url}; "
        "`roost proplet invite` lets a board join"
    )
    if site.run_as != "root":
        return said
    return (
        f"{said}\nThe broker runs as root: better as an ordinary user, or with --state below /var"
    )


def _join_program(folder: BrokerFolder) -> Program:
    argv = (sys.executable, "-m", "roost.cli.security.join_server", str(folder.paths.root))
    return Program("join", argv)


def _require_free(port: int) -> None:
    holder = holder_of(port)
    if holder is not None:
        raise NoBroker(
            f"port {port} is in use by {holder}; stop it, or name another with --listen "
            "ADDRESS:PORT (the two ports above it are used as well)",
            port=port,
        )
