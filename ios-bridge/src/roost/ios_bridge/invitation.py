"""Tokens for phones: 128 random bits, in a link that a camera can read."""

import hashlib
import secrets
from typing import Final

from roost.protocol.phone.messages import InvitePhone

TOKEN_BYTES: Final = 16


def make_token() -> str:
    """Return a new token: 22 characters of URL-safe base64."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def invite(token: str, device: str, expires_s: float) -> InvitePhone:
    """Return the order that makes a token good for one phone; the token itself is not in it."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    return InvitePhone(
        invite_id=f"i-{digest[:16]}", token_sha256=digest, device=device, expires_s=expires_s
    )


def link(url: str, token: str) -> str:
    """Return the link of an invitation; what follows ``#`` is not sent to any server."""
    return f"{url}/#t={token}"
