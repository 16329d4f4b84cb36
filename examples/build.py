"""Build the example guests from C, byte for byte the same on every machine.

    uv run --group guest python examples/build.py
    ... build.py --check               # fail where a checked-in guest is not what its source builds

The compiler is the `ziglang` distribution that the `guest` group of the repository's pyproject.toml
pins. The built files and their digests (SHA256SUMS) are checked in: using them needs no compiler.
"""

import argparse
import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
GUESTS = ("sensor-summary", "word-count")
SUMS = HERE / "SHA256SUMS"
FLAGS = (
    "-target", "wasm32-wasi", "-std=c11", "-Oz", "-s", "-Wall", "-Wextra", "-Werror",
    "-ffp-contract=off", "-fno-sanitize=all",
)  # fmt: skip


class BuildError(Exception):
    """A guest cannot be built here, or is not what its source builds."""


def check_compiler() -> None:
    """Raise `BuildError` unless the pinned compiler is the installed one."""
    groups = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["dependency-groups"]
    pinned = groups["guest"][0].removeprefix("ziglang==")
    try:
        found = importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if found != pinned:
        text = f"ziglang {pinned} is needed, found {found}; run this with the group `guest`"
        raise BuildError(text)


def compile_guest(name: str, output: Path) -> None:
    """Compile one guest into `output`.

    Raises:
        BuildError: the compiler refused, with its own words.
    """
    # Relative names and a fixed working directory: no path of this machine enters the result.
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, f"{name}.c", "-o", str(output)]
    done = subprocess.run(  # noqa: S603 - our own command
        command, cwd=HERE / name, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildError(done.stderr)


def checked_in(name: str) -> Path:
    """Return where the built guest is kept."""
    return HERE / name / f"{name}.wasm"


def main() -> int:
    """Build or check all guests; return the exit code."""
    parser = argparse.ArgumentParser(description="Build the example guests.")
    parser.add_argument("--check", action="store_true", help="compare instead of replacing")
    check = parser.parse_args().check
    try:
        check_compiler()
        with tempfile.TemporaryDirectory() as folder:
            built = {}
            for name in GUESTS:
                output = Path(folder) / f"{name}.wasm"
                compile_guest(name, output)
                built[name] = output.read_bytes()
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sums = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}/{name}.wasm\n" for name, data in built.items()
    )
    if not check:
        for name, data in built.items():
            checked_in(name).write_bytes(data)
        SUMS.write_text(sums)
        sys.stdout.write(sums)
        return 0
    stale = [name for name, data in built.items() if checked_in(name).read_bytes() != data]
    if stale or SUMS.read_text() != sums:
        sys.stderr.write(f"not what the source builds: {', '.join(stale) or SUMS.name}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
