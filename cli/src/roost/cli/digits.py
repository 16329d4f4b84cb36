"""Scikit-learn's handwritten digits, dealt to proplets as private data.

The set: 1,797 images of 8 by 8 pixels of 0 to 16, with the digit each shows (UCI "Optical
Recognition of Handwritten Digits"). Only the file inside the wheel is read; scikit-learn itself is
never imported, so SciPy need not be there.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from roost.cli.errors import UsageProblem

__all__ = ["CLASSES", "Split", "deal", "load_digits", "split_off_test", "write_xy"]

CLASSES = 10
_PIXEL_MAX = 16.0
_TEST_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """Images and what they show.

    Attributes:
        x: float32, (n, 64), pixels in 0..1.
        y: int64, (n,), digits in 0..9.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: NDArray[np.int64]) -> Split:
        """The samples at `rows`, in that order."""
        return Split(self.x[rows], self.y[rows])


def load_digits() -> Split:
    """All 1,797 samples in the file's order.

    Raises:
        UsageProblem: scikit-learn is not installed.
    """
    spec = importlib.util.find_spec("sklearn")
    places = list(spec.submodule_search_locations or ()) if spec else []
    files = [p for p in (Path(d, "datasets/data/digits.csv.gz") for d in places) if p.is_file()]
    if not files:
        raise UsageProblem(
            "scikit-learn, which ships the digits, is not installed: `uv sync --package roost-cli`"
        )
    table = np.loadtxt(files[0], delimiter=",", dtype=np.int64)
    return Split((table[:, :-1] / _PIXEL_MAX).astype(np.float32), table[:, -1])


def split_off_test(samples: Split, seed: int) -> tuple[Split, Split]:
    """(train, test): a random fifth becomes the test split."""
    order = np.random.default_rng([seed, 0]).permutation(len(samples))
    cut = round(len(samples) * _TEST_SHARE)
    return samples.take(np.sort(order[cut:])), samples.take(np.sort(order[:cut]))


def deal(samples: Split, shares: int, seed: int, *, alpha: float, at_least: int) -> list[Split]:
    """Deal all samples to `shares` parts, each with its own mix of classes.

    Of every class the parts get shares drawn from a symmetric Dirichlet distribution (Hsu et al.
    2019, arXiv:1909.06335); drawn again as a whole until each part has `at_least` samples.

    Args:
        samples: what to deal; each sample ends in exactly one part.
        shares: how many parts.
        seed: the same seed deals the same parts.
        alpha: concentration; the smaller, the more different the parts.
        at_least: samples a part must have.

    Raises:
        UsageProblem: so many parts cannot all get that many samples.
    """
    if shares * at_least > len(samples):
        raise UsageProblem(
            f"{len(samples)} samples cannot give each of {shares} proplets at least {at_least}"
        )
    rng = np.random.default_rng([seed, 1])
    for _ in range(1000):
        owners = _draw_owners(samples.y, shares, alpha, rng)
        if np.bincount(owners, minlength=shares).min() >= at_least:
            return [samples.take(np.flatnonzero(owners == part)) for part in range(shares)]
    raise UsageProblem(
        f"no draw gave each of {shares} proplets at least {at_least} of {len(samples)} samples: "
        "take fewer proplets or a larger --alpha"
    )


def _draw_owners(
    y: NDArray[np.int64], shares: int, alpha: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The part that each sample goes to, (n,)."""
    owners = np.empty(len(y), dtype=np.int64)
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        cuts = np.cumsum(rng.dirichlet(np.full(shares, alpha)))[:-1] * len(rows)
        for part, own in enumerate(np.split(rows, cuts.round().astype(np.int64))):
            owners[own] = part
    return owners


def write_xy(folder: Path, samples: Split) -> None:
    """Write `x.npy` and `y.npy` into `folder`, replacing what is there, each file at once."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("x", samples.x), ("y", samples.y)):
        partial = folder / f".{name}.partial.npy"
        np.save(partial, array)
        partial.replace(folder / f"{name}.npy")
