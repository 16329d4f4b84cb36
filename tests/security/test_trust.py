"""What somebody is told whose connection fails for want of trust."""

from __future__ import annotations

import gc
import queue
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from roost.chassis.errors import TrustUnusable
from roost.chassis.session import Session
from roost.chassis.settings import BrokerSettings
from roost.chassis.tls import tls_context, why_distrusted
from roost.cli.errors import NoBroker, UsageProblem
from roost.cli.security.certificates import issue, make_authority
from roost.cli.wire_client import Wire

from .conftest import DEADLINE_S, NOW, Secured

pytestmark = pytest.mark.system


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """The certificate of an authority that signed nothing here."""
    file = tmp_path / "stranger.pem"
    file.write_bytes(make_authority("stranger", NOW).certificate)
    return file


class Log:
    """Takes what a session says."""

    def __init__(self) -> None:
        self.errors: queue.SimpleQueue[tuple[str, dict[str, str]]] = queue.SimpleQueue()
        self.debugs: queue.SimpleQueue[str] = queue.SimpleQueue()

    def error(self, event: str, **fields: str) -> None:
        """Keep it."""
        self.errors.put((event, fields))

    def debug(self, event: str, **_fields: object) -> None:
        """Keep that it was said."""
        self.debugs.put(event)

    info = warning = debug


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # paho's, of failed handshakes
def test_service_says_once_that_it_does_not_trust_the_broker(
    shared: Secured, stranger: Path
) -> None:
    """Else it would look like a broker that is away, for ever (BROKER-001)."""
    settings = BrokerSettings(broker=shared.site.url, ca_file=stranger)
    session = Session(settings, "p1", rng=random.Random(1))
    session._client.reconnect_delay_set(0.01, 0.01)  # type: ignore[arg-type] # fractions work
    log = Log()
    session._log = log  # type: ignore[assignment]
    session.start()
    try:
        event, fields = log.errors.get(timeout=DEADLINE_S)
        for _ in range(3):
            log.debugs.get(timeout=DEADLINE_S)
    finally:
        session.stop()
        gc.collect()
    assert event == "broker.distrusted"
    assert str(stranger) in fields["why"]
    assert log.errors.empty()


def test_command_says_whom_it_does_not_trust(
    shared: Secured, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, with the file and the name that do not fit (BROKER-001)."""
    monkeypatch.setenv("ROOST_CA_FILE", str(stranger))
    with (
        pytest.raises(NoBroker, match="must be signed by the authority"),
        Wire.connect(shared.site.people_url),
    ):
        pass
    monkeypatch.setenv("ROOST_CA_FILE", str(stranger.with_name("nowhere")))
    with pytest.raises(UsageProblem, match="ROOST_CA_FILE"), Wire.connect(shared.site.people_url):
        pass


def test_reasons_are_told_apart(shared: Secured, stranger: Path) -> None:
    """Not trusted, no TLS there, no matter of trust."""

    def why(url: str, ca_file: Path | None) -> str:
        return why_distrusted(BrokerSettings(broker=url, ca_file=ca_file)) or "nothing"

    site = shared.site
    assert "signed by the authority" in why(site.url, stranger)
    assert "Name the certificate" in why(site.url, None)
    assert "agrees on no TLS" in why(f"mqtts://127.0.0.1:{site.loopback_port}", stranger)
    assert why(site.url, shared.authority) == "nothing"
    assert why("mqtts://127.0.0.1:1", stranger) == "nothing"
    assert why("mqtt://127.0.0.1:1", None) == "nothing"


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("no certificate")])
def test_files_that_cannot_be_used_are_named(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """By the variable that names them."""
    authority = make_authority("here", NOW)
    certificate, key = issue(authority, ["p1"], NOW)
    files = {"ca_file": authority.certificate, "cert_file": certificate, "key_file": key}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    given = {name: tmp_path / name for name in files}
    settings = BrokerSettings(broker="mqtts://h", password=SecretStr("x"), **given)
    assert tls_context(settings)
    for name in ("key_file", "ca_file"):
        damage(tmp_path / name)
        with pytest.raises(TrustUnusable, match=f"ROOST_{name.upper()}"):
            tls_context(settings)
