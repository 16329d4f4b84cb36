"""`roost up`: a whole Roost on this machine."""

from __future__ import annotations

import click
from roost.cli.local import LocalRoost
from roost.cli.options import Call, local

__all__ = ["up"]


@click.command("up")
@click.option(
    "--proplets",
    type=click.IntRange(min=0, max=100),
    help="How many proplets; as many as the state folder knows, else 3.",
)
@click.option(
    "--port",
    type=click.IntRange(min=1, max=65535),
    help="Loopback port of the broker; the one used last, else 1883.",
)
@click.option(
    "--broker",
    default="auto",
    show_default=True,
    metavar="auto|embedded|mosquitto|URL",
    help="Which broker: auto takes mosquitto where it is installed.",
)
@click.option(
    "--workloads",
    metavar="DIR",
    help="Folder of workload bindings; ./workloads, else the one next to this program.",
)
@click.option(
    "--listen",
    metavar="ADDRESS[:PORT]",
    help="Let devices of other machines in, with TLS and passwords; port 8883.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="With --listen: what devices call this machine; the first is in invitations.",
)
@local
def up(
    call: Call,
    proplets: int | None,
    port: int | None,
    broker: str,
    workloads: str | None,
    listen: str | None,
    hosts: tuple[str, ...],
) -> int:
    """Run broker, services and proplets, each as a process of its own, until Ctrl-C.

    Everything they write is below the state folder, and the next `roost up` goes on from there.
    The broker listens on the loopback address, without passwords; --listen lets boards in as well,
    each with an invitation (`roost proplet invite`).
    """
    wanted = LocalRoost.plan(
        call.state,
        proplets=proplets,
        port=port,
        broker=broker,
        workloads=workloads,
        listen=listen,
        hosts=hosts,
    )
    return wanted.run(call.out)
