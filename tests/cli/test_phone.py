"""`roost phone`: bridge, invitations, simulated phones, with a real broker."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from roost.cli.ports import free_port, wait_open
from roost.protocol.phone.messages import PairRequest

DEADLINE_S = 20.0
pytestmark = pytest.mark.system


@pytest.fixture
def bridge(broker: Any, tmp_path: Path) -> Iterator[str]:
    """Run `roost phone bridge` and return its URL."""
    port = free_port()
    words = ["phone", "bridge", "--broker", broker.url, "--port", str(port)]
    with (tmp_path / "bridge.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "roost.cli", *words, "--state", str(tmp_path / "state")],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        assert wait_open("127.0.0.1", port, DEADLINE_S), (tmp_path / "bridge.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0


@pytest.fixture
def phone(roost: Callable[..., Any], broker: Any, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that runs `roost phone`."""
    at = ("--broker", broker.url, "--state", tmp_path / "state")
    return lambda *words: roost("phone", *words, *at)


def test_without_a_bridge(phone: Callable[..., Any]) -> None:
    """Nothing is listed, and an invitation says what is missing."""
    listed = phone("list")
    assert (listed.code, "roost phone invite NAME" in listed.out + listed.err) == (0, True)
    for words in (("invite", "mine"), ("simulate", 1)):
        answer = phone(*words)
        assert answer.code == 1
        assert "`roost phone bridge` starts one" in answer.err


def test_an_invitation(phone: Callable[..., Any], bridge: str, tmp_path: Path) -> None:
    """A link for people and one for machines; its code as text and as PNG; shown until used.

    (PHONE-050, PHONE-052)
    """
    for_people = phone("invite", "mine", "--png", tmp_path / "code.png")
    assert for_people.code == 0
    assert f"{bridge}/#t=" in for_people.out
    assert "█" in for_people.out
    assert (tmp_path / "code.png").read_bytes().startswith(b"\x89PNG")
    (found,) = phone("invite", "other", "--minutes", 1, "--json").json
    assert found["link"] == f"{bridge}/#t={found['token']}"
    PairRequest(token=found["token"])
    listed = phone("list", "--json")
    assert {(each["phone"], each["presence"]) for each in listed.json} == {
        ("mine", "invited"), ("other", "invited"),
    }  # fmt: skip
    assert found["token"] not in listed.out
    files = [path for path in (tmp_path / "state" / "ios-bridge").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if found["token"].encode() in path.read_bytes()]


@pytest.mark.parametrize("device", ["a:b", "a/b", ""])
def test_a_name_that_is_none(phone: Callable[..., Any], device: str) -> None:
    """It is refused before anything is sent."""
    assert phone("invite", device).code == 2


def test_simulated_phones(phone: Callable[..., Any], bridge: str, tmp_path: Path) -> None:
    """They pair, wake, are listed, come again with the same password, and are revoked.

    (PHONE-037, PHONE-052, PHONE-053)
    """
    assert bridge
    first = phone("simulate", 2, "--seconds", 0.1, "--json")
    assert first.code == 0, first.err
    assert json.loads(first.out)["phones"] == ["phone-1", "phone-2"]
    kept = tmp_path / "state" / "phones" / "phone-1" / "credentials.json"
    secret = kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
    assert phone("simulate", 1, "--seconds", 0.1).code == 0
    assert kept.read_text() == secret
    taken = phone("invite", "phone-1")
    assert taken.code == 1
    assert "device_taken" in taken.err
    assert phone("revoke", "phone-1").code == 0
    listed = phone("list", "--json").json
    assert [each["phone"] for each in listed] == ["phone-2"]
    assert phone("revoke", "phone-1").code == 1
    kept.with_name("credentials.json").unlink()
    assert phone("simulate", 1, "--seconds", 0.1).code == 0
    kept.unlink()
    lost = phone("simulate", 1, "--seconds", 0.1)
    assert lost.code == 1
    assert "roost phone revoke phone-1" in lost.err
