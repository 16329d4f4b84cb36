"""What the README prints, run as printed, from a fresh copy of the repository.

Blocks marked ``<!-- run: name -->`` run in order; those marked ``background`` keep running.
Only the port is replaced, because 1883 may be taken on the machine that tests.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from roost.cli.architectures import fresh_mlp
from roost.protocol.round.model import encode_safetensors

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BLOCK = re.compile(
    r"<!-- run: (?P<name>[^,>]+?)(?P<kind>, background)? -->\n```sh\n(?P<code>.*?)```", re.DOTALL
)
DEADLINE_S = 600


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass
class Reader:
    """Someone who types what the README says."""

    home: Path
    port: int
    background: list[subprocess.Popen[bytes]]

    def code(self, name: str) -> str:
        """Return a block as printed, with this test's port."""
        blocks = {found["name"]: found["code"] for found in BLOCK.finditer(README.read_text())}
        text = (
            blocks[name].replace("mqtt://host", "mqtt://127.0.0.1").replace("1883", str(self.port))
        )
        return re.sub(
            r"^make (demo|up)$", rf'make \1 ARGS="--port {self.port}"', text, flags=re.MULTILINE
        )

    @property
    def environment(self) -> dict[str, str]:
        """Return an ordinary user's environment, with this copy's programs first."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ROOST_", "VIRTUAL_ENV"))}
        places = [p for p in kept["PATH"].split(":") if not (Path(p) / "roost").exists()]
        return {**kept, "PATH": ":".join([str(self.home / ".venv/bin"), *places])}

    def run(self, name: str) -> str:
        """Run a block and return what it printed; it must end with exit code 0."""
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.code(name)],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        printed = run.stdout.decode(errors="replace")
        assert run.returncode == 0, f"{name}:\n{printed}\n{run.stderr.decode(errors='replace')}"
        return printed

    def start(self, name: str) -> Path:
        """Start a background block and return the file that gets what it prints."""
        log = self.home / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-c", self.code(name)],
                cwd=self.home,
                env=self.environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.background.append(process)
        return log

    def await_text(self, log: Path, text: str) -> str:
        """Wait until a background block printed this."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            printed = log.read_text(errors="replace")
            if text in printed:
                return printed
            for process in self.background:
                try:
                    process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
                raise AssertionError(f"it ended: {printed}")
        raise AssertionError(f"no '{text}' in: {log.read_text(errors='replace')}")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Return a reader with a fresh copy, and end what they started."""
    if shutil.which("mosquitto_pub") is None:
        pytest.skip(
            "SKIPPED LOUDLY: mosquitto_pub is missing (Debian: apt install mosquitto-clients)"
        )
    home = tmp_path_factory.mktemp("readme") / "roost"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, home / name)
    reader = Reader(home, free_port(), [])
    yield reader
    for process in reversed(reader.background):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)


@pytest.mark.slow
@pytest.mark.system
def test_the_readme_from_top_to_bottom(reader: Reader) -> None:
    """Every marked block does what the page says, in the page's order."""
    demo = reader.run("demo")
    accuracies = [float(number) for number in re.findall(r"accuracy\s+([\d.]+)%", demo)]
    assert len(accuracies) == 15
    assert accuracies[-1] >= 95
    reader.await_text(reader.start("up"), "mosquitto_pub")
    story = reader.start("watch")
    reader.await_text(story, "fl/rounds/")
    reader.run("round")
    told = reader.await_text(story, "fl/rounds/r-0001/complete")
    assert "fl/rounds/r-0001/state" in told
    assert '"outcome":"completed"' in told
    shown = reader.run("commands")
    assert "completed" in shown
    assert "proplet-5" in shown
    assert "completed" in reader.run("own data")
    assert "'layers.0.weight': (32, 64)" in reader.run("own model")
    assert '"w":[0.12,-0.05,1.01]' in reader.run("own guest").replace(" ", "")
    assert '"words":6' in reader.run("word count")
    reader.run("board setup")
    reader.await_text(reader.start("board"), "broker.connected")
    assert "board-1" in reader.run("proplets")


@pytest.mark.slow
@pytest.mark.system
def test_the_demo_without_mosquitto(reader: Reader) -> None:
    """The embedded broker serves the demo, and its limits are said in one line."""
    run = subprocess.run(
        ["make", "demo", f"ARGS=--broker embedded --state .embedded --port {free_port()}"],
        cwd=reader.home,
        env=reader.environment,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    printed = (run.stdout + run.stderr).decode(errors="replace")
    assert run.returncode == 0, printed
    assert "embedded broker" in printed
    assert len(re.findall(r"accuracy\s+[\d.]+%", printed)) == 15


def test_pytorch_loads_a_model_as_the_readme_says(tmp_path: Path) -> None:
    """The page's snippet, on a model of its shape, gives what the tensors say."""
    if find_spec("torch") is None:
        pytest.skip("SKIPPED LOUDLY: PyTorch is not installed (pip install torch)")
    tensors = fresh_mlp((64, 32, 10), seed=1)
    (tmp_path / "model.safetensors").write_bytes(encode_safetensors(tensors, {}))
    (snippet,) = re.findall(r"```python\n(import torch\n.*?)```", README.read_text(), re.DOTALL)
    shown = "\nprint([p.detach().numpy().tolist() for p in net.state_dict().values()])"
    run = subprocess.run(
        [sys.executable, "-c", snippet + shown], cwd=tmp_path, capture_output=True, check=True
    )
    assert json.loads(run.stdout) == [array.tolist() for array in tensors.values()]


def test_the_readme_names_the_guest_that_is_shipped() -> None:
    """The image in the README's order is the one that `roost up` offers."""
    digest = (ROOT / "client-wasm/src/roost/client_wasm/fl-client.wasm.sha256").read_text()[:64]
    assert f"blob:operator/{digest}" in README.read_text()


def test_every_link_of_the_readme_leads_somewhere() -> None:
    """No page that the README names is missing."""
    prose = re.sub(r"```.*?```", "", README.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!http)([^)#]+)", prose):
        assert (ROOT / target).exists(), target
