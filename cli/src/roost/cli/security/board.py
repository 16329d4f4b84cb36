"""On the board: exchange an invitation, keep what comes back, and try it.

The first connection trusts nobody and fetches the authority's certificate. If that has the
fingerprint in the invitation it is the right one, whoever sent it, and everything after that is
verified with it. The token goes out on such a connection only.
"""

from __future__ import annotations

import getpass
import hashlib
import http.client
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from roost.cli.errors import CliError, NoBroker
from roost.cli.security.files import private_folder, write_private
from roost.cli.security.invitations import JoinLine
from roost.cli.security.joining import AUTHORITY_PATH, JOIN_PATH, Joined, JoinRequest, Refusal
from roost.cli.security.users import new_password

__all__ = ["Board", "fetch_authority", "join", "unit_text"]

_ANSWER_S = 15.0
_MAX_ANSWER = 65_536
_OK = 200


@dataclass(frozen=True)
class Board:
    """Where a board keeps what it needs to be a proplet; `root` is absolute."""

    root: Path

    @property
    def authority(self) -> Path:
        """The certificate it trusts."""
        return self.root / "ca.pem"

    @property
    def settings(self) -> Path:
        """The proplet's environment, with its password."""
        return self.root / "proplet.env"

    @property
    def unit(self) -> Path:
        """A systemd unit that runs it."""
        return self.root / "roost-proplet.service"

    @property
    def _asking(self) -> Path:
        """The password that goes with an invitation, until the answer is here."""
        return self.root / "joining"

    def password_for(self, line: JoinLine) -> str:
        """The password to ask for with this invitation, the same at each attempt.

        An answer may be lost on its way, after the invitation was used.
        """
        token = hashlib.sha256(line.token.encode()).hexdigest()
        if self._asking.exists():
            of, _, password = self._asking.read_text().partition("\n")
            if of == token:
                return password
        password = new_password()
        private_folder(self.root)
        write_private(self._asking, f"{token}\n{password}")
        return password

    def write(self, joined: Joined, password: str, authority: bytes) -> dict[str, str]:
        """Keep everything; returns the settings."""
        private_folder(self.root)
        settings = {
            "ROOST_BROKER": joined.broker,
            "ROOST_USERNAME": joined.name,
            "ROOST_PASSWORD": password,
            "ROOST_CA_FILE": str(self.authority),
            "ROOST_PROPLET_ID": joined.name,
            "ROOST_STATE_DIR": str(self.root / "state"),
            "ROOST_DATA_DIR": str(self.root / "data"),
        }
        if joined.labels:
            pairs = (f"{name}={value}" for name, value in sorted(joined.labels.items()))
            settings["ROOST_LABELS"] = ",".join(pairs)
        if joined.topic_prefix:
            settings["ROOST_TOPIC_PREFIX"] = joined.topic_prefix
        (self.root / "data").mkdir(exist_ok=True)
        write_private(self.authority, authority)
        write_private(self.settings, "".join(f"{k}={v}\n" for k, v in settings.items()))
        write_private(self.unit, unit_text(self, sys.executable, getpass.getuser()))
        self._asking.unlink(missing_ok=True)
        return settings


def unit_text(board: Board, python: str, user: str) -> str:
    """The systemd unit that runs the proplet, and lets it write nothing but its own folder."""
    return f"""\
[Unit]
Description=Roost proplet
Wants=network-online.target
After=network-online.target

[Service]
User={user}
EnvironmentFile={board.settings}
ExecStart={python} -m roost.proplet
WorkingDirectory={board.root}
Restart=always
RestartSec=5
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=strict
ReadWritePaths={board.root}

[Install]
WantedBy=multi-user.target
"""


def fetch_authority(line: JoinLine) -> bytes:
    """Return the authority's certificate (PEM), if it is the one that the invitation means.

    Raises:
        NoBroker: nobody answers there.
        CliError: somebody else does.
    """
    anybody = ssl.create_default_context()
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE  # what comes is compared with the fingerprint
    status, body = _ask(line, anybody, "GET", AUTHORITY_PATH)
    try:
        certificate = ssl.PEM_cert_to_DER_cert(body.decode("ascii"))
    except ValueError:
        certificate = b""
    if status != _OK or hashlib.sha256(certificate).digest() != line.fingerprint:
        raise CliError(
            f"{line.host}:{line.port} is not the machine that invited this board, or its authority "
            "was renewed since; nothing secret was sent. Ask for another invitation"
        )
    return ssl.DER_cert_to_PEM_cert(certificate).encode("ascii")


def join(line: JoinLine, password: str, authority: bytes) -> Joined:
    """Exchange the token for a user with this password; may be tried again with the same one.

    Raises:
        NoBroker: nobody answers there.
        CliError: the invitation is refused; the message is the server's.
    """
    trusting = ssl.create_default_context(cadata=authority.decode("ascii"))
    request = JoinRequest(token=line.token, password=password)
    status, body = _ask(line, trusting, "POST", JOIN_PATH, request.model_dump_json().encode())
    try:
        if status == _OK:
            return Joined.model_validate_json(body)
        raise CliError(Refusal.model_validate_json(body).error)
    except ValidationError:
        raise CliError(
            f"{line.host}:{line.port} gave an answer that makes no sense ({status}): is Roost "
            "there of the same version as here?"
        ) from None


def _ask(
    line: JoinLine, trust: ssl.SSLContext, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    """Send one request; its status and the body of its answer."""
    connection = http.client.HTTPSConnection(line.host, line.port, timeout=_ANSWER_S, context=trust)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read(_MAX_ANSWER)
    except (OSError, http.client.HTTPException) as problem:
        raise NoBroker(
            f"{line.host}:{line.port} does not answer as it should: {problem}. Does "
            "`roost up --listen` run there, and does a firewall let this board through?"
        ) from problem
    finally:
        connection.close()
