"""Pages with generated parts, and the comparison of what is there with what should be.

A generated part of a page stands between two comments::

    <!-- generated: name -->
    …
    <!-- end of generated -->
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

_PART: Final = re.compile(
    r"(?P<begin><!-- generated: (?P<name>[a-z -]+) -->\n)"
    r".*?"
    r"(?P<end><!-- end of generated -->\n)",
    re.DOTALL,
)


class UnknownPart(Exception):  # noqa: N818 - it names what the page holds
    """A page asks for a part that nobody generates."""


def fill(page: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Return the page with its generated parts renewed.

    Args:
        page: Markdown.
        parts: Makes each part's text by name.

    Raises:
        UnknownPart: the page names another part; the message lists those that exist.
    """

    def renew(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in parts:
            raise UnknownPart(f"no part '{name}'; there are: {', '.join(sorted(parts))}")
        return f"{found['begin']}\n{parts[name]().strip()}\n\n{found['end']}"

    return _PART.sub(renew, page)


def differences(folder: Path, wanted: Mapping[Path, str]) -> Iterator[str]:
    """Yield a unified diff for each file that is missing or stale.

    Args:
        folder: What the paths are relative to.
        wanted: The content that each file should have.
    """
    for path, text in sorted(wanted.items()):
        place = folder / path
        found = place.read_text(encoding="utf-8") if place.exists() else ""
        if found != text:
            lines = difflib.unified_diff(
                found.splitlines(keepends=True),
                text.splitlines(keepends=True),
                f"{path} (as it is)",
                f"{path} (as it should be)",
            )
            yield "".join(lines)


def write(folder: Path, wanted: Mapping[Path, str]) -> list[Path]:
    """Write the files that are missing or stale, and return their paths."""
    stale = [
        path
        for path, text in sorted(wanted.items())
        if not (folder / path).exists() or (folder / path).read_text(encoding="utf-8") != text
    ]
    for path in stale:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(wanted[path], encoding="utf-8")
    return stale
