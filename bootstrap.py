#!/usr/bin/env python3
"""Everything `make` does, for machines without make: `python3 bootstrap.py demo`.

Needs Python 3.11 or newer and nothing else. Sets up `.venv` in this folder (with uv, from the
locked versions), then runs the target. Nothing is written outside this folder but uv's own cache.

    demo    five proplets learn handwritten digits, over MQTT; keeps its state in .roost
    up      start Roost and leave it running
    test    all tests        check   format, lint, types, contracts, generated files, fast tests
    bench   measurements     guest   rebuild the guest program (downloads a C compiler)
    clean   remove everything that was ever written here

What follows the target is passed on: `python3 bootstrap.py up --proplets 3`.
"""

# Runs under any Python 3, so that an old one gets a message instead of a syntax error.
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
BIN = os.path.join(VENV, "bin")
OLDEST_UV = (0, 9, 8)  # the first that knows exclude-dependencies
SERVICES = ["manager", "proplet", "coordinator", "model-server", "client-wasm", "chassis", "cli"]
PROTOCOLS = ["specs/wire", "specs/task-protocol", "specs/round-protocol"]

#: What `uv sync` installs: what a user runs, or what a developer runs.
USER = ["--package", "roost-cli", "--no-default-groups"]
DEVELOPER = ["--all-packages", "--group", "dev"]


def fail(message):
    sys.exit("error: " + message)


def run(*argv):
    """Run a command in this folder; end with its exit code if it fails."""
    code = subprocess.call(list(argv), cwd=ROOT)
    if code:
        sys.exit(code if code > 0 else 128 - code)


def make_venv():
    if sys.version_info < (3, 11):
        fail(
            "Roost needs Python 3.11 or newer and this is {}.{}: run `python3.11 bootstrap.py {}`, "
            "or install uv, which brings its own Python".format(
                sys.version_info[0], sys.version_info[1], " ".join(sys.argv[1:])
            )
        )
    print("setting up .venv", file=sys.stderr, flush=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", VENV], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if made.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        if b"ensurepip" in made.stdout or b"No module named venv" in made.stdout:
            package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
            fail(
                "this Python cannot make virtual environments; on Debian and Ubuntu: "
                f"`apt-get install {package}` (elsewhere: the package with Python's venv module)"
            )
        fail("python3 -m venv failed:\n" + made.stdout.decode(errors="replace"))


def recent_enough(uv):
    try:
        said = subprocess.check_output([uv, "--version"]).decode()
    except (OSError, subprocess.CalledProcessError):
        return False
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    return bool(found) and tuple(map(int, found.groups())) >= OLDEST_UV


def find_uv():
    """Uv of .venv or of this machine; otherwise pip puts one into .venv."""
    for candidate in (os.path.join(BIN, "uv"), shutil.which("uv")):
        if candidate and recent_enough(candidate):
            return candidate
    if not os.path.exists(os.path.join(BIN, "pip")):
        shutil.rmtree(VENV, ignore_errors=True)
        make_venv()
    pip = [os.path.join(BIN, "python"), "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "uv>=" + ".".join(map(str, OLDEST_UV)))
    return os.path.join(BIN, "uv")


def sync(what):
    """Install the locked versions. Inexact: uv itself, and a developer's tools, may stay."""
    uv = find_uv()
    python = os.path.join(BIN, "python")
    chosen = ["--python", python] if os.path.exists(python) else []
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    run(uv, "sync", "--frozen", "--inexact", *quiet, *chosen, *what)


def tool(name, *argv):
    run(os.path.join(BIN, name), *argv)


def roost(*argv):
    """Become the `roost` command, so that Ctrl-C and exit codes are its own."""
    os.chdir(ROOT)
    program = os.path.join(BIN, "roost")
    os.execv(program, [program, *argv])


def demo(args):
    sync(USER)
    roost("demo", *args)


def up(args):
    sync(USER)
    roost("up", *args)


def test(args):
    sync(DEVELOPER + ["--group", "guest"])
    tool("pytest", *args)


def check(args):
    sync(DEVELOPER)
    tool("ruff", "format", "--check", ".")
    tool("ruff", "check", ".")
    sources = [os.path.join(m, "src") for m in PROTOCOLS + SERVICES]
    tool("mypy", *[s for s in sources if os.path.isdir(os.path.join(ROOT, s))])
    tool("lint-imports")
    for member in PROTOCOLS + SERVICES:
        if os.path.isdir(os.path.join(ROOT, member, "src")):
            subprocess_in(member, os.path.join(BIN, "deptry"), "src")
    tool("pytest", "-m", "not slow and not system", *args)


def subprocess_in(folder, *argv):
    code = subprocess.call(list(argv), cwd=os.path.join(ROOT, folder))
    if code:
        sys.exit(code)


def bench(args):
    sync(DEVELOPER)
    tool("python", "-m", "benchmarks", *args)


def guest(args):
    sync(DEVELOPER + ["--group", "guest"])
    tool("python", "-m", "roost.client_wasm.build", *args)


def clean(args):
    """Remove what is listed in .gitignore terms: environment, state, caches, build output."""
    del args
    for folder, folders, files in os.walk(ROOT, topdown=True):
        folders[:] = [f for f in folders if f != ".git"]
        at_root = folder == ROOT
        for name in list(folders):
            if name in WRITTEN_ANYWHERE or (at_root and name in WRITTEN_HERE):
                folders.remove(name)
                shutil.rmtree(os.path.join(folder, name))
                print("removed " + os.path.relpath(os.path.join(folder, name), ROOT))
        for name in files:
            if name == ".coverage" or name.startswith(".coverage."):
                os.remove(os.path.join(folder, name))


WRITTEN_HERE = {".venv", ".roost", "dist", "build", ".zig-cache"}
WRITTEN_ANYWHERE = {
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    ".import_linter_cache",
    "htmlcov",
}
TARGETS = {f.__name__: f for f in (demo, up, test, check, bench, guest, clean)}


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        print(__doc__)
        sys.exit(0 if sys.argv[1:] in ([], ["help"], ["-h"], ["--help"]) else 2)
    TARGETS[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    main()
