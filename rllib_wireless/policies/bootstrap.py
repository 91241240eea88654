"""How far metrics of pooled rows can be trusted: a bootstrap over the rows."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import IntArray, Statistics
from rllib_wireless.envs.registry import Metric

_RESAMPLES = 1000


def resamples(num_rows: int, seed: int) -> IntArray:
    """Rows drawn with replacement, [R, E]; none for a single row, which tells nothing about its own spread."""
    shape = (_RESAMPLES if num_rows > 1 else 0, num_rows)
    return np.random.default_rng(seed).integers(num_rows, size=shape)


def pooled(metric: Metric, statistics: Statistics, rows: IntArray) -> float:
    """The metric over some rows of the statistics."""
    return metric.reduce(_Rows(statistics, rows))


def interval95(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of bootstrap values; NaN where none is defined."""
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return math.nan, math.nan
    lower, upper = np.percentile(finite, (2.5, 97.5))
    return float(lower), float(upper)


class _Rows(Statistics):
    """Some rows of statistics, taken when a metric asks for them; most metrics read two or three of many."""

    def __init__(self, statistics: Statistics, rows: IntArray) -> None:
        super().__init__()
        self._statistics, self._rows = statistics, rows

    def __missing__(self, name: str) -> npt.NDArray[Any]:
        self[name] = self._statistics[name][self._rows]
        return self[name]
