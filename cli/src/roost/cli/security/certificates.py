"""Certificates: an authority of one's own, and what it signs for the broker.

All of them are valid since 1970: a board without a clock believes that it is 1970 until somebody
tells it the time, and must be able to join before that. Keys are on the curve P-256, which every
TLS library of the last ten years has.

A new authority is signed by the old one as well (`cross_signed`). The broker sends that
certificate along, so that who trusts either of them trusts the broker: no device has to be touched
while both are in use.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = [
    "AUTHORITY_DAYS",
    "SERVER_DAYS",
    "Authority",
    "cross_signed",
    "expires",
    "fingerprint",
    "fits",
    "hosts_of",
    "issue",
    "make_authority",
    "split",
]

#: How long certificates are good for.
AUTHORITY_DAYS = 3650
SERVER_DAYS = 397
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_NAME = 64


@dataclass(frozen=True)
class Authority:
    """Who signs certificates.

    Attributes:
        certificate: PEM.
        key: PEM, unencrypted: protect its file.
    """

    certificate: bytes
    key: bytes


def make_authority(name: str, now: datetime) -> Authority:
    """Make an authority that signs its own certificate."""
    key = _new_key()
    subject, until = _name(name), now + timedelta(days=AUTHORITY_DAYS)
    builder = _build(subject, subject, key.public_key(), key.public_key(), until)
    return Authority(_pem(_as_authority(builder).sign(key, hashes.SHA256())), _key_pem(key))


def cross_signed(new: Authority, old: Authority) -> bytes:
    """Return the new authority's certificate as signed by the old one (PEM).

    It ends with the old one: nobody trusts that any longer.
    """
    mine = x509.load_pem_x509_certificate(new.certificate)
    theirs, key = _load(old)
    public = mine.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    until = min(mine.not_valid_after_utc, theirs.not_valid_after_utc)
    builder = _build(mine.subject, theirs.subject, public, key.public_key(), until)
    return _pem(_as_authority(builder).sign(key, hashes.SHA256()))


def issue(authority: Authority, hosts: Sequence[str], now: datetime) -> tuple[bytes, bytes]:
    """Return a certificate for these names and addresses, and its key (both PEM).

    Args:
        authority: Who signs.
        hosts: What clients may call the server; the first is its name.
        now: When it is signed.
    """
    ca, ca_key = _load(authority)
    key = _new_key()
    until = min(now + timedelta(days=SERVER_DAYS), ca.not_valid_after_utc)
    builder = _build(_name(hosts[0]), ca.subject, key.public_key(), ca_key.public_key(), until)
    names = [_general_name(host) for host in dict.fromkeys(hosts)]
    certificate = (
        builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return _pem(certificate), _key_pem(key)


def expires(pem: bytes) -> datetime:
    """When the first certificate of a PEM text ends."""
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc


def fingerprint(pem: bytes) -> bytes:
    """SHA-256 over the first certificate of a PEM text, 32 bytes."""
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256())


def hosts_of(pem: bytes) -> frozenset[str]:
    """Names and addresses for which the first certificate of a PEM text is good."""
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return frozenset({*addresses, *names.get_values_for_type(x509.DNSName)})


def split(pem: bytes) -> list[bytes]:
    """The certificates of a PEM text, each as a text of its own."""
    return [_pem(each) for each in x509.load_pem_x509_certificates(pem)]


def fits(certificate: bytes, key: bytes) -> bool:
    """Whether a private key is that of a certificate (both PEM).

    Raises:
        ValueError: one of them is no such file, or the key has a passphrase.
    """
    mine = x509.load_pem_x509_certificate(certificate).public_key()
    try:
        theirs = serialization.load_pem_private_key(key, password=None).public_key()
    except TypeError as problem:  # it has a passphrase
        raise ValueError(str(problem)) from problem
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return mine.public_bytes(*form) == theirs.public_bytes(*form)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _load(authority: Authority) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = serialization.load_pem_private_key(authority.key, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate(authority.certificate), key


def _build(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    issuer_public: ec.EllipticCurvePublicKey,
    until: datetime,
) -> x509.CertificateBuilder:
    """Fill in what all certificates have."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False
        )
    )


def _as_authority(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    """Let it sign servers, and the authority that follows it."""
    return builder.add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    ).add_extension(_usage(signs_certificates=True), critical=True)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_LONGEST_NAME])])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
