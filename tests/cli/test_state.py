"""The state folder: layout, lock, what the last instance left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from roost.cli.errors import UsageProblem
from roost.cli.local import LocalRoost, find_workloads
from roost.cli.logs import LogSink, shorten
from roost.cli.state import Instance, StateDir

HOLD = """
import sys
from roost.cli.state import StateDir
with StateDir.at(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_supervisor_is_told_who_runs(state: StateDir) -> None:
    """With the pid and the ways out; afterwards the folder is free again."""
    argv = [sys.executable, "-c", HOLD, str(state.root)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert state.running_pid() == holder.pid
        said = rf"already runs on .* \(pid {holder.pid}\)"
        with pytest.raises(UsageProblem, match=said), state.locked():
            pass
        holder.communicate()
    assert state.running_pid() is None
    with state.locked():
        assert (state.root / "lock").read_text() == f"{os.getpid()}\n"


def test_a_folder_that_cannot_be_written_is_a_usage_problem(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    folder = StateDir.at(tmp_path / "file" / "state")
    with pytest.raises(UsageProblem, match="choose another with --state"), folder.locked():
        pass


def test_an_instance_is_read_as_it_was_written(state: StateDir) -> None:
    """What another version wrote, or nobody, is nothing."""
    assert state.read_instance() is None
    state.root.mkdir()
    instance = Instance(7, "mqtt://127.0.0.1:1", "embedded", 1, 3)
    state.write_instance(instance)
    assert state.read_instance() == instance
    state.instance_file.write_text('{"pid": 1}')
    assert state.read_instance() is None
    state.instance_file.write_text("{")
    assert state.read_instance() is None


def test_proplets_are_listed_by_number(state: StateDir) -> None:
    """Ten comes after nine."""
    for name in ("proplet-10", "proplet-9", "camera", "proplet-1"):
        state.proplet(name).mkdir(parents=True)
    assert state.proplet_names() == ["camera", "proplet-1", "proplet-9", "proplet-10"]


def test_what_was_not_said_comes_from_the_last_instance(state: StateDir, tmp_path: Path) -> None:
    """So `roost up` after a demo finds the same port and proplets."""
    fresh = LocalRoost.plan(state, workloads=str(tmp_path))
    assert (len(fresh.proplets), fresh.port) == (3, 1883)
    state.root.mkdir()
    state.write_instance(Instance(7, "mqtt://127.0.0.1:4444", "embedded", 4444, 5))
    resumed = LocalRoost.plan(state, workloads=str(tmp_path))
    assert (resumed.proplets[-1], resumed.port) == ("proplet-5", 4444)
    told = LocalRoost.plan(state, proplets=1, port=5555, workloads=str(tmp_path))
    assert (told.proplets, told.port) == (("proplet-1",), 5555)


def test_the_folder_of_workloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One's own in the working directory comes before the one of the checkout."""
    monkeypatch.chdir(tmp_path)
    assert find_workloads(None).name == "workloads"
    assert find_workloads(None).parent != tmp_path
    (tmp_path / "workloads").mkdir()
    assert find_workloads(None) == tmp_path / "workloads"
    with pytest.raises(UsageProblem, match="--workloads"):
        find_workloads("nowhere")


def test_logs_are_moved_aside_when_they_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder holds at most twice the limit."""
    monkeypatch.setattr("roost.cli.logs._ROTATE_AT", 50)
    sink = LogSink(tmp_path, None, ["s"])
    for n in range(20):
        sink.write("s", f"line {n:04d}")
    sink.close()
    kept = (tmp_path / "s.log.1").read_text() + (tmp_path / "s.log").read_text()
    assert len(kept) < 150
    assert kept.endswith("line 0019\n")


def test_lines_are_shortened_for_the_console_only() -> None:
    """Time of day, and the service's name is in the prefix already."""
    line = "2026-11-22T08:46:22.294615Z [info     ] service.started broker=mqtt://h service=manager"
    short = shorten(line)
    assert short[8:] == " [info     ] service.started broker=mqtt://h"
    assert short[2] == short[5] == ":"
    assert shorten("Traceback: 2026") == "Traceback: 2026"
