"""Updates on disk: written one by one, made durable together."""

import errno
import os
import threading
from pathlib import Path

import pytest
from roost.chassis.files import sync
from roost.coordinator.adapters import spool as spool_module
from roost.coordinator.adapters.spool import Spool
from roost.coordinator.core.errors import UpdateNotDurable
from roost.coordinator.core.seats import Arrival

UPDATE = b'{"round_id":"r","base_model_uri":"fl/models/m_v0","num_samples":1,"update":{"w":[1.0]}}'


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Return a spool in a folder of its own."""
    numbers = iter(range(100))
    return Spool(tmp_path / "spool", lambda: str(next(numbers)))


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the list of what is synced from now on."""
    seen: list[Path] = []

    def watch(path: Path) -> None:
        seen.append(path)
        sync(path)

    monkeypatch.setattr(spool_module, "sync", watch)
    return seen


def test_a_group_of_updates_is_synced_at_once(spool: Spool, synced: list[Path]) -> None:
    """Files, their folders, and the folder of these; each once (ROUND-014)."""
    taken = [spool.take_in("r", f"p{number}", UPDATE) for number in range(20)]
    taken.append(spool.take_in("s", "p0", UPDATE))
    assert synced == []
    spool.settle()
    files = {spool.path(arrival.spool) for arrival in taken}
    folders = {path.parent for path in files} | {path.parent.parent for path in files}
    assert len(synced) == len(files | folders)
    assert set(synced) == files | folders
    synced.clear()
    spool.settle()
    assert synced == [], "nothing is new"


def test_what_was_dropped_before_need_not_be_synced(spool: Spool, synced: list[Path]) -> None:
    """Another thread may have judged and refused it already."""
    one, two = (spool.take_in(round_id, "a", UPDATE) for round_id in ("r", "s"))
    spool.drop([one.spool])
    spool.settle()
    assert spool.path(two.spool) in synced


def test_a_disk_that_does_not_keep_an_update_ends_the_process(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as a full disk, which is waited for: a second sync would hide the loss (ROUND-014)."""

    def fail(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    spool.take_in("r", "a", UPDATE)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UpdateNotDurable, match="No space"):
        spool.settle()


def test_what_comes_while_others_are_synced_is_synced_next(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large updates are taken in on another thread (ROUND-014)."""
    first = spool.take_in("r", "a", UPDATE)
    lock = threading.Lock()
    late: list[Arrival] = []

    def slow(path: Path) -> None:
        with lock:
            if not late:
                late.append(spool.take_in("r", "b", UPDATE))
        sync(path)

    monkeypatch.setattr(spool_module, "sync", slow)
    spool.settle()
    assert spool._unsettled == [spool.path(late[0].spool)]
    spool.settle()
    assert spool._unsettled == []
    assert spool.path(first.spool).exists()
