"""The supervisor, with real processes: order, restarts, ends, reports."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from roost.cli.children import Child, Program, restart_delay
from roost.cli.errors import NoBroker
from roost.cli.logs import LogSink
from roost.cli.ports import free_port
from roost.cli.supervisor import Supervisor

LISTENER = (
    "import socket,sys,signal;s=socket.create_server(('127.0.0.1',int(sys.argv[1])));"
    "print('listening',flush=True);signal.pause()"
)


def python(name: str, code: str, *args: str, reports: bool = False) -> Program:
    """A service that runs `code`."""
    return Program(name, (sys.executable, "-c", code, *args), reports=reports)


class Story:
    """Collects what a supervisor tells, and stops it when `until` is satisfied."""

    def __init__(self, until: Callable[[Story], bool]) -> None:
        self.events: list[tuple[str, str, dict[str, object]]] = []
        self.reports: list[tuple[str, dict[str, object]]] = []
        self.until = until
        self.supervisor: Supervisor | None = None
        self.console = io.StringIO()

    def on_event(self, event: str, name: str, fields: dict[str, object]) -> None:
        """As the supervisor's callback."""
        self.events.append((event, name, fields))
        self._check()

    def on_report(self, name: str, fields: dict[str, object]) -> None:
        """As the supervisor's callback."""
        self.reports.append((name, fields))
        self._check()

    def names(self, event: str) -> list[str]:
        """Which services had `event`, in order."""
        return [name for found, name, _ in self.events if found == event]

    def run(self, tmp_path: Path, broker: Program | None, *programs: Program, port: int = 1) -> int:
        """Supervise until `until` holds."""
        names = [p.name for p in ([broker] if broker else []) + list(programs)]
        sink = LogSink(tmp_path / "logs", self.console, names)
        self.supervisor = Supervisor(
            broker,
            programs,
            ("127.0.0.1", port),
            sink,
            on_event=self.on_event,
            on_report=self.on_report,
        )
        return self.supervisor.run()

    def _check(self) -> None:
        if self.supervisor is not None and self.until(self):
            self.supervisor.stop()


def test_the_broker_listens_before_any_service_starts(tmp_path: Path) -> None:
    """A service that connects at once finds the broker."""
    port = free_port()
    probe = f"import socket;socket.create_connection(('127.0.0.1',{port}));print('connected')"
    story = Story(lambda s: "probe" in s.names("ended"))
    story.run(
        tmp_path,
        python("broker", LISTENER, str(port)),
        python("probe", probe),
        port=port,
    )
    assert story.names("started")[:2] == ["broker", "probe"]
    assert "probe  | connected" in story.console.getvalue()


def test_a_broker_that_ends_at_once_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    """The user reads the broker's own words, and no service was started."""
    story = Story(lambda _: False)
    broker = python("broker", "print('bad option in line 3');raise SystemExit(1)")
    with pytest.raises(NoBroker, match="bad option in line 3"):
        story.run(tmp_path, broker, python("service", "pass"), port=free_port())
    assert "service" not in story.names("started")


def test_a_service_that_ends_is_started_again_with_growing_delays(tmp_path: Path) -> None:
    """Each quick end doubles the wait; the exit code is told."""
    story = Story(lambda s: len(s.names("ended")) == 2)
    story.run(tmp_path, None, python("flaky", "raise SystemExit(7)"))
    ended = [fields for event, _, fields in story.events if event == "ended"]
    assert ended == [{"code": 7, "restart_in_s": 0.5}, {"code": 7, "restart_in_s": 1.0}]
    assert story.names("started") == ["flaky", "flaky"]


def test_the_delay_is_capped() -> None:
    """0.5, 1, 2 … 30 seconds."""
    assert [restart_delay(n) for n in (1, 2, 3, 6, 7, 60)] == [0.5, 1.0, 2.0, 16.0, 30.0, 30.0]


def test_what_ran_well_comes_back_at_once() -> None:
    """Then the delays begin anew."""
    child = Child(python("steady", "pass"))
    delays = []
    for lived_s in (1, 1, 60, 1, 60):
        child._started = time.monotonic() - lived_s
        delays.append(child.bury())
    assert delays == [0.5, 1.0, 0.1, 0.5, 0.1]


def test_lines_reach_the_console_with_a_prefix_and_a_file_without(tmp_path: Path) -> None:
    """Both streams, long lines and a last line without an end."""
    code = (
        "import sys;print('one');print('two',file=sys.stderr);sys.stderr.flush();"
        "print('x'*200000);sys.stdout.write('last')"
    )
    story = Story(lambda s: bool(s.names("ended")))
    story.run(tmp_path, None, python("talker", code))
    written = (tmp_path / "logs" / "talker.log").read_text()
    assert written.splitlines()[:2] == ["one", "two"] or written.splitlines()[0] == "two"
    assert written.count("x") == 200_000
    assert written.endswith("last\n")
    assert "talker | one\n" in story.console.getvalue()


def test_a_report_arrives_as_an_object(tmp_path: Path) -> None:
    """The report pipe is separate from the output."""
    code = (
        "import os,signal;f=os.fdopen(int(os.environ['ROOST_REPORT_FD']),'w');"
        "f.write('{\"ready\":true}\\n');f.flush();signal.pause()"
    )
    story = Story(lambda s: bool(s.reports))
    story.run(tmp_path, None, python("desk", code, reports=True))
    assert story.reports == [("desk", {"ready": True})]
    assert story.console.getvalue() == ""


def test_services_end_before_the_broker(tmp_path: Path) -> None:
    """Their last messages still find it."""
    port = free_port()
    farewell = (
        "import signal,socket,sys\n"
        "def bye(*_):\n"
        f"    socket.create_connection(('127.0.0.1',{port})); print('said bye'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM,bye); print('up'); \n"
        "import os; os.write(int(os.environ['ROOST_REPORT_FD']),b'{}\\n'); signal.pause()\n"
    )
    story = Story(lambda s: bool(s.reports))
    story.run(
        tmp_path,
        python("broker", LISTENER, str(port)),
        python("service", farewell, reports=True),
        port=port,
    )
    assert "service | said bye" in story.console.getvalue()


def test_a_service_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing outlives the supervisor."""
    monkeypatch.setattr("roost.cli.supervisor._GRACE_S", 0.3)
    code = (
        "import os,signal;signal.signal(signal.SIGTERM,signal.SIG_IGN);"
        "os.write(int(os.environ['ROOST_REPORT_FD']),b'{}\\n')\nwhile True: signal.pause()"
    )
    story = Story(lambda s: bool(s.reports))
    story.run(tmp_path, None, python("stubborn", code, reports=True))
    pid = next(fields["pid"] for event, _, fields in story.events if event == "started")
    assert not Path(f"/proc/{pid}").exists()


SUPERVISE = """
import sys
from pathlib import Path
from roost.cli.children import Program
from roost.cli.logs import LogSink
from roost.cli.supervisor import Supervisor
code = "import os,signal;print(os.getpid(),flush=True);signal.pause()"
one = Program("one", (sys.executable, "-c", code))
sink = LogSink(Path(sys.argv[1]), sys.stdout, ["one"])
sys.exit(Supervisor(None, [one], ("", 0), sink).run())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_the_supervisor(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, `kill` and `kill -9` all end the children."""
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert supervisor.stdout is not None
    with supervisor.stdout:
        child = int(supervisor.stdout.readline().split("|")[1])
        supervisor.send_signal(number)
        assert supervisor.wait(10) == (-number if number == signal.SIGKILL else number)
    assert _gone(child)


def _gone(pid: int) -> bool:
    """Whether the process ends within a few seconds (no longer there, or a zombie)."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return True
        if state == "Z":
            return True
        os.sched_yield()
    return False
