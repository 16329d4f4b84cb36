"""A state file that cannot be used is named, with what to do."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from roost.chassis.effects import Publish, SetTimer
from roost.chassis.errors import StateDamaged
from roost.chassis.store import SCHEMA_VERSION, Store


@dataclass(frozen=True)
class Count:
    """A state."""

    times: int


def opened(path: Path) -> Store:
    """Open a store of counts."""
    return Store(path, {"count": Count}, ())


def filled(path: Path) -> None:
    """Write enough to fill many pages."""
    with opened(path) as store:
        for number in range(2000):
            store.put(("count", f"{number:064}"), Count(number))
    store.close()


@pytest.mark.parametrize("damage", ["text", "torn", "overwritten"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    """Before anything is read of it (WIRE-041)."""
    path = tmp_path / "state.sqlite"
    filled(path)
    whole = path.read_bytes()
    middle = len(whole) // 2 // 4096 * 4096
    path.write_bytes(
        {
            "text": b"this is no database" * 100,
            "torn": whole[:middle],
            "overwritten": whole[:middle] + os.urandom(8192) + whole[middle + 8192 :],
        }[damage]
    )
    with pytest.raises(StateDamaged, match=r"state\.sqlite cannot be read .*: put a copy of the"):
        opened(path)


def test_a_state_that_no_longer_fits_is_named(tmp_path: Path) -> None:
    """Another version of the service wrote it, or somebody by hand (WIRE-041)."""
    path = tmp_path / "state.sqlite"
    with opened(path) as store:
        store.put(("count", "x"), Count(1))
        store._db.execute("""UPDATE entities SET body = '{"times": "many"}'""")
    with pytest.raises(StateDamaged, match="1 validation error for Count"):
        list(store.load_states())
    store.close()


def test_an_older_file_is_brought_up_to_date(tmp_path: Path) -> None:
    """Once, and all that it holds stays, but for effects that are made anew anyway (WIRE-041)."""
    path = tmp_path / "state.sqlite"
    with opened(path) as store:
        store.put(("count", "x"), Count(1))
        store.add_to_outbox(Publish("left"))
        store._db.executemany(
            "INSERT INTO outbox (kind, body) VALUES (?, '{}')", [("Acknowledge",), ("Refresh",)]
        )
        store._db.execute("PRAGMA user_version=1")
    store.close()
    for _ in range(2):
        later = opened(path)
        assert dict(later.load_states()) == {("count", "x"): Count(1)}
        assert [entry.effect for entry in later.outbox()] == [Publish("left")]
        assert later._db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        later.close()


def test_an_effect_that_nobody_knows_is_named(tmp_path: Path) -> None:
    """It must not be lost, and cannot be done (WIRE-041)."""
    path = tmp_path / "state.sqlite"
    with Store(path, {}, (SetTimer,)) as store:
        store.add_to_outbox(SetTimer("t", 1.0))
    store.close()
    with opened(path) as later, pytest.raises(StateDamaged, match="'SetTimer'"):
        later.outbox()
    later.close()


def test_a_service_with_a_damaged_state_does_not_start(tmp_path: Path) -> None:
    """It ends with exit code 2 and one line, not with a traceback (WIRE-041)."""
    (tmp_path / "state.sqlite").write_bytes(b"this is no database" * 100)
    environment = {
        **os.environ,
        "ROOST_STATE_DIR": str(tmp_path),
        "ROOST_BROKER": "mqtt://127.0.0.1:1",
        "ROOST_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "roost.model_server"]
    ended = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
    assert ended.returncode == 2
    (line,) = ended.stderr.decode().splitlines()
    assert "state.sqlite cannot be read (file is not a database)" in line
