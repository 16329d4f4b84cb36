"""Invitations: a token that one board may exchange for a user of its own, once and soon.

The token has 128 bits. Its SHA-256 is the name of the file that says what it is for, so that a
copy of the folder lets nobody in. A board sends the password that it made for itself along with
the token: should the answer be lost it may ask again with both, while a thief who has the token
alone is too late.

The line that a person carries to the board is `roost-join://HOST:PORT/TOKEN.FINGERPRINT`, the
fingerprint being that of the authority (SHA-256): the board's first connection is as safe as the
way on which the line came.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from roost.cli.errors import UsageProblem
from roost.cli.security.files import write_private

__all__ = ["Invitation", "Invitations", "JoinLine", "JoinRefused"]

_SCHEME = "roost-join://"
_TOKEN_BYTES = 16
_LINE = re.compile(
    r"roost-join://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})"
    r"/(?P<token>[A-Za-z0-9_-]{22})\.(?P<fingerprint>[A-Za-z0-9_-]{43})"
)


class JoinRefused(Exception):  # noqa: N818 - names what happened
    """An invitation that lets nobody in; the message says why and what to do."""


@dataclass(frozen=True)
class Invitation:
    """What a token is good for.

    Attributes:
        name: The user, and proplet id, that it becomes.
        expires_at: The end, by the clock of the broker's machine.
        labels: What selectors shall see.
    """

    name: str
    expires_at: datetime
    labels: Mapping[str, str] = field(default_factory=dict)


_INVITATION = TypeAdapter(Invitation)


@dataclass(frozen=True)
class JoinLine:
    """What a person carries to the board.

    Attributes:
        host: Where to exchange it.
        port: The port there (HTTPS).
        token: The secret.
        fingerprint: SHA-256 of the authority's certificate.
    """

    host: str
    port: int
    token: str
    fingerprint: bytes

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{_SCHEME}{host}:{self.port}/{self.token}.{_base64(self.fingerprint)}"

    @classmethod
    def parse(cls, text: str) -> JoinLine:
        """Read a line as it was printed.

        Raises:
            UsageProblem: it is not whole.
        """
        found = _LINE.fullmatch(text.strip())
        if found is None:
            raise UsageProblem(
                "this is no whole invitation: copy all of what `roost proplet invite` printed, "
                f"from {_SCHEME} to its end"
            )
        fingerprint = base64.urlsafe_b64decode(found["fingerprint"] + "=")
        return cls(found["host"].strip("[]"), int(found["port"]), found["token"], fingerprint)


@dataclass(frozen=True)
class Invitations:
    """The invitations of a broker's folder; lock the folder before using them."""

    folder: Path

    def create(self, name: str, labels: Mapping[str, str], now: datetime, valid: timedelta) -> str:
        """Invite; returns the token, which is kept nowhere. Ended ones are forgotten."""
        for file in self.folder.glob("*.json"):
            found = _read(file)
            if found is None or found.expires_at <= now or found.name == name:
                file.unlink()
        token = _base64(secrets.token_bytes(_TOKEN_BYTES))
        invitation = Invitation(name, now + valid, dict(labels))
        write_private(self._file(token), _INVITATION.dump_json(invitation))
        return token

    def find(self, token: str, now: datetime) -> Invitation:
        """What this token is good for.

        Raises:
            JoinRefused: nothing, or nothing any more.
        """
        found = _read(self._file(token))
        if found is None:
            raise JoinRefused(
                "this invitation is not known here: it was withdrawn, or a newer one was made; "
                "ask for another one"
            )
        if found.expires_at <= now:
            raise JoinRefused("this invitation has ended: ask for another one")
        return found

    def withdraw(self, name: str) -> bool:
        """Let nobody become this user any more; whether somebody could have."""
        mine = [file for file in self.folder.glob("*.json") if _is_of(file, name)]
        for file in mine:
            file.unlink()
        return bool(mine)

    def waiting(self, now: datetime) -> list[Invitation]:
        """Invitations that are good still, by name."""
        found = [_read(file) for file in self.folder.glob("*.json")]
        good = [each for each in found if each is not None and each.expires_at > now]
        return sorted(good, key=lambda each: each.name)

    def _file(self, token: str) -> Path:
        return self.folder / f"{hashlib.sha256(token.encode()).hexdigest()}.json"


def _read(file: Path) -> Invitation | None:
    """An invitation; None where there is none, or a damaged one."""
    try:
        return _INVITATION.validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _is_of(file: Path, name: str) -> bool:
    found = _read(file)
    return found is not None and found.name == name


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")
