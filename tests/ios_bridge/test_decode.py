"""Messages as they arrive, turned into events or refused; settings."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from roost.chassis.received import Received
from roost.ios_bridge.adapters.decode import decode, orders, subscriptions
from roost.ios_bridge.core import events
from roost.ios_bridge.settings import BridgeSettings
from roost.wire.refusal import Refused
from roost.wire.topic import matches

TASK = {"attempt": 2, "remaining_s": 9.0, "task": {"image": "blob:op/x"}}
PLACES = [
    ("proplets/phone/tasks/r1:phone/start", TASK, events.StartArrived),
    ("proplets/phone/tasks/t/stop", {"attempt": 1, "reason": "cancelled"}, events.StopArrived),
    ("proplets/phone/tasks/t/resend", {}, events.ResendArrived),
    ("ios/phone/up/state", {"connection_id": "c", "boot_id": "b", "app": "x"}, events.PhoneTold),
    ("ios/phone/up/report", {"task_id": "t", "attempt": 1, "status": "running"},
     events.PhoneReported),
    ("ios/phone/up/asleep", {"connection_id": "c"}, events.PhoneSlept),
    ("phones/invite", {"invite_id": "i", "token_sha256": "a" * 64, "device": "phone"},
     events.InviteArrived),
    ("phones/phone/revoke", {}, events.RevokeArrived),
]  # fmt: skip


def received(topic: str, body: Any, *, retain: bool = False) -> Received:
    """Return a message."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Received(topic, payload, retain=retain)


@pytest.mark.parametrize(("topic", "body", "event"), PLACES)
def test_each_topic_has_its_event(topic: str, body: Any, event: type) -> None:
    """What is subscribed to is read, with the ids of its topic (PHONE-001)."""
    found = decode(received(topic, body), 5.0)
    assert isinstance(found, event)
    assert found.at == 5.0
    assert getattr(found, "device", "phone") == "phone"
    assert sum(matches(each, topic) for each in subscriptions(owntracks=True)) == 1
    assert any(matches(each, topic) for each in orders())


@pytest.mark.parametrize(("topic", "body", "event"), PLACES)
def test_retained_orders_are_refused(topic: str, body: Any, event: type) -> None:
    """What an operator did wrong is shown to operators (WIRE-007, PHONE-003, PHONE-052)."""
    message = received(topic, body, retain=True)
    if topic.startswith("phones/"):
        found = decode(message, 5.0)
        assert isinstance(found, events.OperatorRefused)
        assert found.refusal.name == "retained_order"
    else:
        with pytest.raises(Refused, match="retained_order"):
            decode(message, 5.0)


def test_what_cannot_be_read() -> None:
    """A bad order of an operator is shown; any other is refused (PHONE-001, PHONE-052)."""
    found = decode(received("phones/invite", b"hello"), 5.0)
    assert isinstance(found, events.OperatorRefused)
    assert found.refusal.name == "malformed"
    for topic in ("ios/phone/up/state", "proplets/phone/tasks/t/start"):
        with pytest.raises(Refused, match="malformed"):
            decode(received(topic, b"hello"), 5.0)
    with pytest.raises(Refused, match="bad_topic"):
        decode(received("ios/phone/up/mood", b"{}"), 5.0)


@pytest.mark.parametrize(
    ("body", "battery", "on_power"),
    [
        ({"batt": 81, "bs": 1}, 81.0, False), ({"batt": 81, "bs": 2}, 81.0, True),
        ({"batt": 100, "bs": 3}, 100.0, True), ({"batt": 5, "bs": 0}, 5.0, None),
        ({"batt": 5}, 5.0, None), ({"batt": 250}, 100.0, None), ({"batt": -1}, 0.0, None),
    ],
)  # fmt: skip
def test_owntracks(body: Any, battery: float, on_power: bool | None) -> None:
    """Its battery status and percent become a reading (PHONE-026)."""
    found = decode(received("owntracks/me/phone", {"_type": "location", **body}), 5.0)
    assert isinstance(found, events.ReadingCame)
    assert (found.reading.battery, found.reading.on_power) == (battery, on_power)


def test_owntracks_says_other_things_too() -> None:
    """They are no readings; what is no JSON is refused (PHONE-026)."""
    for body in ({"_type": "transition"}, [1], {"batt": "full"}):
        assert decode(received("owntracks/me/phone", body), 5.0) is None
    with pytest.raises(Refused, match="malformed"):
        decode(received("owntracks/me/phone", b"hello"), 5.0)
    assert not any("owntracks" in each for each in subscriptions(owntracks=False))


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that phones are told, and a certificate without its key."""
    plain = BridgeSettings()
    assert plain.url(8470) == "http://127.0.0.1:8470"
    monkeypatch.setenv("ROOST_PHONE_HOST", "::1")
    monkeypatch.setenv("ROOST_PHONE_CERT_FILE", "c.pem")
    with pytest.raises(ValidationError, match="ROOST_PHONE_KEY_FILE"):
        BridgeSettings()
    monkeypatch.setenv("ROOST_PHONE_KEY_FILE", "k.pem")
    monkeypatch.setenv("ROOST_FILE_IMAGES", "/a:/b")
    found = BridgeSettings()
    assert found.url(1) == "https://[::1]:1"
    assert found.file_images == (Path("/a"), Path("/b"))
    monkeypatch.setenv("ROOST_PHONE_URL", "https://roost.example/")
    assert BridgeSettings().url(1) == "https://roost.example"
