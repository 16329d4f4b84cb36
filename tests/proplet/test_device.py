"""Settings, mounts, telemetry, orders: what a proplet reads of its surroundings."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from roost.chassis.effects import Publish
from roost.chassis.received import Received
from roost.chassis.testing import MemoryBroker
from roost.proplet.__main__ import card, goodbye
from roost.proplet.adapters.decode import decode, own_presence, subscriptions
from roost.proplet.adapters.device import resources, runtimes, telemetry
from roost.proplet.adapters.mounts import find
from roost.proplet.adapters.sampler import Sampler
from roost.proplet.core.effects import Discard, Execute, SendOutputs, StopGuest
from roost.proplet.core.events import (
    MountsFound,
    ResendArrived,
    SaidOffline,
    StartArrived,
    StopArrived,
)
from roost.proplet.settings import PropletSettings
from roost.protocol.task.messages import (
    Presence,
    PresenceStatus,
    StartTask,
    StopReason,
    StopTask,
    TaskSpec,
    Telemetry,
)
from roost.wire.refusal import Refused
from roost.wire.topic import matches

SPEC = TaskSpec(image="blob:a/" + "0" * 64)


def put(root: Path, **files: str) -> None:
    """Write small files; ``__`` stands for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_this_device_has_something() -> None:
    """The real one, whatever it is."""
    has = resources()
    assert has.cpus >= 1
    assert has.memory_mb > 100
    assert has.arch
    assert runtimes()[0] == "wasi-preview1"
    sample = telemetry(1)
    assert sample.running == 1
    assert sample.memory_free_mb > 0


def test_a_bare_device_says_little(tmp_path: Path) -> None:
    """What it does not know is left out."""
    assert telemetry(0, tmp_path) == Telemetry(load=0.0, memory_free_mb=0)


def test_a_laptop_says_more(tmp_path: Path) -> None:
    """Load, memory, the system's battery but not a mouse's, the charger."""
    put(
        tmp_path,
        proc__loadavg="0.52 0.40 0.30 1/200 999",
        proc__meminfo="MemTotal: 9 kB\nMemAvailable:  2048000 kB",
        sys__class__power_supply__BAT0__type="Battery",
        sys__class__power_supply__BAT0__capacity="87",
        sys__class__power_supply__A_mouse__type="Battery",
        sys__class__power_supply__A_mouse__scope="Device",
        sys__class__power_supply__A_mouse__capacity="5",
        sys__class__power_supply__AC__type="Mains",
        sys__class__power_supply__AC__online="1",
    )
    sample = telemetry(0, tmp_path)
    assert (sample.load, sample.memory_free_mb) == (0.52, 2000)
    assert (sample.battery, sample.on_power) == (87.0, True)
    put(tmp_path, sys__class__power_supply__AC__online="0")
    assert telemetry(0, tmp_path).on_power is False
    put(tmp_path, sys__class__power_supply__BAT0__capacity="unknown")
    assert telemetry(0, tmp_path).battery is None


@pytest.mark.parametrize(
    ("temp", "state"),
    [("40000", "nominal"), ("71000", "fair"), ("80000", "serious"), ("100000", "critical")],
)
def test_heat_is_judged_by_the_zone_s_own_limits(tmp_path: Path, temp: str, state: str) -> None:
    """Near throttling, throttling, about to switch off."""
    zone = "sys__class__thermal__thermal_zone0__"
    put(tmp_path, **{zone + "temp": temp, zone + "trip_point_0_type": "passive",
        zone + "trip_point_0_temp": "80000", zone + "trip_point_1_type": "critical",
        zone + "trip_point_1_temp": "100000"})  # fmt: skip
    assert telemetry(0, tmp_path).thermal == state


def test_the_hottest_zone_counts(tmp_path: Path) -> None:
    """Zones without limits or without a temperature say nothing."""
    zones = "sys__class__thermal__thermal_zone"
    point = "trip_point_0"
    put(tmp_path, **{f"{zones}0__temp": "20000", f"{zones}0__{point}_type": "critical",
        f"{zones}0__{point}_temp": "90000", f"{zones}1__temp": "95000",
        f"{zones}2__{point}_type": "hot", f"{zones}2__{point}_temp": "80000"})  # fmt: skip
    assert telemetry(0, tmp_path).thermal == "nominal"
    put(tmp_path, **{f"{zones}2__temp": "85000"})
    assert telemetry(0, tmp_path).thermal == "serious"


def test_mounts_are_folders_of_the_data_folder(tmp_path: Path) -> None:
    """Links to folders count; files, hidden folders and odd names do not (GUEST-012)."""
    (tmp_path / "data/train").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/.hidden").mkdir()
    (tmp_path / "data/odd name").mkdir()
    (tmp_path / "data/file").touch()
    assert find(tmp_path / "data") == {
        "link": tmp_path / "elsewhere", "train": tmp_path / "data/train",
    }  # fmt: skip
    assert find(None) == find(tmp_path / "none") == {}


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> PropletSettings:
    """Return settings from an environment."""
    for name, value in {"PROPLET_ID": "p1", **values}.items():
        monkeypatch.setenv(f"ROOST_{name}", value)
    return PropletSettings()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels as pairs or JSON, folders by colon, hosts by comma."""
    found = settings(
        monkeypatch, LABELS="room=attic, kind=pi", FILE_IMAGES="/a:/b", STATE_DIR="/s",
        HTTP_REGISTRIES="registry:5000, other", SLOTS="3",
    )  # fmt: skip
    assert found.labels == {"room": "attic", "kind": "pi"}
    assert found.file_images == (Path("/a"), Path("/b"))
    assert found.http_registries == ("registry:5000", "other")
    assert (found.slots, found.images) == (3, Path("/s/images"))
    assert settings(monkeypatch, LABELS='{"a": "b"}').labels == {"a": "b"}
    assert settings(monkeypatch, LABELS="").labels == {}
    assert settings(monkeypatch, IMAGES_DIR="/i").images == Path("/i")
    assert PropletSettings(proplet_id="p", labels={"a": "b"}, file_images=(), slots=1).slots == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("LABELS", "attic"), ("LABELS", "{"), ("LABELS", "=x"), ("PROPLET_ID", "a/b"),
     ("SLOTS", "0"), ("TELEMETRY_S", "60")],
)  # fmt: skip
def test_bad_settings_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ValidationError):
        settings(monkeypatch, **{name: value})


def test_every_setting_is_described() -> None:
    """The table in the README is made from these."""
    assert all(each.description for each in PropletSettings.model_fields.values())


def test_the_last_will_is_the_whole_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, and otherwise what was said online (TASK-023)."""
    online = card(settings(monkeypatch, LABELS="a=b"), "boot")
    will = goodbye(online)
    assert will.retain
    assert will.topic == "proplets/p1/presence"
    offline = Presence.decode(will.payload)
    assert offline.status is PresenceStatus.OFFLINE
    assert offline.model_copy(update={"status": PresenceStatus.ONLINE}) == online


def test_orders_are_read() -> None:
    """Start, stop, resend."""
    start = StartTask(attempt=2, remaining_s=5.0, task=SPEC).encode()
    stop = StopTask(attempt=1, reason=StopReason.STALE).encode()
    place = "proplets/p1/tasks/t:1/"
    assert decode(Received(place + "start", start), 1.0) == StartArrived(1.0, "t:1", 2, 5.0, SPEC)
    told = decode(Received(place + "stop", stop), 1.0)
    assert told == StopArrived(1.0, "t:1", 1, StopReason.STALE)
    assert decode(Received(place + "resend"), 1.0) == ResendArrived(1.0, "t:1")


def test_its_own_presence_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only news that it is away matters; what the broker kept is replaced anyway (TASK-028)."""
    topic = own_presence("p1")
    online = card(settings(monkeypatch), "boot")
    away = goodbye(online).payload
    assert decode(Received(topic, away), 1.0) == SaidOffline(1.0)
    for other in (
        Received(topic, online.encode()),
        Received(topic),
        Received(topic, away, retain=True),
    ):
        assert decode(other, 1.0) is None
    with pytest.raises(Refused):
        decode(Received(topic, b"{"), 1.0)


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        (Received("proplets/p1/tasks/t/start", b"{"), "malformed"),
        (Received("proplets/p1/tasks/t/resend", retain=True), "retained_order"),
        (Received("proplets/p1/tasks/.t/resend"), "bad_topic"),
    ],
)
def test_bad_orders_are_refused(received: Received, reason: str) -> None:
    """By the name of the rule they break (WIRE-007)."""
    with pytest.raises(Refused) as refused:
        decode(received, 1.0)
    assert refused.value.refusal.name == reason


def test_only_orders_to_this_proplet_are_subscribed() -> None:
    """Three filters, none of which covers another proplet's."""
    filters = subscriptions("p1")
    assert len(filters) == 3
    for order in ("start", "stop", "resend"):
        assert any(matches(each, f"proplets/p1/tasks/t:1/{order}") for each in filters)
        assert not any(matches(each, f"proplets/p2/tasks/t:1/{order}") for each in filters)


def test_lanes_keep_a_task_in_order_and_let_stops_pass() -> None:
    """A stop waits for no run; a discard waits for the run that still writes."""
    lanes = {
        each.lane
        for each in (Execute("t", 1, SPEC, 0), SendOutputs("t", 1, SPEC, 0), Discard("t", 2))
    }
    assert lanes == {"task:t"}
    assert StopGuest("t", 1).lane not in lanes


def test_the_sampler_tells_mounts_and_telemetry(tmp_path: Path) -> None:
    """Mounts at the start and when they change; telemetry while connected; offline at the end.

    Proves TASK-024.
    """
    broker = MemoryBroker()
    posted: list[object] = []
    session = broker.session()
    said = Publish("proplets/p1/presence", b"offline", retain=True)
    sampler = Sampler(
        session, "p1", said, 3600.0, lambda: 2, lambda: find(tmp_path), lambda: 7.0, posted.append
    )
    sampler.start()
    assert posted == [MountsFound(7.0, ())]
    sampler.look()
    (tmp_path / "attic").mkdir()
    sampler.look()
    assert posted[1:] == [MountsFound(7.0, ("attic",))]
    sampler.sample()
    assert broker.published == []
    session.start()
    sampler.sample()
    [sample] = broker.published
    assert (sample.topic, sample.retain) == ("proplets/p1/telemetry", True)
    assert Telemetry.decode(sample.payload).running == 2
    sampler.stop()
    assert broker.published[-1] == said
