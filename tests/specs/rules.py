"""Collects the rules of the specification, and who names them.

``python tests/specs/rules.py`` brings ``rules_without_test.txt`` up to date.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
UNTESTED: Final = Path(__file__).with_name("rules_without_test.txt")
FAMILIES: Final = ("WIRE", "BLOB", "TASK", "FWD", "BIND", "GUEST", "ROUND", "UPDATE", "MODEL",
                   "EXP", "PHONE", "BROKER", "JOIN")  # fmt: skip
_ID: Final = re.compile(rf"\b(?:{'|'.join(FAMILIES)})-[0-9]{{3}}\b")
_RULE: Final = re.compile(r"^\* \*\*([A-Z]+-[0-9]{3})\*\* ", re.MULTILINE)
_OWN: Final = ("tests/specs/rules.py", "tests/specs/test_rules.py")


def defined(pages: Iterable[Path]) -> list[str]:
    """Return the ids of all rules on these pages, in order, doubles included."""
    return [id_ for page in pages for id_ in _RULE.findall(page.read_text(encoding="utf-8"))]


def named(files: Iterable[Path]) -> dict[str, set[str]]:
    """Return who names each rule, by id, as paths relative to the repository."""
    found: dict[str, set[str]] = {}
    for file in files:
        for id_ in _ID.findall(file.read_text(encoding="utf-8")):
            place = str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)
            found.setdefault(id_, set()).add(place)
    return found


def pages() -> list[Path]:
    """Return the pages of the specification."""
    return sorted((ROOT / "specs").glob("*.md"))


def proving_files() -> list[Path]:
    """Return the files that can prove a rule."""
    every = sorted((ROOT / "tests").rglob("*.py"))
    return [path for path in every if str(path.relative_to(ROOT)) not in _OWN]


def source_files() -> list[Path]:
    """Return all Python sources and pages of the repository."""
    skipped = {".venv", ".git", ".roost", "__pycache__"}
    return [
        path
        for suffix in ("*.py", "*.md")
        for path in sorted(ROOT.rglob(suffix))
        if not skipped.intersection(path.relative_to(ROOT).parts)
        and str(path.relative_to(ROOT)) not in _OWN
    ]


def untested() -> list[str]:
    """Return the rules of the list file."""
    lines = UNTESTED.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def without_test(rules: Iterable[str], tests: Iterable[Path]) -> list[str]:
    """Return the rules that no test names."""
    proved = named(tests)
    return sorted(set(rules) - set(proved))


if __name__ == "__main__":
    missing = without_test(defined(pages()), proving_files())
    head = "# Rules that no test names yet; kept exact by test_rules.py.\n"
    UNTESTED.write_text(head + "".join(f"{id_}\n" for id_ in missing), encoding="utf-8")
    print(f"{len(missing)} of {len(defined(pages()))} rules are named by no test")
