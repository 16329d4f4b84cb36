"""Invitations: what they are, who may use them, and who may not; over real TLS connections."""

from __future__ import annotations

import base64
import hashlib
import queue
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roost.cli.errors import CliError, NoBroker, UsageProblem
from roost.cli.security import certificates, inviting
from roost.cli.security.board import Board, fetch_authority, join
from roost.cli.security.folder import BrokerFolder
from roost.cli.security.invitations import Invitations, JoinLine, JoinRefused
from roost.cli.security.joining import JoinRequest, redeem
from roost.cli.security.trust import renew_authority, renew_server
from roost.cli.security.users import Role, new_password

from .conftest import DEADLINE_S, NOW, Serve, invited

HOUR = timedelta(hours=1)


@given(
    host=st.one_of(
        st.ip_addresses().map(str), st.from_regex(r"[a-z]{1,9}(\.[a-z]{1,5})?", fullmatch=True)
    ),
    port=st.integers(1, 65535), token=st.binary(min_size=16, max_size=16),
    fingerprint=st.binary(min_size=32, max_size=32),
)  # fmt: skip
def test_line_is_read_as_it_was_written(
    host: str, port: int, token: bytes, fingerprint: bytes
) -> None:
    """Whatever host and secrets are (JOIN-001)."""
    text = base64.urlsafe_b64encode(token).decode().rstrip("=")
    line = JoinLine(host, port, text, fingerprint)
    assert JoinLine.parse(f" {line}\n") == line


@pytest.mark.parametrize("cut", [1, 12, 30, -1, -20])
def test_line_that_is_not_whole_is_refused(cut: int) -> None:
    """Copied without its end, or with something else in it (JOIN-001)."""
    text = str(JoinLine("10.0.0.1", 8885, "a" * 22, bytes(32)))
    for damaged in (text[:cut], text[:cut] + " " + text[cut:], text + "x"):
        with pytest.raises(UsageProblem, match="no whole invitation"):
            JoinLine.parse(damaged)


def test_board_becomes_a_user(folder: BrokerFolder, serve: Serve, tmp_path: Path) -> None:
    """With the name, labels and password that were agreed, and everything on its disk."""
    serve(folder)
    line = invited(folder, "attic", room="attic")
    board = Board(tmp_path / "board")
    authority = fetch_authority(line)
    password = board.password_for(line)
    joined = join(line, password, authority)
    settings = board.write(joined, password, authority)
    assert (joined.name, joined.broker) == ("attic", folder.site().url)
    assert settings["ROOST_LABELS"] == "room=attic"
    assert board.authority.read_bytes() == folder.paths.authority.read_bytes()
    user = folder.users().by_name["attic"]
    assert (user.role, user.labels) == (Role.DEVICE, {"room": "attic"})
    assert "user attic" in folder.paths.acl.read_text()


def test_token_is_kept_as_a_hash_only(folder: BrokerFolder) -> None:
    """A copy of the folder lets nobody in (JOIN-002)."""
    line = invited(folder)
    assert len(base64.urlsafe_b64decode(line.token + "==")) == 16
    for file in (each for each in folder.paths.root.rglob("*") if each.is_file()):
        assert line.token not in file.name
        assert line.token not in file.read_text(errors="ignore")
    wanted = hashlib.sha256(line.token.encode()).hexdigest()
    assert [file.stem for file in folder.paths.invites.iterdir()] == [wanted]


def test_tokens_differ(folder: BrokerFolder) -> None:
    """Each invitation has its own (JOIN-002)."""
    lines = [invited(folder) for _ in range(20)]
    assert len({line.token for line in lines}) == 20


@pytest.mark.parametrize(("late", "good"), [(HOUR - timedelta(seconds=1), True), (HOUR, False)])
def test_invitation_ends(folder: BrokerFolder, late: timedelta, *, good: bool) -> None:
    """By the clock of the broker's machine (JOIN-002)."""
    request = JoinRequest(token=invited(folder).token, password=new_password())
    if good:
        assert redeem(folder, request, NOW + late).name == "board-1"
    else:
        with pytest.raises(JoinRefused, match="has ended"):
            redeem(folder, request, NOW + late)
        assert folder.users().named(Role.DEVICE) == []


def test_same_board_may_ask_again_and_no_other(folder: BrokerFolder) -> None:
    """An answer may be lost; a thief comes too late, and is told (JOIN-004)."""
    line = invited(folder)
    request = JoinRequest(token=line.token, password=new_password())
    first = redeem(folder, request, NOW)
    assert redeem(folder, request, NOW) == first
    with pytest.raises(JoinRefused, match="used already"):
        redeem(folder, JoinRequest(token=line.token, password=new_password()), NOW)


def test_asking_again_mends_what_a_crash_left(folder: BrokerFolder) -> None:
    """Killed after the user was kept and before the broker's files were written (JOIN-004)."""
    request = JoinRequest(token=invited(folder, "attic").token, password=new_password())
    before = {name: folder.paths.passwords(name).read_text() for name in ("devices", "everyone")}
    redeem(folder, request, NOW)
    for name, text in before.items():
        folder.paths.passwords(name).write_text(text)
    redeem(folder, request, NOW)
    for name in before:
        assert "attic:$7$" in folder.paths.passwords(name).read_text()


def test_board_keeps_its_password_between_attempts(tmp_path: Path) -> None:
    """Until it has joined; another invitation gets another one (JOIN-004)."""
    board = Board(tmp_path / "board")
    one, other = (JoinLine("h", 1, letter * 22, bytes(32)) for letter in "ab")
    password = board.password_for(one)
    assert Board(tmp_path / "board").password_for(one) == password
    assert board.password_for(other) != password


def test_of_two_boards_one_joins(folder: BrokerFolder, serve: Serve) -> None:
    """However close together they come (JOIN-004)."""
    serve(folder)
    line = invited(folder)
    authority = fetch_authority(line)

    def attempt(_number: int) -> bool:
        try:
            join(line, new_password(), authority)
        except CliError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(attempt, range(8))) == [False] * 7 + [True]


def test_names_are_nobodys(folder: BrokerFolder) -> None:
    """Neither a user's nor a service's; without a name the next free one (JOIN-005)."""
    folder.add("anna", Role.OPERATOR, new_password())
    for name in ("anna", "coordinator", "a/b", "+"):
        with pytest.raises(UsageProblem):
            invited(folder, name)
    names = [inviting.invite(folder, None, {}, NOW, HOUR)[1] for _ in range(3)]
    assert names == ["board-1", "board-2", "board-3"]


def test_newer_invitation_replaces_the_older(folder: BrokerFolder) -> None:
    """A line that got lost is worth nothing (JOIN-005)."""
    lost, found = invited(folder, "attic"), invited(folder, "attic")
    with pytest.raises(JoinRefused, match="newer one"):
        redeem(folder, JoinRequest(token=lost.token, password=new_password()), NOW)
    assert redeem(folder, JoinRequest(token=found.token, password=new_password()), NOW)


def test_revoked_board_cannot_use_its_invitation_again(folder: BrokerFolder) -> None:
    """Not even with the same password, within the hour (JOIN-006)."""
    request = JoinRequest(token=invited(folder, "attic").token, password=new_password())
    redeem(folder, request, NOW)
    assert inviting.revoke(folder, "attic") is inviting.Revoked.STOPPED
    assert folder.users().named(Role.DEVICE) == []
    with pytest.raises(JoinRefused, match="not known"):
        redeem(folder, request, NOW)


def test_invitation_is_withdrawn_by_name(folder: BrokerFolder) -> None:
    """Before anybody used it; there is nothing to withdraw twice (JOIN-006)."""
    line = invited(folder, "attic")
    assert inviting.revoke(folder, "attic") is inviting.Revoked.UNINVITED
    with pytest.raises(JoinRefused):
        redeem(folder, JoinRequest(token=line.token, password=new_password()), NOW)
    for name in ("attic", "operator", "manager"):
        with pytest.raises(CliError, match="no proplet"):
            inviting.revoke(folder, name)


def test_ended_and_damaged_invitations_are_forgotten(folder: BrokerFolder) -> None:
    """What nobody can use does not pile up."""
    invited(folder, "attic")
    (folder.paths.invites / "x.json").write_text("{")
    inviting.invite(folder, "cellar", {}, NOW + 2 * HOUR, HOUR)
    waiting = Invitations(folder.paths.invites).waiting(NOW + 2 * HOUR)
    assert [each.name for each in waiting] == ["cellar"]
    assert len(list(folder.paths.invites.iterdir())) == 1


def test_other_machines_authority_gets_no_token(
    folder: BrokerFolder, serve: Serve, tmp_path: Path
) -> None:
    """Another machine at that address shows another fingerprint (JOIN-003)."""
    line = invited(folder)
    other = BrokerFolder(tmp_path / "other")
    other.setup(folder.site(), NOW)
    serve(other)
    with pytest.raises(CliError, match="nothing secret was sent"):
        fetch_authority(line)


def test_renewed_authority_asks_for_a_new_invitation(folder: BrokerFolder, serve: Serve) -> None:
    """The line names the authority that there was (JOIN-003)."""
    serve(folder)
    line = invited(folder)
    renew_authority(folder.paths, folder.site(), NOW)
    with pytest.raises(CliError, match="renewed since"):
        fetch_authority(line)
    assert fetch_authority(invited(folder)) == folder.paths.authority.read_bytes()


def test_man_in_the_middle_gets_no_token(folder: BrokerFolder, tmp_path: Path) -> None:
    """Who passes the true authority on cannot show a certificate of it (JOIN-003)."""
    forger = certificates.make_authority("forger", NOW)
    certificate, key = certificates.issue(forger, ["127.0.0.1"], NOW)
    (tmp_path / "chain").write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain")
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    authority = folder.paths.authority.read_bytes()
    line = invited(folder)

    def in_the_middle(listening: socket.socket) -> None:
        for _ in range(2):
            plain, _ = listening.accept()
            try:
                with context.wrap_socket(plain, server_side=True) as tls:
                    heard.put(tls.recv(4096))
                    head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(authority)}\r\n\r\n"
                    tls.sendall(head.encode() + authority)
            except OSError as problem:
                heard.put(str(problem).encode())

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=in_the_middle, args=[listening])
        thread.start()
        there = replace(line, port=listening.getsockname()[1])
        trusted = fetch_authority(there)
        with pytest.raises(NoBroker, match="certificate"):
            join(there, new_password(), trusted)
        thread.join(DEADLINE_S)
    said = [heard.get(timeout=DEADLINE_S) for _ in range(2)]
    assert said[0].startswith(b"GET /v1/ca.pem")
    assert b"POST" not in said[1]
    assert not [each for each in said if line.token.encode() in each]


def test_certificate_for_another_name_gets_no_token(folder: BrokerFolder, serve: Serve) -> None:
    """It may be of the right authority, and stolen from another machine (JOIN-003)."""
    site = folder.site()
    line = invited(folder)
    folder.setup(replace(site, hosts=("elsewhere.example",)), NOW)
    renew_server(folder.paths, folder.site(), NOW)
    serve(folder)
    trusted = fetch_authority(line)
    with pytest.raises(NoBroker, match="certificate"):
        join(line, new_password(), trusted)
    assert folder.users().named(Role.DEVICE) == []


def test_no_answer_names_what_to_look_at(folder: BrokerFolder) -> None:
    """Nobody listens: perhaps it does not run, perhaps a firewall."""
    with pytest.raises(NoBroker, match="firewall"):
        fetch_authority(invited(folder))


@pytest.mark.parametrize("text", ["x", "=", "a=", "=b", "a=b c", "a=b,c=d", "a='b'"])
def test_labels_are_names_and_values(text: str) -> None:
    """They end in files that shells and systemd read."""
    with pytest.raises(UsageProblem, match="NAME=VALUE"):
        inviting.read_labels([text])
    assert inviting.read_labels(["room=attic", "n=1"]) == {"room": "attic", "n": "1"}
