"""The example guests do their work, and say what is wrong when they cannot."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import wasmtime

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Run:
    """What came of one run."""

    exit_code: int
    outputs: dict[str, bytes]
    stderr: str


def run(name: str, folder: Path, files: Mapping[str, bytes], **env: str) -> Run:
    """Run a guest as a proplet does: /in, /out and /data/sensors, and nothing else."""
    for place in ("in", "out", "sensors"):
        (folder / place).mkdir()
    for path, content in files.items():
        (folder / path).write_bytes(content)
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    config = wasmtime.WasiConfig()
    config.env = list(env.items())
    config.stdout_file = str(folder / "stdout")
    config.stderr_file = str(folder / "stderr")
    for place, inside in (("in", "/in"), ("out", "/out"), ("sensors", "/data/sensors")):
        config.preopen_dir(str(folder / place), inside)
    store.set_wasi(config)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    module = wasmtime.Module.from_file(engine, str(EXAMPLES / name / f"{name}.wasm"))
    start = linker.instantiate(store, module).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    code = 0
    try:
        start(store)
    except wasmtime.ExitTrap as ended:
        code = ended.code
    outputs = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    return Run(code, outputs, (folder / "stderr").read_text())


def counts(tmp_path: Path, text: str, **env: str) -> dict[str, object]:
    """Count the words of a text."""
    ended = run("word-count", tmp_path, {"in/text": text.encode()}, **env)
    assert (ended.exit_code, ended.stderr) == (0, "")
    found: dict[str, object] = json.loads(ended.outputs["counts"])
    return found


def test_words(tmp_path: Path) -> None:
    """Most frequent first, equals by alphabet, ASCII in lower case, other letters as they are."""
    found = counts(tmp_path, "To be, or not\nto BE: that's 'É' and été!")
    assert (found["words"], found["distinct"]) == (10, 8)
    assert isinstance(found["counts"], dict)
    assert list(found["counts"].items()) == [
        ("be", 2), ("to", 2), ("and", 1), ("not", 1), ("or", 1), ("that's", 1), ("É", 1),
        ("été", 1),
    ]  # fmt: skip


def test_only_the_most_frequent_words(tmp_path: Path) -> None:
    """`TOP` limits what is listed, not what is counted."""
    assert counts(tmp_path, "a b a", TOP="1") == {"words": 3, "distinct": 2, "counts": {"a": 2}}


def test_no_words(tmp_path: Path) -> None:
    """An empty text is a text."""
    assert counts(tmp_path, " ...\n") == {"words": 0, "distinct": 0, "counts": {}}


def test_many_words(tmp_path: Path) -> None:
    """Its table grows."""
    text = " ".join(f"w{i % 30_000}" for i in range(60_000))
    found = counts(tmp_path, text, TOP="2")
    assert found == {"words": 60_000, "distinct": 30_000, "counts": {"w0": 2, "w1": 2}}


@pytest.mark.parametrize(
    ("files", "env", "why"),
    [
        ({}, {}, "there is no /in/text"),
        ({"in/text": b"a \xff"}, {}, "the text is not UTF-8"),
        ({"in/text": b"\xed\xa0\x80"}, {}, "the text is not UTF-8"),
        ({"in/text": b"a"}, {"TOP": "many"}, "TOP is no number"),
    ],
)
def test_words_that_cannot_be_counted(
    tmp_path: Path, files: dict[str, bytes], env: dict[str, str], why: str
) -> None:
    """It says why and ends with 1, writing nothing."""
    ended = run("word-count", tmp_path, files, **env)
    assert (ended.exit_code, ended.outputs) == (1, {})
    assert why in ended.stderr


@pytest.mark.parametrize("place", ["sensors/readings.csv", "in/readings"])
def test_readings(tmp_path: Path, place: str) -> None:
    """From the data mount or from a message; quotes, empty cells and lines, CRLF."""
    table = b'time,"t ""C""",x\r\n1,20.5,a\r\n"2,5",,b\r\n\r\n3,-1e1,c\r\n4'
    env = {"COLUMN": 't "C"'}
    if place.startswith("sensors"):
        env["CSV"] = "/data/sensors/readings.csv"
    ended = run("sensor-summary", tmp_path, {place: table}, **env)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert json.loads(ended.outputs["summary"]) == {
        "column": 't "C"', "values": 2, "missing": 2, "min": -10, "mean": 5.25, "max": 20.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("table", "env", "why"),
    [
        (b"t\n1\n", {}, "set COLUMN"),
        (b"t\n1\nx\n", {"COLUMN": "t"}, "line 3: not a finite number: x"),
        (b"t\n1\n1e999\n", {"COLUMN": "t"}, "line 3: not a finite number"),
        (b"t\n1\nnan\n", {"COLUMN": "t"}, "line 3: not a finite number"),
        (b"t\n1\n", {"COLUMN": "u"}, "line 1: the header has no column u"),
        (b"", {"COLUMN": "t"}, "the header has no column t"),
        (b"t\n\n", {"COLUMN": "t"}, "there is no value in column t"),
        (b't\n"1', {"COLUMN": "t"}, "a quoted cell has no end"),
        (b"t\n" + b"1" * 5000, {"COLUMN": "t"}, "a cell is longer than 4095 bytes"),
        (None, {"COLUMN": "t"}, "give an input 'readings', or name a file in CSV"),
        (None, {"COLUMN": "t", "CSV": "/data/sensors/x"}, "there is no file /data/sensors/x"),
    ],
)
def test_readings_that_cannot_be_summarised(
    tmp_path: Path, table: bytes | None, env: dict[str, str], why: str
) -> None:
    """It says why, with the line, and ends with 1, writing nothing."""
    files = {} if table is None else {"in/readings": table}
    ended = run("sensor-summary", tmp_path, files, **env)
    assert (ended.exit_code, ended.outputs) == (1, {})
    assert why in ended.stderr


def test_digests() -> None:
    """The checked-in files are those of SHA256SUMS."""
    for line in (EXAMPLES / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((EXAMPLES / name).read_bytes()).hexdigest() == digest


@pytest.mark.slow
def test_they_are_what_their_source_builds() -> None:
    """Byte for byte, with the pinned compiler."""
    pytest.importorskip("ziglang", reason="SKIPPED LOUDLY: the compiler is in the group `guest`")
    ended = subprocess.run(
        [sys.executable, EXAMPLES / "build.py", "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
