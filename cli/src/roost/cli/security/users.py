"""Who may connect: services, devices, operators, viewers; and mosquitto's password files.

A password is made here, has 256 bits, and is kept as a hash in mosquitto's own form
(`$7$rounds$salt$hash`: PBKDF2 with SHA-512). Random as it is, it needs no more rounds than that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pydantic import TypeAdapter, ValidationError
from roost.cli.errors import CliError, UsageProblem
from roost.specs.acl import OPERATOR, SERVICES
from roost.wire.ids import ID_PATTERN
from roost.wire.message import describe

__all__ = ["Role", "User", "Users", "hash_password", "matches_hash", "new_password"]

_ROUNDS = 101
_SALT_BYTES = 12
_PASSWORD_BYTES = 32
_HASH = re.compile(r"\$7\$([0-9]+)\$([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+)")


class Role(StrEnum):
    """What a user is, and so what it may do."""

    SERVICE = "service"
    DEVICE = "device"
    OPERATOR = "operator"
    VIEWER = "viewer"


@dataclass(frozen=True)
class User:
    """One who may connect.

    Attributes:
        name: User name; a device's is its id.
        role: What it is.
        password_hash: As mosquitto keeps it.
        labels: Of a device: what selectors see.
    """

    name: str
    role: Role
    password_hash: str
    labels: Mapping[str, str] = field(default_factory=dict)


_LIST = TypeAdapter(list[User])


@dataclass(frozen=True)
class Users:
    """All users of one broker, by name."""

    by_name: Mapping[str, User] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Users:
        """Read what `dump` wrote.

        Raises:
            CliError: it is damaged.
        """
        try:
            found = _LIST.validate_json(text)
        except ValidationError as problem:
            raise CliError(
                f"users.json is damaged: {describe(problem)}; restore it from a backup"
            ) from None
        return cls({user.name: user for user in found})

    def dump(self) -> str:
        """The text of `users.json`."""
        users = [self.by_name[name] for name in sorted(self.by_name)]
        return _LIST.dump_json(users, indent=1).decode()

    def adding(self, user: User) -> Users:
        """All of them and one more.

        Raises:
            UsageProblem: the name is taken, is a service's, or is no name.
        """
        if re.fullmatch(ID_PATTERN, user.name) is None:
            raise UsageProblem(
                f"{user.name!r} cannot be a user's name: 1 to 64 letters, digits, dots, dashes, "
                "underscores, beginning with a letter or a digit"
            )
        if (taken := self.by_name.get(user.name)) is not None:
            raise UsageProblem(f"there is a {taken.role} named {user.name} already")
        meant_for = {**dict.fromkeys(SERVICES, Role.SERVICE), OPERATOR: Role.OPERATOR}
        if meant_for.get(user.name, user.role) is not user.role:
            raise UsageProblem(f"{user.name} is the name of a service: choose another")
        return Users({**self.by_name, user.name: user})

    def changing(self, name: str, password_hash: str) -> Users:
        """All of them, one with another password."""
        user = replace(self.by_name[name], password_hash=password_hash)
        return Users({**self.by_name, name: user})

    def without(self, name: str) -> Users:
        """All of them but one."""
        return Users({each: user for each, user in self.by_name.items() if each != name})

    def named(self, *roles: Role) -> list[str]:
        """Names of those who have one of these roles."""
        return sorted(name for name, user in self.by_name.items() if user.role in roles)

    def password_file(self, *roles: Role) -> str:
        """The text of a `password_file` for those who have one of these roles."""
        names = self.named(*roles)
        return "".join(f"{name}:{self.by_name[name].password_hash}\n" for name in names)


def new_password() -> str:
    """43 letters and digits with 256 bits of chance in them."""
    return secrets.token_urlsafe(_PASSWORD_BYTES)


def hash_password(password: str) -> str:
    """The hash that mosquitto compares with; another one at each call."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS)
    return f"$7${_ROUNDS}${_base64(salt)}${_base64(digest)}"


def matches_hash(password: str, hashed: str) -> bool:
    """Whether this is the password of which `hashed` is the hash."""
    found = _HASH.fullmatch(hashed)
    if found is None:
        return False
    try:
        salt, digest = base64.b64decode(found[2]), base64.b64decode(found[3])
    except binascii.Error:
        return False
    mine = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, int(found[1]))
    return hmac.compare_digest(mine, digest)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
