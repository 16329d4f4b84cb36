"""`roost broker`: what it writes, keeps, refuses and says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from roost.cli import app
from roost.cli.broker import find_mosquitto
from roost.cli.errors import CliError, UsageProblem
from roost.cli.security import certificates
from roost.cli.security.folder import BrokerFolder, running_pid
from roost.cli.security.site import Site, own_addresses, parse_listen
from roost.cli.security.users import Role, User, Users, hash_password, matches_hash, new_password

from .conftest import NOW, WORKLOADS, make_site


@dataclass(frozen=True)
class Answer:
    """What a command line printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Its last line as a JSON object."""
        found: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return found


Roost = Callable[..., Answer]


@pytest.fixture
def roost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Roost:
    """Run a command line in an empty working directory, with the project's bindings."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Answer:
        capfd.readouterr()
        code = app.main([str(arg) for arg in args])
        said = capfd.readouterr()
        return Answer(code, said.out, said.err)

    return run


def folder_of(tmp_path: Path) -> BrokerFolder:
    """The folder that commands in this working directory use."""
    return BrokerFolder(tmp_path / ".roost" / "broker")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0.0.0.0", ("0.0.0.0", 8883)),
        ("192.168.1.5:9000", ("192.168.1.5", 9000)),
        ("::", ("::", 8883)),
        ("[fd00::1]:9000", ("fd00::1", 9000)),
        ("[fd00::1]", ("fd00::1", 8883)),
    ],
)
def test_listen_is_an_address_and_perhaps_a_port(text: str, found: tuple[str, int]) -> None:
    """IPv6 with a port is written in brackets, as in URLs."""
    assert parse_listen(text) == found


@pytest.mark.parametrize("text", ["", "here", "example.org:8883", "1.2.3.4:x", "1.2.3.4:65534"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """A name could mean another machine tomorrow."""
    with pytest.raises(UsageProblem, match="--listen"):
        parse_listen(text)


def test_no_other_listener_without_passwords_and_tls(roost: Roost, tmp_path: Path) -> None:
    """The loopback alone lets in without a name, and needs no setup (BROKER-001)."""
    assert roost("broker", "setup", "--listen", "0.0.0.0").code == 0
    listeners = folder_of(tmp_path).paths.config.read_text().split("\nlistener ")[1:]
    assert [each.split()[1] for each in listeners] == ["127.0.0.1", "0.0.0.0", "0.0.0.0"]
    assert "allow_anonymous true" in listeners[0]
    for listener in listeners[1:]:
        assert "allow_anonymous true" not in listener
        for needed in ("allow_anonymous false", "password_file", "acl_file", "certfile",
                       "keyfile", "tls_version tlsv1.2"):  # fmt: skip
            assert needed in listener
    refused = roost("broker", "setup", "--listen", "127.0.0.1")
    assert refused.code == 2
    assert "roost up" in refused.err


def test_no_listener_on_the_loopback_if_that_is_said(roost: Roost, tmp_path: Path) -> None:
    """Then nobody is let in without a name, and no line of the ACL is for the nameless."""
    assert roost("broker", "setup", "--listen", "0.0.0.0", "--loopback", 0).code == 0
    paths = folder_of(tmp_path).paths
    assert "allow_anonymous true" not in paths.config.read_text()
    assert "topic readwrite #" not in paths.acl.read_text()
    again = roost("broker", "setup")
    assert again.code == 0
    assert "allow_anonymous true" not in paths.config.read_text()


def test_setup_again_keeps_users_passwords_and_certificates(roost: Roost, tmp_path: Path) -> None:
    """What changed is written; what devices and services know stays good."""
    assert roost("broker", "setup", "--listen", "192.0.2.7", "--host", "hub.example").code == 0
    folder = folder_of(tmp_path)
    assert roost("broker", "user", "add", "p1", "--role", "device").code == 0
    kept = ["users.json", "ca.pem", "server.pem", "services/manager.env", "people/p1.env"]
    before = {name: (folder.paths.root / name).read_bytes() for name in kept}
    assert roost("broker", "setup", "--prefix", "house").code == 0
    after = {name: (folder.paths.root / name).read_bytes() for name in kept}
    assert after.pop("services/manager.env").startswith(before.pop("services/manager.env")[:60])
    assert after == before
    assert folder.site().prefix == "house/"
    assert "topic write house/proplets/p1/presence" in folder.paths.acl.read_text()
    assert "ROOST_TOPIC_PREFIX=house/" in folder.paths.settings("services", "manager").read_text()


def test_another_name_makes_another_certificate(roost: Roost, tmp_path: Path) -> None:
    """Of the same authority, so that nobody needs to trust anything new."""
    roost("broker", "setup", "--listen", "192.0.2.7", "--host", "hub.example")
    paths = folder_of(tmp_path).paths
    authority, server = paths.authority.read_bytes(), paths.certificate.read_bytes()
    roost("broker", "setup", "--host", "hub.example", "--host", "10.1.2.3")
    assert paths.authority.read_bytes() == authority
    assert certificates.hosts_of(server) == {"hub.example"}
    assert certificates.hosts_of(paths.certificate.read_bytes()) == {"hub.example", "10.1.2.3"}


def test_certificate_made_elsewhere(roost: Roost, tmp_path: Path) -> None:
    """It is checked against its key and the name that devices use; and never renewed here."""
    authority = certificates.make_authority("elsewhere", NOW)
    server, key = certificates.issue(authority, ["hub.example"], NOW)
    files = {"cert": server, "key": key, "ca": authority.certificate, "other": authority.key}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    given = ["--listen", "192.0.2.7", "--cert", "cert", "--ca", "ca"]
    other_key = roost("broker", "setup", *given, "--key", "other", "--host", "hub.example")
    assert (other_key.code, "is not the key of" in other_key.err) == (2, True)
    other_name = roost("broker", "setup", *given, "--key", "key", "--host", "x.example")
    assert (other_name.code, "--host" in other_name.err) == (2, True)
    no_key = roost("broker", "setup", *given, "--host", "hub.example")
    assert (no_key.code, "belong together" in no_key.err) == (2, True)
    assert roost("broker", "setup", *given, "--key", "key", "--host", "hub.example").code == 0
    assert folder_of(tmp_path).paths.certificate.read_bytes() == server
    renewed = roost("broker", "renew")
    assert (renewed.code, "came from elsewhere" in renewed.err) == (2, True)


def test_show_names_users_and_when_certificates_end(roost: Roost) -> None:
    """For people and as JSON; `renew` moves the end of nothing backwards."""
    roost("broker", "setup", "--listen", "192.0.2.7")
    roost("broker", "user", "add", "anna", "--role", "operator")
    told = roost("broker", "show", "--json").json
    assert told["devices"] == "mqtts://192.0.2.7:8883"
    assert told["operators"] == "mqtts://192.0.2.7:8884"
    assert told["users"]["operator"] == ["anna", "operator"]
    assert set(told["certificates_end"]) == {"server certificate", "authority"}
    assert "ends 20" in roost("broker", "show").out
    assert roost("broker", "renew", "--authority").code == 0
    later = roost("broker", "show", "--json").json["certificates_end"]
    assert all(later[what] >= at for what, at in told["certificates_end"].items())


def test_doctor_warns_of_a_certificate_that_ends_soon(roost: Roost, tmp_path: Path) -> None:
    """With the command that renews it; it does not go on and on saying so otherwise."""
    roost("broker", "setup", "--listen", "192.0.2.7")
    assert "server certificate" in roost("doctor").out
    paths = folder_of(tmp_path).paths
    old = NOW - timedelta(days=certificates.SERVER_DAYS - 10)
    server, _ = certificates.issue(
        certificates.Authority(paths.authority.read_bytes(), paths.authority_key.read_bytes()),
        ["hub.example"],
        old,
    )
    paths.certificate.write_bytes(server)
    told = [line for line in roost("doctor").out.splitlines() if "server certificate" in line]
    assert told[0].startswith("warning")
    assert "roost broker renew" in told[0]


def test_users_are_taken_away_by_name(roost: Roost, tmp_path: Path) -> None:
    """With their settings; services stay, and strangers are said to be none."""
    roost("broker", "setup", "--listen", "192.0.2.7")
    roost("broker", "user", "add", "eye", "--role", "viewer")
    folder = folder_of(tmp_path)
    assert "user eye" in folder.paths.acl.read_text()
    assert roost("broker", "user", "remove", "eye").code == 0
    assert "user eye" not in folder.paths.acl.read_text()
    assert not folder.paths.settings("people", "eye").exists()
    for name in ("eye", "manager"):
        assert roost("broker", "user", "remove", name).code == 1


@pytest.mark.parametrize("name", ["a/b", "+", "#", "", "a b", "x" * 65, "a:b", "%u", "-x"])
def test_names_cannot_mean_more_than_one_level(name: str) -> None:
    """A name becomes a level of topics in the ACL."""
    with pytest.raises(UsageProblem, match="cannot be a user's name"):
        Users().adding(User(name, Role.DEVICE, "x"))


@pytest.mark.parametrize(
    "name", ["manager", "manager-fwd", "coordinator", "model-server", "operator"]
)
def test_names_of_services_are_taken(name: str) -> None:
    """A device of such a name would own blobs that everyone runs (WIRE-081)."""
    with pytest.raises(UsageProblem, match="name of a service"):
        Users().adding(User(name, Role.DEVICE, "x"))


def test_no_two_users_of_one_name() -> None:
    """Whatever their roles are."""
    users = Users().adding(User("anna", Role.OPERATOR, "x"))
    with pytest.raises(UsageProblem, match="operator named anna"):
        users.adding(User("anna", Role.DEVICE, "x"))


def test_password_hashes_are_mosquittos() -> None:
    """Salted, so that one password has many hashes; compared in constant time (BROKER-011)."""
    password = new_password()
    one, other = hash_password(password), hash_password(password)
    assert one != other
    assert matches_hash(password, one)
    assert matches_hash(password, other)
    assert not matches_hash(new_password(), one)
    assert not matches_hash(password, "")
    assert not matches_hash(password, "$7$101$a$b")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"name": "a"}]', '[{"role": "king"}]'])
def test_damaged_users_are_said_to_be(text: str, tmp_path: Path) -> None:
    """Nobody is let in or locked out by mistake."""
    folder = BrokerFolder(tmp_path)
    folder.setup(make_site(tmp_path), NOW)
    folder.paths.users.write_text(text)
    with pytest.raises(CliError, match="damaged"):
        folder.users()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"hosts": []}'])
def test_damaged_site_is_said_to_be(text: str, tmp_path: Path) -> None:
    """With the command that writes it anew."""
    folder = BrokerFolder(tmp_path)
    folder.setup(make_site(tmp_path), NOW)
    folder.paths.site.write_text(text)
    with pytest.raises(CliError, match="roost broker setup"):
        folder.site()


def test_no_folder_is_no_broker(roost: Roost) -> None:
    """The message names the command that makes it one."""
    for words in (["show"], ["renew"], ["user", "add", "x", "--role", "viewer"], ["setup"]):
        told = roost("broker", *words)
        assert told.code == 2
        assert "roost broker setup" in told.err or "--listen" in told.err


def test_bindings_that_are_refused_change_nothing(roost: Roost, tmp_path: Path) -> None:
    """Rights follow from them, so there are none without."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.toml").write_text("[[launch]]\n")
    told = roost("broker", "setup", "--listen", "192.0.2.7", "--workloads", "bad")
    assert (told.code, "x.toml" in told.err) == (2, True)
    assert not folder_of(tmp_path).exists


def test_a_pid_that_is_another_program_gets_no_signal(tmp_path: Path) -> None:
    """Pid files outlive killed processes, and pids are used again."""
    folder = BrokerFolder(tmp_path)
    folder.setup(make_site(tmp_path), NOW)
    folder.paths.pid.write_text("1\n")
    assert running_pid(folder.paths) is None
    assert not folder.reload()


def test_own_addresses_begin_with_the_one_listened_on() -> None:
    """It is what invitations name."""
    assert own_addresses("192.0.2.7")[0] == "192.0.2.7"
    assert "0.0.0.0" not in own_addresses("0.0.0.0")


def test_urls_of_ipv6_have_brackets(tmp_path: Path) -> None:
    """As RFC 3986 wants them."""
    site = make_site(tmp_path, hosts=("fd00::1",), port=8883)
    assert site.url == "mqtts://[fd00::1]:8883"
    assert isinstance(site, Site)
    assert WORKLOADS.is_dir()
    assert find_mosquitto() is None or site.people_url.startswith("mqtts://[fd00::1]:")
