"""Users and certificates change while the broker runs, and nobody else notices."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from roost.cli.security.certificates import expires, make_authority
from roost.cli.security.inviting import Revoked, revoke
from roost.cli.security.trust import renew_authority, renew_server
from roost.cli.security.users import Role, new_password

from .conftest import DEADLINE_S, NOT_AUTHORIZED, NOW, Client, Secured, make_site, running

pytestmark = pytest.mark.system

Connect = Callable[..., Client]
BEFORE_TIME_WAS_TOLD = 60.0
CONNACK = b"\x20"


def eventually_accepted(connect: Connect, secured: Secured, user: str, *, wanted: bool) -> bool:
    """Connect until the broker has read what changed."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if connect(secured, user).accepted is wanted:
            return True
    return False


def shown(secured: Secured, authority: Path) -> bytes:
    """The certificate that the broker shows to one who trusts this authority (DER)."""
    context = ssl.create_default_context(cafile=str(authority))
    address = ("127.0.0.1", secured.site.port)
    with (
        socket.create_connection(address, timeout=DEADLINE_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        found = tls.getpeercert(binary_form=True)
        assert found is not None
        return found


def await_other(secured: Secured, authority: Path, before: bytes) -> bytes:
    """The certificate that the broker shows after its renewal."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if (now := shown(secured, authority)) != before:
            return now
    raise AssertionError("the broker still shows its old certificate")


def test_device_comes_and_goes_while_the_broker_runs(secured: Secured, connect: Connect) -> None:
    """Added: let in. Removed: disconnected, never let in again. Others stay (BROKER-007)."""
    secured.add("p1")
    assert eventually_accepted(connect, secured, "p1", wanted=True)
    others = [connect(secured, name) for name in ("coordinator", "manager", "operator")]
    secured.add("p2")
    assert eventually_accepted(connect, secured, "p2", wanted=True)
    doomed = connect(secured, "p2", will="proplets/p2/presence")
    watcher = connect(secured, None, port=secured.site.loopback_port)
    watcher.subscribe("#")
    secured.folder.remove("p2")
    assert doomed.ended.get(timeout=DEADLINE_S)
    assert eventually_accepted(connect, secured, "p2", wanted=False)
    watcher.publish("the/end")
    assert watcher.until("the/end") == []
    for other in others:
        other.subscribe("tasks/+/state")
        assert other.ended.empty()


@pytest.mark.parametrize("is_nameless_let_in", [True, False])
def test_revoked_board_leaves_nothing(
    tmp_path: Path, connect: Connect, *, is_nameless_let_in: bool
) -> None:
    """Its connection, session, presence and telemetry are gone; others' are not (JOIN-006)."""
    more = {} if is_nameless_let_in else {"loopback_port": None}
    with running(tmp_path, make_site(tmp_path, **more)) as secured:
        for name in ("p1", "p2"):
            secured.add(name)
            device = connect(secured, name, properties=session_of(3600), clean=False)
            device.subscribe(f"proplets/{name}/tasks/+/start")
            for topic in own_topics(name):
                assert device.publish(topic, retain=True) < NOT_AUTHORIZED
        assert revoke(secured.folder, "p2") is Revoked.DISCONNECTED
        assert device.ended.get(timeout=DEADLINE_S)
        secured.add("p2")
        assert eventually_accepted(connect, secured, "p2", wanted=True)
        reader = connect(secured, "manager")
        reader.subscribe("proplets/#", "blobs/#")
        connect(secured, "p1").publish("proplets/p1/tasks/t/report")
        left = set(reader.until("proplets/p1/tasks/t/report"))
    assert set(own_topics("p1")) - {"fl/rounds/r/updates/p1"} <= left
    assert "proplets/p2/presence" not in left
    assert "proplets/p2/telemetry" not in left
    assert not is_nameless_let_in or not [topic for topic in left if "p2" in topic]


def own_topics(name: str) -> list[str]:
    """One of each topic that a proplet may write."""
    blob = f"blobs/{name}/{'a' * 64}"
    return [
        f"proplets/{name}/presence", f"proplets/{name}/telemetry", f"{blob}/manifest",
        f"{blob}/0", f"proplets/{name}/tasks/t1/report", f"fl/rounds/r/updates/{name}",
    ]  # fmt: skip


def session_of(seconds: int) -> Properties:
    """A session that outlives its connection."""
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = seconds
    return properties


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start mosquitto as another user")
def test_broker_that_root_starts_becomes_another_user(connect: Connect) -> None:
    """And still reads users and certificates again, and writes its store (BROKER-007)."""
    with TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        with running(root, make_site(root, run_as="mosquitto")) as secured:
            owner = Path(f"/proc/{secured.process.pid}").owner()
            secured.add("p1")
            assert eventually_accepted(connect, secured, "p1", wanted=True)
            before = shown(secured, secured.authority)
            renew_server(secured.folder.paths, secured.site, NOW)
            secured.folder.reload()
            await_other(secured, secured.authority, before)
            secured.process.terminate()
            secured.process.wait(DEADLINE_S)
            assert (secured.folder.paths.store / "mosquitto.db").exists()
        assert owner == "mosquitto"


def test_certificate_is_renewed_while_the_broker_runs(secured: Secured, connect: Connect) -> None:
    """A new certificate of the same authority, and no connection ends (BROKER-009)."""
    staying = connect(secured, "coordinator")
    before = shown(secured, secured.authority)
    renew_server(secured.folder.paths, secured.site, NOW)
    assert secured.folder.reload()
    assert await_other(secured, secured.authority, before) != before
    staying.subscribe("fml/updates")
    assert staying.ended.empty()


def test_authorities_overlap(secured: Secured, connect: Connect, tmp_path: Path) -> None:
    """Who joined before one or two new authorities still connects; so do newcomers (BROKER-009)."""
    known = []
    for number in range(3):
        known.append(tmp_path / f"ca-{number}.pem")
        known[-1].write_bytes(secured.authority.read_bytes())
        before = shown(secured, known[0])
        renew_authority(secured.folder.paths, secured.site, NOW)
        secured.folder.reload()
        await_other(secured, known[0], before)
    for authority in (*known, secured.authority):
        assert connect(secured, "coordinator", authority=authority).accepted


def test_strangers_authority_is_not_trusted(secured: Secured, tmp_path: Path) -> None:
    """A client refuses a broker that another authority vouches for (BROKER-001)."""
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(make_authority("stranger", NOW).certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        shown(secured, stranger)


def test_board_without_a_clock_trusts_the_certificate(secured: Secured) -> None:
    """All certificates began when such a board believes to be (BROKER-010)."""
    for file in (secured.authority, secured.folder.paths.certificate):
        text = file.read_bytes()
        from_then = ssl.cert_time_to_seconds("Jan 1 00:00:00 1970 GMT")
        assert begins(file) <= from_then + BEFORE_TIME_WAS_TOLD
        assert expires(text) > NOW + timedelta(days=300)


def begins(file: Path) -> float:
    """When a certificate begins, in seconds since 1970."""
    decoded = ssl._ssl._test_decode_cert(str(file))  # type: ignore[attr-defined]
    return ssl.cert_time_to_seconds(decoded["notBefore"])


def test_plain_connections_are_refused_where_devices_reach_it(secured: Secured) -> None:
    """Without TLS there is no answer to a CONNECT (BROKER-001)."""
    for port in (secured.site.port, secured.site.people_port):
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as plain:
            plain.sendall(bytes.fromhex("101000044d5154540502003c000003707331"))
            try:
                answer = plain.recv(64)
            except ConnectionResetError:
                answer = b""
            assert answer[:1] != CONNACK


def test_secrets_are_their_owners_and_hashed(secured: Secured) -> None:
    """No password in clear but in the files made for those who connect (BROKER-011)."""
    password = new_password()
    assert len(password) == 43
    secured.folder.add("p1", Role.DEVICE, password)
    root = secured.folder.paths.root
    for file in (each for each in root.rglob("*") if each.is_file()):
        assert password not in file.read_text(errors="ignore")
        if file.name != "lock" and file.parent.name != "store":
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
