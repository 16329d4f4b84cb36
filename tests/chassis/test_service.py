"""Settings, the state folder's lock, health and metrics, logs."""

import errno
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from pydantic import Field
from roost.chassis.errors import StateLocked
from roost.chassis.health import HealthServer
from roost.chassis.metrics import Metrics
from roost.chassis.service import load_settings, lock_state
from roost.chassis.settings import BrokerSettings, ServiceSettings
from roost.chassis.trouble import passes


def test_broker_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host, port and TLS follow from one URL."""
    monkeypatch.setenv("ROOST_BROKER", "mqtts://broker.example")
    settings = BrokerSettings()
    assert (settings.host, settings.port, settings.tls) == ("broker.example", 8883, True)
    settings = BrokerSettings(broker="mqtt://[::1]:18830", topic_prefix="site-1")
    assert (settings.host, settings.port, settings.tls) == ("::1", 18830, False)
    assert settings.topic_prefix == "site-1/"


@pytest.mark.parametrize(
    ("name", "value", "cure"),
    [
        ("ROOST_BROKER", "localhost", "write it as mqtt://host:port"),
        ("ROOST_TOPIC_PREFIX", "a/+", "a topic prefix has no"),
        ("ROOST_HTTP_PORT", "70000", "less than or equal to 65535"),
    ],
)
def test_bad_settings_name_the_variable(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    cure: str,
) -> None:
    """A wrong setting ends the process with its name, its value and the cure."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="2"):
        load_settings(ServiceSettings)
    printed = capsys.readouterr().err
    assert name in printed
    assert value in printed
    assert cure in printed


class _Named(ServiceSettings):
    some_id: str = Field(description="this service's id")


def test_a_setting_that_is_missing_is_named_and_described(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing else is printed: the other settings may be secrets."""
    monkeypatch.setenv("ROOST_USERNAME", "somebody")
    with pytest.raises(SystemExit, match="2"):
        load_settings(_Named)
    assert capsys.readouterr().err == "ROOST_SOME_ID is not set: this service's id\n"


def test_a_state_folder_has_one_user(tmp_path: Path) -> None:
    """A second process is refused with the first one's pid; after its end it may (WIRE-042)."""
    handle = lock_state(tmp_path / "state")
    code = (
        "from pathlib import Path; from roost.chassis.service import lock_state; "
        f"lock_state(Path({str(tmp_path / 'state')!r}))"
    )
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert f"is used by process {os.getpid()}".encode() in second.stderr
    with pytest.raises(StateLocked):
        lock_state(tmp_path / "state")
    os.close(handle)
    os.close(lock_state(tmp_path / "state"))


def get(port: int, path: str) -> tuple[int, str]:
    """Fetch a page of the health server."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_and_metrics() -> None:
    """/healthz tells what is wrong, /metrics counts."""
    metrics = Metrics()
    metrics.messages.labels("accepted").inc()
    problems = ["not connected to the broker"]
    server = HealthServer(
        "127.0.0.1", 0, metrics.registry, lambda: problems[0] if problems else None
    )
    server.start()
    assert get(server.port, "/healthz") == (503, "not connected to the broker\n")
    problems.clear()
    assert get(server.port, "/healthz") == (200, "ok\n")
    status, page = get(server.port, "/metrics")
    assert status == 200
    assert 'roost_messages_total{outcome="accepted"} 1.0' in page
    assert get(server.port, "/other")[0] == 404
    server.stop()


def test_logs_are_json_lines_on_request() -> None:
    """One line an event, with the service and the bound fields."""
    code = (
        "from roost.chassis.logs import configure, get_logger; "
        "configure('manager', 'info', 'json'); "
        "get_logger(task_id='t-1').info('task.finished', state='succeeded'); "
        "get_logger().debug('not.shown')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    (line,) = run.stderr.splitlines()
    event = json.loads(line)
    assert (event["event"], event["task_id"]) == ("task.finished", "t-1")
    assert (event["level"], event["service"]) == ("info", "manager")


@pytest.mark.parametrize(
    ("error", "disk"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EROFS, "Read-only file system"), True),
        (FileNotFoundError(errno.ENOENT, "no such file"), False),
    ],
)
def test_trouble_with_the_disk_is_told_apart(error: OSError, disk: bool) -> None:
    """What is a bug keeps its traceback."""
    assert passes(error) is disk


FULL_DISK = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace
from roost.chassis.service import Wiring, serve
from roost.chassis.settings import ServiceSettings

core = SimpleNamespace(kinds={}, volatile=frozenset(), effects=())
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
settings = ServiceSettings(state_dir=Path(sys.argv[1]))
sys.exit(serve("test", settings, lambda _: Wiring(core, lambda *_: None, [])))
"""


def test_a_full_disk_ends_a_service_in_words(tmp_path: Path) -> None:
    """One line names the folder, what happened and what to do; no traceback (WIRE-034)."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=60)
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 1, said
    assert f"cannot write to {tmp_path}" in said
    assert "make room" in said
    assert "Traceback" not in said
