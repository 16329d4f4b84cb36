"""Files on the bridge's disk: by digest for phones, by attempt from phones."""

import hashlib
import os
from pathlib import Path

from roost.chassis.blobs import manifest_of
from roost.ios_bridge.adapters.files import Shelf, Tray

WHO = ("phone", "r1:phone", 2)


def put(shelf: Shelf, content: bytes) -> str:
    """Put bytes on a shelf and return their digest."""
    with shelf.temporary() as path:
        path.write_bytes(content)
        sha256, size = shelf.keep(path)
    assert (sha256, size) == (hashlib.sha256(content).hexdigest(), len(content))
    return sha256


def test_a_file_is_found_by_its_digest(tmp_path: Path) -> None:
    """What was kept is there, what was not is not (PHONE-041)."""
    shelf = Shelf(tmp_path / "files", 1000)
    assert shelf.find("0" * 64) is None
    sha256 = put(shelf, b"abc")
    found = shelf.find(sha256)
    assert found is not None
    assert found.read_bytes() == b"abc"
    assert [path.name for path in shelf.folder.iterdir()] == [sha256]


def test_the_files_used_longest_ago_go(tmp_path: Path) -> None:
    """The shelf stays within its limit; the newest file stays whatever its size (PHONE-041)."""
    shelf = Shelf(tmp_path / "files", 10)
    old, used = put(shelf, b"a" * 4), put(shelf, b"b" * 4)
    os.utime(shelf.folder / old, (1, 1))
    os.utime(shelf.folder / used, (0, 0))
    shelf.find(used)
    new = put(shelf, b"c" * 4)
    assert {path.name for path in shelf.folder.iterdir()} == {used, new}
    huge = put(shelf, b"d" * 40)
    assert {path.name for path in shelf.folder.iterdir()} == {huge}


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    """Half of a file is no file."""
    shelf, tray = Shelf(tmp_path / "files", 10), Tray(tmp_path / "outputs")
    shelf.sweep()
    tray.sweep()
    (tmp_path / "files" / "fetch-x").mkdir(parents=True)
    tray.folder.mkdir()
    (tray.folder / "fetch-y").write_bytes(b"half")
    shelf.sweep()
    tray.sweep()
    assert list(shelf.folder.iterdir()) == []
    assert list(tray.folder.iterdir()) == []


def test_what_comes_in_is_whole_or_absent(tmp_path: Path) -> None:
    """A file is in its place when it is put there, and nothing else is left (PHONE-042)."""
    tray = Tray(tmp_path / "outputs")
    with tray.incoming() as path:
        path.write_bytes(b"half")
    assert list(tray.folder.iterdir()) == []
    for content in (b"one", b"two"):
        with tray.incoming() as path:
            path.write_bytes(content)
            tray.put(path, *WHO, "result")
    assert (tray.attempt(*WHO) / "result").read_bytes() == b"two"
    assert tray.attempts("phone", "r1:phone") == [2]
    assert tray.attempts("phone", "other") == []


def test_offers_are_noted_once_and_attempts_removed(tmp_path: Path) -> None:
    """What was offered is known after a restart; an empty folder is no folder."""
    tray = Tray(tmp_path / "outputs")
    assert tray.offered(*WHO) == []
    with tray.incoming() as path:
        path.write_bytes(b"content")
        tray.put(path, *WHO, "result")
    manifest = manifest_of("phone", tray.attempt(*WHO) / "result")
    for _ in range(2):
        tray.note_offer(*WHO, manifest)
    assert tray.offered(*WHO) == [manifest]
    tray.remove(*WHO)
    assert list(tray.folder.iterdir()) == []
