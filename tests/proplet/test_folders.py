"""Folders that a guest wrote are measured and removed without trusting what is in them."""

import os
from pathlib import Path

import pytest
from roost.proplet.adapters.folders import TaskFolders
from roost.proplet.guest import folders
from roost.proplet.guest.folders import MAX_DEPTH, measure, read_regular, remove


def test_regular_files_are_added_up(tmp_path: Path) -> None:
    """Files count by length, in all folders; links do not lead elsewhere."""
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/b").write_bytes(b"123")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1_000_000)
    link = tmp_path / "link"
    link.symlink_to("/usr")
    assert measure(tmp_path).size == 1_000_008 + link.lstat().st_size
    assert measure(tmp_path).excess is None


def test_many_files_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty files cost the device too."""
    monkeypatch.setattr(folders, "MAX_ENTRIES", 3)
    for name in "abc":
        (tmp_path / name).touch()
    assert measure(tmp_path).excess is None
    (tmp_path / "d").touch()
    assert "more than 3 files" in str(measure(tmp_path).excess)


def test_depth_is_bounded(tmp_path: Path) -> None:
    """A chain of folders is followed so far and no further."""
    place = tmp_path
    for _ in range(MAX_DEPTH):
        place = place / "d"
        place.mkdir()
    assert measure(tmp_path).excess is None
    (place / "d").mkdir()
    assert "nested" in str(measure(tmp_path).excess)


def test_paths_beyond_the_system_s_limit(tmp_path: Path) -> None:
    """Twenty folders with long names cannot even be listed by path, but be removed."""
    root = tmp_path / "root"
    root.mkdir()
    handle = os.open(root, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 255, dir_fd=handle)
        inner = os.open("x" * 255, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)
    assert "cannot be read" in str(measure(root).excess)
    remove(root)
    assert list(tmp_path.iterdir()) == []


def test_what_vanished_counts_nothing(tmp_path: Path) -> None:
    """A guest may remove what is being measured."""
    assert measure(tmp_path / "gone").size == 0


def test_a_folder_is_removed_with_all_it_holds(tmp_path: Path) -> None:
    """Links are removed, not followed; a missing folder, a file and a link are fine."""
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep/precious").touch()
    tree = tmp_path / "tree"
    (tree / "a/b/c").mkdir(parents=True)
    (tree / "a/b/file").touch()
    (tree / "a/link").symlink_to(tmp_path / "keep")
    remove(tree)
    remove(tree)
    (tmp_path / "file").touch()
    remove(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "keep")
    remove(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]
    assert (tmp_path / "keep/precious").exists()


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """Neither a link nor a folder nor a pipe is an output."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    handle = read_regular(tmp_path, "file")
    assert handle is not None
    assert os.read(handle, 9) == b"x"
    os.close(handle)
    for name in ("link", "folder", "pipe", "missing"):
        assert read_regular(tmp_path, name) is None


def test_a_tasks_folder_goes_with_its_last_attempt(tmp_path: Path) -> None:
    """Unless something else lies there."""
    tasks = TaskFolders(tmp_path)
    for number in (1, 2, 10):
        tasks.attempt("t:1", number).out.mkdir(parents=True)
    (tmp_path / "t:1/note").touch()
    assert [number for number, _ in tasks.attempts("t:1")] == [1, 10, 2]
    assert len(list(tasks.all())) == 3
    for number in (1, 2):
        tasks.remove(tasks.attempt("t:1", number))
    assert [number for number, _ in tasks.attempts("t:1")] == [10]
    (tmp_path / "t:1/note").unlink()
    tasks.remove(tasks.attempt("t:1", 10))
    assert not (tmp_path / "t:1").exists()
    assert list(TaskFolders(tmp_path / "none").all()) == []
