"""On the broker's machine: let a board join, and take a proplet away again."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from itertools import count

import segno
from roost.chassis.settings import BrokerSettings
from roost.cli.errors import CliError, UsageProblem
from roost.cli.ports import is_open
from roost.cli.security import certificates
from roost.cli.security.folder import BrokerFolder, running_pid
from roost.cli.security.invitations import Invitations, JoinLine
from roost.cli.security.login import log_in
from roost.cli.security.site import WILDCARDS, Site
from roost.cli.security.users import Role, User, hash_password, new_password
from roost.cli.wire_client import Wire
from roost.protocol.round.topics import TOPICS as ROUND_TOPICS
from roost.protocol.task.topics import PRESENCE, TELEMETRY
from roost.protocol.task.topics import TOPICS as TASK_TOPICS
from roost.specs.acl import OWNER, PROPLET
from roost.specs.templates import as_filter
from roost.wire.blob import TOPICS as BLOB_TOPICS
from roost.wire.ids import ID_PATTERN

__all__ = ["Revoked", "invite", "is_served", "qr_code", "read_labels", "revoke"]

#: Fields of topics that name the proplet itself.
_NAMES_IT = ("proplet_id", "owner")


def invite(
    folder: BrokerFolder,
    name: str | None,
    labels: Mapping[str, str],
    now: datetime,
    valid: timedelta,
) -> tuple[JoinLine, str]:
    """Return the line for the board, and the proplet that it will be.

    Raises:
        UsageProblem: there is such a user already, or the name is none.
    """
    with folder.changing():
        users, invitations = folder.users(), Invitations(folder.paths.invites)
        if name is None:
            taken = {*users.by_name, *(each.name for each in invitations.waiting(now))}
            name = next(each for n in count(1) if (each := f"board-{n}") not in taken)
        users.adding(User(name, Role.DEVICE, ""))
        token = invitations.create(name, labels, now, valid)
    site = folder.site()
    fingerprint = certificates.fingerprint(folder.paths.authority.read_bytes())
    return JoinLine(site.hosts[0], site.join_port, token, fingerprint), name


def is_served(site: Site) -> bool:
    """Whether invitations can be exchanged now."""
    address = site.listen if site.listen not in WILDCARDS else "localhost"
    return is_open(address, site.join_port)


def read_labels(pairs: Sequence[str]) -> dict[str, str]:
    """Read `room=attic`, given once for each label.

    Raises:
        UsageProblem: one is not of this form.
    """
    labels = {}
    for pair in pairs:
        name, mark, value = pair.partition("=")
        if not mark or not all(re.fullmatch(ID_PATTERN, part) for part in (name, value)):
            raise UsageProblem(
                f"label {pair!r} is not NAME=VALUE, each of letters, digits, dots, dashes, "
                "underscores"
            )
        labels[name] = value
    return labels


def qr_code(text: str) -> str:
    """A QR code of half blocks, for a terminal."""
    out = io.StringIO()
    segno.make(text, error="l", micro=False).terminal(out, compact=True)
    return out.getvalue()


class Revoked(Enum):
    """What became of a proplet or of its invitation; the value is for people."""

    DISCONNECTED = "disconnected, and cannot connect any more"
    STOPPED = "cannot connect any more; the broker does not run"
    UNINVITED = "had not joined yet, and cannot any more"


def revoke(folder: BrokerFolder, name: str) -> Revoked:
    """Let a proplet in no longer.

    It gets another password first, with which its session and what it said last are cleared: a
    board that gets its name later inherits nothing.

    Raises:
        CliError: there is no such proplet.
    """
    found = folder.users().by_name.get(name)
    if found is None or found.role is not Role.DEVICE:
        with folder.changing():
            if not Invitations(folder.paths.invites).withdraw(name):
                raise CliError(f"there is no proplet {name} here; `roost broker show` names them")
        return Revoked.UNINVITED
    password = new_password()
    with folder.changing() as store:
        store(folder.users().changing(name, hash_password(password)))
    try:
        if running_pid(folder.paths) is None:
            return Revoked.STOPPED
        settings = folder.environment(name, password, folder.site().service_url)
        own = [topic.format(proplet_id=name) for topic in (PRESENCE, TELEMETRY)]
        log_in(settings, clear=own)
        _clear_all(folder.site(), name)
        return Revoked.DISCONNECTED
    finally:
        folder.remove(name)


def _clear_all(site: Site, name: str) -> None:
    """Clear what a proplet had the broker retain; only the nameless may read all of that."""
    if site.loopback_port is None:
        return
    own = [as_filter(topic.template, lambda field: name if field in _NAMES_IT else "+")
           for topic in (*TASK_TOPICS, *BLOB_TOPICS, *ROUND_TOPICS)
           if PROPLET in topic.writers or OWNER in topic.writers]  # fmt: skip
    nameless = BrokerSettings(
        broker=site.service_url, username=None, password=None, topic_prefix=site.prefix
    )
    with Wire.connect_as(nameless) as wire:
        for received in wire.collect(*own):
            wire.publish(received.topic, b"", retain=True, expiry_s=None)
