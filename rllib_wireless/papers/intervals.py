"""Means over training seeds with Student's t intervals."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from scipy import stats


def estimate(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean, 95 % interval and number of some values, as JSON; what is not defined is None.

    Args:
        values: One per seed; None or NaN where it is not defined. A single one has no interval.
    """
    finite = [float(v) for v in values if v is not None and math.isfinite(v)]
    if not finite:
        return {"mean": None, "ci95": [None, None], "n": 0}
    mean = fmean(finite)
    if len(finite) == 1:
        return {"mean": mean, "ci95": [None, None], "n": 1}
    half = float(stats.t.ppf(0.975, len(finite) - 1)) * stdev(finite) / math.sqrt(len(finite))
    return {"mean": mean, "ci95": [mean - half, mean + half], "n": len(finite)}


def by_seed(values: Sequence[float | None]) -> dict[str, Any]:
    """The estimate with its `values`, which others can be paired with."""
    return {**estimate(values), "values": list(values)}


def paired(a: Sequence[float | None], b: Sequence[float | None]) -> dict[str, Any]:
    """The estimate of the mean difference of values of equal seeds; the longer sequence's last ones have no partner."""
    return estimate([None if x is None or y is None else x - y for x, y in zip(a, b, strict=False)])
