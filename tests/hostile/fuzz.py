"""Coverage-guided fuzzing of the decoders: ``python -m tests.hostile.fuzz update --seconds 600``.

Needs atheris (``uv sync --group fuzz``). Whatever a target lets through but a refusal, or what
its second reader disagrees with, is a finding: the input is kept as ``crash-…`` in the corpus.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).with_name("corpus")
MAX_INPUT: Final = 65_536
_ENDED: Final = re.compile(r"Done (\d+) (?:runs )?in (\d+) second")
_MARK: Final = "ROOST_FUZZ_CHILD"

Target = Callable[[bytes], None]


def targets() -> Mapping[str, Target]:
    """Return the targets by name; imported late, so that they can be instrumented."""
    from . import fuzz_targets  # noqa: PLC0415 - see above

    return fuzz_targets.TARGETS


def is_available() -> bool:
    """Tell whether atheris can be imported here."""
    code = "import atheris"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    return found.returncode == 0


def run(name: str, seconds: int, keep: Path | None = None) -> tuple[int, str]:
    """Fuzz one target in a process of its own.

    Args:
        name: The target.
        seconds: For how long.
        keep: Where new inputs are kept; None: nowhere.

    Returns:
        How many inputs were tried, and what was said.

    Raises:
        AssertionError: there is a finding; the message holds it.
    """
    with tempfile.TemporaryDirectory(prefix="roost-fuzz-") as made:
        folder = keep or Path(made)
        command = [
            *(sys.executable, "-m", "tests.hostile.fuzz", name),
            *(str(folder), str(CORPUS / name)),
            *(f"-max_total_time={seconds}", f"-max_len={MAX_INPUT}", "-timeout=20"),
            *("-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={folder}/"),
        ]
        ended = subprocess.run(
            command,
            env={**os.environ, _MARK: "1"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=False,
        )
    said = (ended.stdout + ended.stderr).decode(errors="replace")
    done = _ENDED.search(said)
    assert ended.returncode == 0, f"{name}: a finding\n{said[-6000:]}"
    assert done is not None, said[-6000:]
    return int(done[1]), said


def _child(arguments: list[str]) -> None:
    import atheris  # noqa: PLC0415 - only here is it needed

    with atheris.instrument_imports(include=["roost"]):
        target = targets()[arguments[1]]
    atheris.Setup([arguments[0], *arguments[2:]], target)
    atheris.Fuzz()


def main() -> int:
    """Fuzz from the command line, one target after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="target", help="default: all")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", type=Path, help="folder for new inputs")
    options = parser.parse_args()
    for name in options.names or targets():
        tried, _ = run(name, options.seconds, options.keep)
        print(f"{name}: {tried} inputs in {options.seconds} s, no finding", flush=True)
    return 0


if __name__ == "__main__":
    if _MARK in os.environ:
        _child(sys.argv)
    else:
        sys.exit(main())
