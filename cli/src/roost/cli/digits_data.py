"""The demo's data: handwritten digits in the proplets' folders, the test split outside them."""

from __future__ import annotations

import numpy as np
from roost.cli.digits import Split, deal, load_digits, split_off_test, write_xy
from roost.cli.state import StateDir

__all__ = ["ALPHA", "MOUNT", "TEST_SPLIT", "deal_digits"]

#: Folder below the state folder's data/ with the samples that no proplet sees.
TEST_SPLIT = "digits-test"
#: Guests see a proplet's own part as /data/train.
MOUNT = "train"
ALPHA = 0.5
_AT_LEAST = 20


def deal_digits(
    state: StateDir, names: list[str], seed: int, *, alpha: float = ALPHA
) -> tuple[list[dict[str, object]], int]:
    """Write the digits into the folders of `names`.

    Returns:
        A row for each proplet, and the size of the test split.

    Raises:
        UsageProblem: scikit-learn is not there, or there are too many proplets.
    """
    train, test = split_off_test(load_digits(), seed)
    parts = deal(train, len(names), seed, alpha=alpha, at_least=_AT_LEAST)
    write_xy(state.held_back(TEST_SPLIT), test)
    rows: list[dict[str, object]] = []
    for name, part in zip(names, parts, strict=True):
        folder = state.mount(name, MOUNT)
        write_xy(folder, part)
        rows.append(
            {
                "proplet": name,
                "samples": len(part),
                "most_of": _commonest(part),
                "folder": str(folder),
            }
        )
    return rows, len(test)


def _commonest(part: Split) -> str:
    """The three commonest digits of a part, such as `8 (25 %), 9 (19 %), 6 (18 %)`."""
    counts = np.bincount(part.y, minlength=1)
    order = np.argsort(-counts, kind="stable")[:3]
    return ", ".join(f"{d} ({100 * counts[d] / len(part):.0f} %)" for d in order)
