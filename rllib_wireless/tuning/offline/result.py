"""What a method finds out, and its interval."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rllib_wireless.policies.bootstrap import interval95, resamples

Floats = npt.NDArray[np.float64]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Found:
    """A value with its 95 % interval, and what should be known of it."""

    value: float
    ci95: tuple[float, float]
    notes: list[str] = field(default_factory=list)


def bootstrap_counts(num_units: int, seed: int) -> Floats:
    """How often each unit is drawn in each resample, [R, U]."""
    drawn = resamples(num_units, seed)
    return np.array([np.bincount(row, minlength=num_units) for row in drawn], np.float64).reshape(-1, num_units)


def of_resamples(value: float, resampled: Floats) -> tuple[float, tuple[float, float]]:
    """A value, and the middle 95 % of what it is on resamples."""
    return value, interval95(list(resampled))
