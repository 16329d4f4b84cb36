"""The certificates of a broker's folder: made, renewed, replaced, told about.

`ca.pem` is what clients trust. `server.pem` is what the broker shows: its own certificate, then the
links from the present authority to earlier ones, so that who trusts an earlier one trusts the
broker as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from roost.cli.errors import UsageProblem
from roost.cli.security import certificates
from roost.cli.security.certificates import Authority
from roost.cli.security.files import write_private
from roost.cli.security.site import Site, SitePaths

__all__ = [
    "RENEW_BEFORE",
    "Expiry",
    "ensure_certificates",
    "expiries",
    "renew_authority",
    "renew_server",
    "take_certificate",
]

#: A server's certificate that ends sooner than this is renewed, or somebody is told to.
RENEW_BEFORE = timedelta(days=30)


@dataclass(frozen=True)
class Expiry:
    """When a certificate ends.

    Attributes:
        what: `server certificate` or `authority`.
        at: when.
        cure: the command that renews it.
    """

    what: str
    at: datetime
    cure: str


def ensure_certificates(paths: SitePaths, site: Site, now: datetime) -> None:
    """Make what is missing; a server's certificate also where it lacks a name or ends soon."""
    if site.given_certificate:
        return
    if not paths.authority_key.exists():
        made = certificates.make_authority(f"Roost authority of {site.hosts[0]}", now)
        _write_authority(paths, made)
    if not _serves(paths, site, now):
        renew_server(paths, site, now)


def renew_server(paths: SitePaths, site: Site, now: datetime) -> None:
    """Give the broker a new certificate from the same authority.

    Raises:
        UsageProblem: the certificate came from elsewhere.
    """
    _require_own(site)
    certificate, key = certificates.issue(_authority(paths), site.hosts, now)
    links = certificates.split(paths.links.read_bytes()) if paths.links.exists() else []
    chain = [link for link in links if certificates.expires(link) > now]
    write_private(paths.certificate_key, key, owner=site.run_as)
    write_private(paths.certificate, b"".join([certificate, *chain]), owner=site.run_as)


def renew_authority(paths: SitePaths, site: Site, now: datetime) -> None:
    """Put a new authority in the place of the old one, which signs it as well.

    Who joins from now on trusts the new one; everybody else goes on with the old one until that
    ends.

    Raises:
        UsageProblem: the certificate came from elsewhere.
    """
    _require_own(site)
    old = _authority(paths)
    new = certificates.make_authority(f"Roost authority of {site.hosts[0]}, {now:%Y-%m-%d}", now)
    links = paths.links.read_bytes() if paths.links.exists() else b""
    write_private(paths.links, certificates.cross_signed(new, old) + links)
    _write_authority(paths, new)
    renew_server(paths, site, now)


def take_certificate(
    paths: SitePaths, site: Site, certificate: Path, key: Path, authority: Path
) -> None:
    """Use a certificate that was made elsewhere.

    Args:
        paths: The folder.
        site: Whose broker shall show it.
        certificate: PEM: the server's, then those between it and the authority.
        key: Its key, without a passphrase.
        authority: PEM: what clients shall trust.

    Raises:
        UsageProblem: a file cannot be read, or they do not belong together.
    """
    try:
        texts = [file.read_bytes() for file in (certificate, key, authority)]
        fitting = certificates.fits(texts[0], texts[1])
        certificates.fingerprint(texts[2])
    except (OSError, ValueError) as problem:
        raise UsageProblem(f"the certificate cannot be used: {problem}") from problem
    if not fitting:
        raise UsageProblem(f"{key} is not the key of {certificate}")
    missing = sorted({site.hosts[0]} - certificates.hosts_of(texts[0]))
    if missing:
        raise UsageProblem(
            f"{certificate} is not good for {missing[0]}, which devices would connect to: "
            "name one of its names with --host"
        )
    write_private(paths.certificate_key, texts[1], owner=site.run_as)
    write_private(paths.certificate, texts[0], owner=site.run_as)
    write_private(paths.authority, texts[2])


def expiries(paths: SitePaths) -> list[Expiry]:
    """When the broker's certificates end, as far as they are there."""
    found = [
        (paths.certificate, "server certificate", "roost broker renew"),
        (paths.authority, "authority", "roost broker renew --authority"),
    ]
    return [
        Expiry(what, certificates.expires(file.read_bytes()), cure)
        for file, what, cure in found
        if file.exists()
    ]


def _serves(paths: SitePaths, site: Site, now: datetime) -> bool:
    """Whether the present certificate is good for all names, for a while."""
    if not paths.certificate.exists() or not paths.certificate_key.exists():
        return False
    pem = paths.certificate.read_bytes()
    lasting = certificates.expires(pem) > now + RENEW_BEFORE
    return lasting and set(site.hosts) <= certificates.hosts_of(pem)


def _authority(paths: SitePaths) -> Authority:
    return Authority(paths.authority.read_bytes(), paths.authority_key.read_bytes())


def _write_authority(paths: SitePaths, authority: Authority) -> None:
    write_private(paths.authority_key, authority.key)
    write_private(paths.authority, authority.certificate)


def _require_own(site: Site) -> None:
    if site.given_certificate:
        raise UsageProblem(
            "the broker's certificate came from elsewhere: renew it there, then run "
            "`roost broker setup` with --cert, --key and --ca again"
        )
