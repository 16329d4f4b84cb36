"""``python -m roost.specs [--check] [folder]``: write, or check, what is generated."""

import argparse
import sys
from pathlib import Path

from roost.specs.generate import generated
from roost.specs.pages import differences, write


def main(arguments: list[str] | None = None) -> int:
    """Write the generated files, or with ``--check`` compare them, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m roost.specs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if stale")
    parser.add_argument("folder", nargs="?", default="specs", type=Path, help="default: specs")
    options = parser.parse_args(arguments)
    wanted = generated(options.folder)
    if not options.check:
        for path in write(options.folder, wanted):
            print(f"wrote {options.folder / path}")  # noqa: T201 - a command
        return 0
    stale = list(differences(options.folder, wanted))
    sys.stderr.writelines(stale)
    if stale:
        print("stale: run `python -m roost.specs`", file=sys.stderr)  # noqa: T201 - a command
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
