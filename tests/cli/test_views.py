"""Rows of tables."""

from __future__ import annotations

from roost.cli.views import Row, newest


def row(task: str, state: str = "succeeded") -> Row:
    """A row as `task_rows` makes it."""
    return {"task": task, "state": state}


def test_running_tasks_and_ones_own_are_the_newest() -> None:
    """Then the time in an id, then its numbers as numbers."""
    names = ["t-1122-101500-aaaa", "e:0002:p-2", "t-1122-101400-ffff", "e:0010:p-10", "e:0010:p-9"]
    rows = [row("e:0001:p-1", "running"), *map(row, names)]
    assert [each["task"] for each in newest(rows, 5)] == [
        "e:0010:p-9",
        "e:0010:p-10",
        "t-1122-101400-ffff",
        "t-1122-101500-aaaa",
        "e:0001:p-1",
    ]
