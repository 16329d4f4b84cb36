"""Weighted averages: of numbers by name, and of arrays block by block.

Sums are float64 and taken in the given order, so the same updates in the same order give the
same bytes, whenever and wherever they are summed. Nothing here holds more than one block.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from roost.protocol.round.update import MAX_METRICS

Floats: TypeAlias = npt.NDArray[np.float64]


def weighted_sum(
    blocks: Iterable[npt.NDArray[Any]], weights: Iterable[int], out: Floats, scratch: Floats
) -> Floats:
    """Return the weighted mean of equally long blocks, in ``out``.

    Args:
        blocks: Same block of each update, in the order of summation; any float type. Each is
            used up before the next is asked for.
        weights: One positive number per block.
        out: Where the mean is written; as long as a block.
        scratch: Overwritten; as long as a block.
    """
    total = 0
    out.fill(0.0)
    for block, weight in zip(blocks, weights, strict=True):
        np.multiply(block, float(weight), out=scratch, dtype=np.float64)
        np.add(out, scratch, out=out)
        total += weight
    np.divide(out, float(total), out=out)
    return out


def weighted_metrics(
    metrics: Iterable[tuple[int, Mapping[str, float]]],
) -> dict[str, float]:
    """Return the weighted mean of each metric over those who reported it, by name.

    Of more names than a model's label has room for, those stand that weigh most.

    Args:
        metrics: Weight and metrics of each update, in the order of summation.
    """
    sums: dict[str, float] = {}
    totals: dict[str, int] = {}
    for weight, values in metrics:
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + weight * value
            totals[name] = totals.get(name, 0) + weight
    heaviest = sorted(sums, key=lambda name: (-totals[name], name))[:MAX_METRICS]
    means = {name: sums[name] / totals[name] for name in sorted(heaviest)}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}
