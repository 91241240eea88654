"""Conditional mutual information of discrete samples, from counts, with a permutation test."""

from typing import Any

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import FloatArray, IntArray

_BINS = 4
_MANY_VALUES = 12


def conditional_information(
    target: IntArray, code: IntArray, condition: IntArray, permutations: int, random: np.random.Generator
) -> tuple[float, float]:
    """I(target; code | condition) of discrete samples.

    Args:
        target: Classes, [T].
        code: Classes, [T].
        condition: Classes, [T].
        permutations: Permutations of `code` within equal conditions.
        random: What they are drawn from.

    Returns:
        The plug-in estimate in nats less its mean over permutations, which is its bias where there is no information, and not
        below 0; and the share of permutations that give no less.
    """
    order = np.argsort(condition, kind="stable")
    target, code, condition = target[order], code[order], condition[order]
    num_codes, num_targets = int(code.max(initial=0)) + 1, int(target.max(initial=0)) + 1
    both = condition * num_targets + target
    # H(y, z) + H(x, z) - H(z): what permutations within equal z leave as it is.
    fixed = _entropy(both) + _entropy(condition * num_codes + code) - _entropy(condition)
    plain = fixed - _entropy(both * num_codes + code)
    shuffled = np.empty(permutations)
    for k in range(permutations):
        within = np.argsort(condition + random.random(len(code)))
        shuffled[k] = fixed - _entropy(both * num_codes + code[within])
    p_value = (1 + int((shuffled >= plain - 1e-12).sum())) / (1 + permutations)
    return max(plain - float(shuffled.mean()), 0.0), p_value


def numbered(rows: npt.NDArray[Any]) -> IntArray:
    """Equal rows get equal numbers, from 0, [T] or [T, C] -> [T]."""
    number: IntArray = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return number


def classes(columns: FloatArray) -> FloatArray:
    """The same columns [T, C], with quartiles in place of many values."""
    found = columns.copy()
    for k, column in enumerate(columns.T):
        if len(np.unique(column)) > _MANY_VALUES:
            found[:, k] = quartile(column)
    return found


def quartile(values: npt.NDArray[Any]) -> IntArray:
    """The quarter of all values that each is in, [T], from 0."""
    number: IntArray = np.searchsorted(np.quantile(values, np.arange(1, _BINS) / _BINS), values)
    return number


def _entropy(values: IntArray) -> float:
    counts = np.bincount(values)
    p = counts[counts > 0] / len(values)
    return float(-(p * np.log(p)).sum())
