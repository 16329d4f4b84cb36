"""Who joins: an invitation becomes a user, on the broker's side."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from roost.cli.security.folder import BrokerFolder
from roost.cli.security.invitations import Invitations, JoinRefused
from roost.cli.security.users import Role, User, hash_password, matches_hash

__all__ = ["AUTHORITY_PATH", "JOIN_PATH", "JoinRequest", "Joined", "Refusal", "redeem"]

JOIN_PATH: Final = "/v1/join"
AUTHORITY_PATH: Final = "/v1/ca.pem"


class JoinRequest(BaseModel):
    """What a board sends, after it knows whom it talks to."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    token: str = Field(pattern=r"^[A-Za-z0-9_-]{22}$")
    password: str = Field(pattern=r"^[A-Za-z0-9_-]{43,86}$", description="made by the board")


class Joined(BaseModel):
    """What a board is told: who it is, and where its broker is."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    name: str
    broker: str
    topic_prefix: str = ""
    labels: dict[str, str] = Field(default_factory=dict)


class Refusal(BaseModel):
    """Why a board may not join."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    error: str


def redeem(folder: BrokerFolder, request: JoinRequest, now: datetime) -> Joined:
    """Exchange a token for a user; the same board may ask again.

    Raises:
        JoinRefused: the token is not known, has ended, or was used by another board.
    """
    with folder.changing() as store:
        invitation = Invitations(folder.paths.invites).find(request.token, now)
        users = folder.users()
        known = users.by_name.get(invitation.name)
        if known is not None and not matches_hash(request.password, known.password_hash):
            raise JoinRefused(
                f"this invitation was used already, for {invitation.name}: if that was not you, "
                f"`roost proplet revoke {invitation.name}` at once; else ask for another one"
            )
        if known is None:
            hashed = hash_password(request.password)
            users = users.adding(User(invitation.name, Role.DEVICE, hashed, invitation.labels))
        store(users)  # asked again, too: the first time may have been cut short
    site = folder.site()
    return Joined(
        name=invitation.name,
        broker=site.url,
        topic_prefix=site.prefix,
        labels=dict(invitation.labels),
    )
