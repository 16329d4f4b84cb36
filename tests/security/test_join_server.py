"""The port where invitations are exchanged: what it answers, and what it outlives."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from contextlib import suppress

import pytest
from roost.cli.errors import CliError
from roost.cli.security.board import fetch_authority, join
from roost.cli.security.folder import BrokerFolder
from roost.cli.security.invitations import JoinLine
from roost.cli.security.join_server import AT_ONCE
from roost.cli.security.users import Role, new_password

from .conftest import DEADLINE_S, Serve, invited


def hostile(line: JoinLine) -> ssl.SSLContext:
    """One who trusts everybody."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def asked(line: JoinLine, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """A request of one who does not care whom it talks to."""
    connection = http.client.HTTPSConnection(
        line.host, line.port, timeout=DEADLINE_S, context=hostile(line)
    )
    connection.request(method, path, body)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_server_answers_two_requests_and_nothing_else(folder: BrokerFolder, serve: Serve) -> None:
    """Neither other paths nor large or odd bodies; the token of nobody is refused (JOIN-007)."""
    serve(folder)
    line = invited(folder)
    unknown = json.dumps({"token": "A" * 22, "password": new_password()}).encode()
    weak = json.dumps({"token": line.token, "password": "123"}).encode()
    assert asked(line, "GET", "/")[0] == 404
    assert asked(line, "GET", "/users.json")[0] == 404
    assert asked(line, "GET", "/v1/../users.json")[0] == 404
    assert asked(line, "POST", "/v1/ca.pem", b"{}")[0] == 404
    assert asked(line, "PUT", "/v1/join", b"{}")[0] == 501
    assert asked(line, "POST", "/v1/join", b"x" * 5000)[0] == 413
    for odd in (b"{}", b"[]", b"\xff", weak):
        assert asked(line, "POST", "/v1/join", odd)[0] == 400
    status, body = asked(line, "POST", "/v1/join", unknown)
    assert (status, b"not known" in body) == (403, True)
    assert folder.users().named(Role.DEVICE) == []


def test_server_outlives_who_speaks_no_tls(folder: BrokerFolder, serve: Serve) -> None:
    """Port scanners and plain HTTP come and go."""
    serve(folder)
    line = invited(folder)
    for nonsense in (b"", b"GET / HTTP/1.0\r\n\r\n", bytes(200)):
        with socket.create_connection((line.host, line.port), timeout=DEADLINE_S) as plain:
            plain.sendall(nonsense)
            plain.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                while plain.recv(512):
                    pass
    assert fetch_authority(line)


def test_slow_connection_is_cut_before_tls(folder: BrokerFolder, serve: Serve) -> None:
    """Whoever holds all places without a word loses them soon (JOIN-007)."""
    serve(folder, connection_s=0.2)
    line = invited(folder)
    address = (line.host, line.port)
    for holder in [socket.create_connection(address, timeout=DEADLINE_S) for _ in range(AT_ONCE)]:
        assert holder.recv(1) == b""
        holder.close()


def test_slow_connection_is_cut_after_tls(folder: BrokerFolder, serve: Serve) -> None:
    """A request that never ends is not waited for (JOIN-007)."""
    serve(folder, connection_s=2.0)
    line = invited(folder)
    with (
        socket.create_connection((line.host, line.port), timeout=DEADLINE_S) as plain,
        hostile(line).wrap_socket(plain) as tls,
    ):
        tls.sendall(b"POST /v1/join HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
        assert tls.recv(1) == b""


def test_too_many_connections_are_refused(folder: BrokerFolder, serve: Serve) -> None:
    """The one too many is closed at once, the others are served (JOIN-007)."""
    serve(folder)
    line = invited(folder)
    address = (line.host, line.port)
    holders = [socket.create_connection(address, timeout=DEADLINE_S) for _ in range(AT_ONCE)]
    with socket.create_connection(address, timeout=DEADLINE_S) as refused:
        assert refused.recv(1) == b""
    for holder in holders:
        holder.close()


def test_damaged_folder_is_the_servers_fault(folder: BrokerFolder, serve: Serve) -> None:
    """The board is told that it is not to blame, and nothing about the folder (JOIN-007)."""
    serve(folder)
    line = invited(folder)
    folder.paths.users.write_text("{")
    with pytest.raises(CliError, match="broker's machine cannot") as caught:
        join(line, new_password(), fetch_authority(line))
    assert "users.json" not in str(caught.value)
