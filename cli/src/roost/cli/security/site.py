"""What a broker's folder is generated from, and where its files are."""

from __future__ import annotations

import ipaddress
import pwd
import socket
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from roost.cli.errors import CliError, UsageProblem
from roost.wire.message import describe

__all__ = [
    "WILDCARDS",
    "Site",
    "SitePaths",
    "default_user",
    "is_loopback",
    "own_addresses",
    "parse_listen",
]

DEVICE_PORT = 8883
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - recognised, not bound
_ELSEWHERE = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))


@dataclass(frozen=True)
class Site:
    """A broker that devices reach.

    Attributes:
        listen: Address of the listeners that demand TLS and credentials.
        port: For devices, viewers and services of other machines: user name is client id.
        people_port: For operators, who may have several connections at once.
        join_port: Where boards exchange their invitations (HTTPS).
        loopback_port: For this machine, without passwords; None: no such listener.
        hosts: Names and addresses that devices call this machine; the first is in invitations.
        prefix: Topic prefix, with its slash.
        workloads: Folder of workload bindings, from which rights follow.
        run_as: The user that mosquitto becomes when root starts it; None: whoever starts it.
        given_certificate: Whether the certificate came from elsewhere.
    """

    listen: str
    port: int
    people_port: int
    join_port: int
    loopback_port: int | None
    hosts: tuple[str, ...]
    prefix: str
    workloads: str
    run_as: str | None
    given_certificate: bool = False

    @property
    def url(self) -> str:
        """What devices connect to."""
        return f"mqtts://{_bracketed(self.hosts[0])}:{self.port}"

    @property
    def people_url(self) -> str:
        """What operators connect to."""
        return f"mqtts://{_bracketed(self.hosts[0])}:{self.people_port}"

    @property
    def service_url(self) -> str:
        """What services of this machine connect to."""
        return self.url if self.loopback_port is None else f"mqtt://127.0.0.1:{self.loopback_port}"

    @property
    def join_address(self) -> str:
        """HOST:PORT where invitations are exchanged."""
        return f"{_bracketed(self.hosts[0])}:{self.join_port}"

    def dump(self) -> str:
        """The text of `site.json`."""
        return _SITE.dump_json(self, indent=1).decode() + "\n"

    @classmethod
    def parse(cls, text: str) -> Site:
        """Read what `dump` wrote.

        Raises:
            CliError: it is damaged.
        """
        try:
            return _SITE.validate_json(text)
        except ValidationError as problem:
            raise CliError(
                f"site.json is damaged ({describe(problem)}): remove it and run "
                "`roost broker setup`; users and certificates stay"
            ) from None


_SITE = TypeAdapter(Site)


@dataclass(frozen=True)
class SitePaths:
    """The files of a broker's folder; `root` is absolute."""

    root: Path

    @property
    def site(self) -> Path:
        """What the rest is generated from."""
        return self.root / "site.json"

    @property
    def users(self) -> Path:
        """Who may connect."""
        return self.root / "users.json"

    @property
    def config(self) -> Path:
        """Mosquitto's configuration."""
        return self.root / "mosquitto.conf"

    @property
    def acl(self) -> Path:
        """Who may read and write what."""
        return self.root / "acl"

    @property
    def store(self) -> Path:
        """What mosquitto writes itself: retained messages, sessions, its pid."""
        return self.root / "store"

    @property
    def pid(self) -> Path:
        """Written by mosquitto."""
        return self.store / "mosquitto.pid"

    @property
    def authority(self) -> Path:
        """The certificates that clients trust: the present authority's first."""
        return self.root / "ca.pem"

    @property
    def authority_key(self) -> Path:
        """What signs."""
        return self.root / "ca-key.pem"

    @property
    def certificate(self) -> Path:
        """What the broker shows, with what stands between it and an earlier authority."""
        return self.root / "server.pem"

    @property
    def certificate_key(self) -> Path:
        """Its key."""
        return self.root / "server-key.pem"

    @property
    def links(self) -> Path:
        """Newer authorities as signed by older ones, newest first."""
        return self.root / "links.pem"

    @property
    def invites(self) -> Path:
        """One file an invitation."""
        return self.root / "invites"

    def passwords(self, of: str) -> Path:
        """The password file of a listener: `everyone`, `devices` or `people`."""
        return self.root / f"{of}.passwd"

    def settings(self, kind: str, name: str) -> Path:
        """The environment of one who connects: kind is `services` or `people`."""
        return self.root / kind / f"{name}.env"


def parse_listen(text: str) -> tuple[str, int]:
    """(address, port) of `ADDRESS` or `ADDRESS:PORT`; IPv6 with a port in brackets.

    Raises:
        UsageProblem: it is no address. A name is refused: it may mean another machine tomorrow.
    """
    bare = text.removeprefix("[").partition("]")[0] if text.startswith("[") else None
    host, _, port = (bare, "", text.rpartition("]")[2].removeprefix(":")) if bare else _split(text)
    try:
        address = ipaddress.ip_address(host)
        number = int(port) if port else DEVICE_PORT
    except ValueError:
        raise UsageProblem(
            f"--listen {text!r} is no address of this machine: write 0.0.0.0, 192.168.1.5 or "
            "192.168.1.5:8883 ([::]:8883 for IPv6)"
        ) from None
    if not 0 < number < 65534:  # noqa: PLR2004 - two more ports follow
        raise UsageProblem(f"--listen {text!r}: the port must be from 1 to 65533")
    return str(address), number


def _split(text: str) -> tuple[str, str, str]:
    return text.rpartition(":") if text.count(":") == 1 else (text, "", "")


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    return ipaddress.ip_address(address).is_loopback


def own_addresses(listen: str) -> tuple[str, ...]:
    """What devices may call this machine: the address listened on, or all that is known of it."""
    name = socket.gethostname()
    if listen not in WILDCARDS:
        return (listen, name)
    found = [address for address in map(_address_towards, _ELSEWHERE) if address is not None]
    return tuple(dict.fromkeys([*found, name, f"{name}.local"]))


def _address_towards(elsewhere: tuple[str, socket.AddressFamily]) -> str | None:
    """The address this machine would send from; asking sends nothing (UDP)."""
    address, family = elsewhere
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def default_user(folder: Path, uid: int) -> str | None:
    """Who mosquitto becomes when root starts it: `mosquitto`, if it can get to its folder.

    Returns:
        None where root does not start it.
    """
    if uid != 0:
        return None
    try:
        pwd.getpwnam("mosquitto")
    except KeyError:
        return "root"
    others_may_pass = 0o001
    parents = [parent for parent in folder.absolute().parents if parent.exists()]
    reachable = all(parent.stat().st_mode & others_may_pass for parent in parents)
    return "mosquitto" if reachable else "root"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
