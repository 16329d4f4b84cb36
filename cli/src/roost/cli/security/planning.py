"""From the words of a command line to a `Site`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from roost.cli.errors import UsageProblem
from roost.cli.security.folder import BrokerFolder
from roost.cli.security.site import Site, default_user, is_loopback, own_addresses, parse_listen

__all__ = ["Wishes", "plan_site"]

_LOOPBACK_PORT = 1883


@dataclass(frozen=True)
class Wishes:
    """What was said about a broker; None: as before, else the usual.

    Attributes:
        listen: `ADDRESS[:PORT]`.
        hosts: Names and addresses that devices call this machine.
        loopback_port: For this machine, without passwords; 0: no such listener.
        prefix: Topic prefix.
        workloads: Folder of workload bindings; a folder that is new needs it.
        run_as: The user that mosquitto becomes when root starts it.
    """

    listen: str | None = None
    hosts: tuple[str, ...] = ()
    loopback_port: int | None = None
    prefix: str | None = None
    workloads: Path | None = None
    run_as: str | None = None


def plan_site(wishes: Wishes, folder: BrokerFolder) -> Site:
    """Fill in what was not said from the folder's present state, else with defaults.

    Raises:
        UsageProblem: the address is none, or only this machine reaches it.
    """
    before = folder.site() if folder.exists else None
    if wishes.listen is None and before is None:
        raise UsageProblem("say where devices reach the broker: --listen ADDRESS[:PORT]")
    listen, port = (
        parse_listen(wishes.listen) if wishes.listen is not None else (before.listen, before.port)  # type: ignore[union-attr] # one of them is there
    )
    if is_loopback(listen):
        raise UsageProblem(
            f"only this machine reaches {listen}, and needs neither passwords nor certificates: "
            "`roost up` serves it as it is. Name an address that devices reach"
        )
    hosts = wishes.hosts or (before.hosts if before and before.listen == listen else ())
    loopback = wishes.loopback_port
    if loopback is None:
        loopback = before.loopback_port or 0 if before else _LOOPBACK_PORT
    workloads = wishes.workloads or (Path(before.workloads) if before else None)
    assert workloads is not None, "a new folder needs bindings to take rights from"
    prefix = wishes.prefix if wishes.prefix is not None else before.prefix if before else ""
    return Site(
        listen=listen,
        port=port,
        people_port=port + 1,
        join_port=port + 2,
        loopback_port=loopback or None,
        hosts=hosts or own_addresses(listen),
        prefix=prefix if not prefix or prefix.endswith("/") else prefix + "/",
        workloads=str(workloads),
        run_as=wishes.run_as or default_user(folder.paths.root, os.geteuid()),
        given_certificate=before.given_certificate if before else False,
    )
