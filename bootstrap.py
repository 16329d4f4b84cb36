#!/usr/bin/env python3
"""Everything `make` does, for machines without make: `python3 bootstrap.py demo`.

Needs Python 3.11 or newer and nothing else. Sets up `.venv` in this folder (with uv, from the
locked versions), then runs the target. Nothing is written outside this folder but the caches of
pip and uv.

    demo    five proplets learn handwritten digits, over MQTT; keeps its state in .roost
    up      start Roost and leave it running
    join    on a board: become a proplet, with the line that `roost proplet invite` printed
    test    all tests        check   format, lint, types, contracts, generated files, fast tests
    bench   measurements     guest   rebuild the guest program (downloads a C compiler)
    soak    100 random kills across 20 rounds; nobody may be able to tell
    clean   remove everything that was ever written here

What follows the target is passed on: `python3 bootstrap.py up --proplets 3`.
"""
# Any Python 3 must be able to read this file, so that an old one gets a message, not a traceback.
# ruff: noqa: S603 - it runs the project's own tools
# ruff: noqa: T201 - it talks to a person

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
OLDEST_PYTHON = (3, 11)
OLDEST_UV = (0, 9, 8)  # the first that knows exclude-dependencies

#: What `uv sync` installs: what a user runs, what a developer runs, the C compiler, the fuzzer.
USER = ("--package", "roost-cli", "--no-default-groups")
DEVELOPER = ("--all-packages", "--group", "dev")
COMPILER = ("--group", "guest")
FUZZER = ("--group", "fuzz")

#: Processors for which Wasmtime has no wheel; pip would only say that it found none.
NO_WHEELS = ("armv6l", "armv7l", "armv8l", "i386", "i686")

#: What `clean` removes, at the root and anywhere.
WRITTEN_HERE = {".venv", ".roost", "dist", "build"}
WRITTEN_ANYWHERE = {
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    ".import_linter_cache",
}


def fail(message: str) -> None:
    """End with a message for a person."""
    sys.exit("error: " + message)


def run(*argv: object, folder: Path = ROOT) -> None:
    """Run a command; end with its exit code if it fails."""
    code = subprocess.call([str(word) for word in argv], cwd=str(folder))
    if code:
        sys.exit(code if code > 0 else 128 - code)


def make_venv() -> None:
    """Make `.venv` with this Python, or say what is missing."""
    print("setting up .venv", file=sys.stderr, flush=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if made.returncode == 0:
        return
    shutil.rmtree(str(VENV), ignore_errors=True)
    said = made.stdout.decode(errors="replace")
    if "ensurepip" in said or "No module named venv" in said:
        fail(
            "this Python cannot make virtual environments. On Debian and Ubuntu: `apt-get install "
            "python{}.{}-venv`; elsewhere the package that has Python's venv module".format(
                *sys.version_info[:2]
            )
        )
    fail("python3 -m venv failed:\n" + said)


def is_recent_uv(uv: Path) -> bool:
    """Whether this is a uv that understands the workspace."""
    try:
        said = subprocess.check_output([str(uv), "--version"]).decode()
    except (OSError, subprocess.CalledProcessError):
        return False
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    return found is not None and tuple(map(int, found.groups())) >= OLDEST_UV


def find_uv() -> Path:
    """The uv of .venv or of this machine; otherwise pip puts one into .venv."""
    elsewhere = shutil.which("uv")
    for candidate in [BIN / "uv"] + ([Path(elsewhere)] if elsewhere else []):
        if is_recent_uv(candidate):
            return candidate
    if sys.version_info < OLDEST_PYTHON:
        fail(
            "Roost needs Python {}.{} or newer and this is {}.{}: run bootstrap.py with a newer "
            "one (make PYTHON=python3.11 …), or install uv, which brings its own".format(
                *OLDEST_PYTHON, *sys.version_info[:2]
            )
        )
    if not (BIN / "pip").exists():
        shutil.rmtree(str(VENV), ignore_errors=True)
        make_venv()
    print("installing uv into .venv", file=sys.stderr, flush=True)
    wanted = "uv>=" + ".".join(map(str, OLDEST_UV))
    pip = (BIN / "python", "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "install", wanted)
    return BIN / "uv"


def sync(*what: str) -> None:
    """Install the locked versions. Inexact: uv itself and a developer's tools may stay."""
    uv = find_uv()
    python = ("--python", BIN / "python") if (BIN / "python").exists() else ()
    quiet = () if sys.stderr.isatty() else ("--quiet",)
    os.environ["UV_PROJECT_ENVIRONMENT"] = str(VENV)
    if not (BIN / "roost").exists():
        print("installing Roost and what it needs into .venv", file=sys.stderr, flush=True)
    run(uv, "sync", "--frozen", "--inexact", *quiet, *python, *what)


def developer_tools() -> None:
    """Install what tests, benchmarks and the guest's build need."""
    sync(*DEVELOPER, *COMPILER, *FUZZER)
    os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(VENV / "zig-cache"))


def become_roost(*argv: str) -> None:
    """Turn into the `roost` command, so that Ctrl-C and exit codes are its own."""
    os.chdir(str(ROOT))
    program = str(BIN / "roost")
    os.execv(program, [program, *argv])  # noqa: S606 - no shell is wanted


def members() -> "list[Path]":
    """The folders of all members of the workspace."""
    sources = [*ROOT.glob("*/src"), *ROOT.glob("specs/*/src")]
    return sorted(s.parent for s in sources if (s.parent / "pyproject.toml").exists())


def demo(args: "list[str]") -> None:
    """Run the demo."""
    sync(*USER)
    become_roost("demo", *args)


def up(args: "list[str]") -> None:
    """Run everything until Ctrl-C."""
    sync(*USER)
    become_roost("up", *args)


def join(args: "list[str]") -> None:
    """Join with an invitation."""
    if platform.machine() in NO_WHEELS:
        fail("no Wasmtime for " + platform.machine() + ": Roost needs aarch64 or x86-64, 64 bits")
    sync(*USER)
    become_roost("proplet", "join", *args)


def test(args: "list[str]") -> None:
    """Run all tests."""
    developer_tools()
    run(BIN / "pytest", *args)


def check(args: "list[str]") -> None:
    """Run what must be clean before a commit; the fast tests compare the generated files."""
    sync(*DEVELOPER)
    run(BIN / "ruff", "format", "--check", ".")
    run(BIN / "ruff", "check", ".")
    run(BIN / "mypy", *[m / "src" for m in members()])
    run(BIN / "lint-imports")
    for member in members():
        run(BIN / "deptry", "src", folder=member)
    run(BIN / "pytest", "-m", "not slow and not system", "--cov", "--cov-report=term", *args)


def bench(args: "list[str]") -> None:
    """Measure, and write benchmarks/results.md."""
    developer_tools()
    run(BIN / "python", "-m", "benchmarks", *args)


def soak(args: "list[str]") -> None:
    """Kill at random, and write benchmarks/soak.md."""
    developer_tools()
    run(BIN / "python", "-m", "tests.faults.soak", *args)


def guest(args: "list[str]") -> None:
    """Build the guest program again."""
    developer_tools()
    run(BIN / "python", ROOT / "client-wasm" / "build.py", *args)


def clean(args: "list[str]") -> None:
    """Remove the environment, the state, caches and build output."""
    del args
    for name, folders, files in os.walk(str(ROOT)):
        here = Path(name)
        doomed = [f for f in folders if is_written(here, f)]
        for folder in doomed:
            shutil.rmtree(str(here / folder))
            print("removed " + str((here / folder).relative_to(ROOT)))
        folders[:] = [f for f in folders if f not in doomed and f != ".git"]
        for file in files:
            if file == ".coverage" or file.startswith(".coverage."):
                (here / file).unlink()


def is_written(parent: Path, name: str) -> bool:
    """Whether this folder holds nothing but what Roost or its tools wrote."""
    if parent == ROOT and name in WRITTEN_HERE:
        return True
    return name in WRITTEN_ANYWHERE or name.endswith(".egg-info")


TARGETS = {t.__name__: t for t in (demo, up, join, test, check, bench, soak, guest, clean)}


def main() -> None:
    """Run the target that the first argument names."""
    words = sys.argv[1:]
    if words and words[0] in TARGETS:
        TARGETS[words[0]](words[1:])
        return
    print(__doc__)
    sys.exit(0 if words in ([], ["help"], ["-h"], ["--help"]) else 2)


if __name__ == "__main__":
    main()
