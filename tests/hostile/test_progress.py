"""What a guest prints: a line that could not be reported is no progress."""

import pytest
from roost.proplet.guest.output import MAX_PROGRESS_BYTES, MAX_PROGRESS_DEPTH, read_progress
from roost.protocol.task.messages import Report, ReportStatus


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":' + b"[" * MAX_PROGRESS_DEPTH + b"]" * MAX_PROGRESS_DEPTH + b"}",
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"a":1e999}',
        b'{"a":NaN}',
        b'{"a":%s}' % (b"1" * 5000),
        b'{"a":"%s"}' % (b"x" * MAX_PROGRESS_BYTES),
        b'\xff{"a":1}',
        b'{"a":"\xff"}',
    ],
)
def test_what_could_not_be_reported_is_no_progress(line: bytes) -> None:
    """Half characters, deep nesting, numbers that are none (TASK-062)."""
    assert read_progress(line) is None


def test_the_deepest_progress_can_be_reported() -> None:
    """And read by the manager (TASK-062)."""
    depth = MAX_PROGRESS_DEPTH - 1
    found = read_progress(b' {"a":' + b"[" * depth + b"]" * depth + b"} ")
    assert found is not None
    report = Report(attempt=1, boot_id="b", status=ReportStatus.PROGRESS, progress=found)
    assert Report.decode(report.encode()) == report
