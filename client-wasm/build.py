"""Build the training guest from C, byte for byte the same on every machine.

    uv run --group guest python client-wasm/build.py
    ... build.py --check               # fail where the checked-in guest is not what guest/ builds
    ... build.py --output fl.wasm      # elsewhere
    ... build.py --native fl-client    # for this machine's baseline CPU, to compare with

The compiler is the `ziglang` distribution that the `guest` group of the repository's pyproject.toml
pins; another version builds other bytes. The first build in an empty cache
(ZIG_GLOBAL_CACHE_DIR) also compiles a C library: about 30 s.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "guest"
GUEST = HERE / "src" / "roost" / "client_wasm" / "fl-client.wasm"

FLAGS = (
    "-std=c11",
    "-O3",
    "-s",
    "-Wall",
    "-Wextra",
    "-Werror",
    # A fused multiply-add rounds once instead of twice: results would differ between machines.
    "-ffp-contract=off",
    "-fno-sanitize=all",
)
WASM_FLAGS = ("-target", "wasm32-wasi", "-msimd128")
# The baseline of each machine has 128-bit vectors, as Wasm does.
NATIVE_FLAGS = {
    "x86_64": ("-target", "x86_64-linux-musl", "-mcpu=x86_64"),
    "aarch64": ("-target", "aarch64-linux-musl", "-mcpu=generic"),
}


class BuildError(Exception):
    """The guest cannot be built here; the message says what to change."""


def pinned_compiler() -> str:
    """The `ziglang` version that the repository's pyproject.toml pins."""
    groups = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["dependency-groups"]
    requirement: str = groups["guest"][0]
    return requirement.removeprefix("ziglang==")


def check_compiler() -> None:
    """Raise `BuildError` unless the pinned compiler is the installed one."""
    pinned = pinned_compiler()
    found = None
    if importlib.util.find_spec("ziglang") is not None:
        found = importlib.metadata.version("ziglang")
    if found != pinned:
        message = f"ziglang {pinned} is needed, found {found}; run this with the group `guest`"
        raise BuildError(message)


def compile_guest(flags: tuple[str, ...], output: Path) -> None:
    """Compile every C file of guest/ into `output`, replacing it only when all went well.

    Raises:
        BuildError: the compiler refused, with its own words.
    """
    check_compiler()
    # Relative names and a fixed working directory: no path of this machine enters the result.
    sources = sorted(path.name for path in SOURCES.glob("*.c"))
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        built = Path(folder) / output.name
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *flags, *sources]
        done = subprocess.run(  # noqa: S603 - the compiler and our own file names
            [*command, "-lm", "-o", str(built)],
            cwd=SOURCES,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BuildError(done.stderr)
        built.chmod(0o644 if flags == WASM_FLAGS else 0o755)
        built.replace(output)


def build_wasm(output: Path) -> str:
    """Build the guest; return its SHA-256 in hexadecimal."""
    compile_guest(WASM_FLAGS, output)
    return hashlib.sha256(output.read_bytes()).hexdigest()


def build_native(output: Path) -> None:
    """Build a Linux program that finds in/, data/ and out/ in its working directory."""
    flags = NATIVE_FLAGS.get(platform.machine())
    if flags is None:
        message = f"no native flags for {platform.machine()}; add them to NATIVE_FLAGS"
        raise BuildError(message)
    compile_guest((*flags, '-DGUEST_ROOT="."'), output)


def check() -> None:
    """Raise `BuildError` unless guest/ builds exactly the checked-in files."""
    with tempfile.TemporaryDirectory() as folder:
        digest = build_wasm(Path(folder) / GUEST.name)
    recorded = GUEST.with_name(GUEST.name + ".sha256").read_text().split()[0]
    present = hashlib.sha256(GUEST.read_bytes()).hexdigest()
    if not digest == recorded == present:
        message = f"guest/ builds {digest}, {GUEST.name} is {present}, recorded is {recorded}"
        raise BuildError(message)


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description="Build the training guest from C.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="compare with the checked-in guest")
    choice.add_argument("--output", type=Path, help="write the guest there instead")
    choice.add_argument("--native", type=Path, help="build a native program there instead")
    arguments = parser.parse_args()
    try:
        if arguments.check:
            check()
        elif arguments.native is not None:
            build_native(arguments.native.resolve())
        elif arguments.output is not None:
            sys.stdout.write(f"{build_wasm(arguments.output.resolve())}\n")
        else:
            digest = build_wasm(GUEST)
            GUEST.with_name(GUEST.name + ".sha256").write_text(f"{digest}  {GUEST.name}\n")
            sys.stdout.write(f"{digest}\n")
    except BuildError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
