"""Predictions by the means of cells, for asking which further column would make them better.

A cell is a leaf of a regression tree on what an agent knows anyway. A candidate's code divides every cell, and by how much the mean of a
part differs from that of the whole is drawn towards 0 as if there were some rows more that do not differ: a code that says nothing
costs next to nothing, and trying one takes two counts. Either half of the episodes has predictions of its own, and they are judged on the other half.
"""

from typing import NamedTuple, Self

import numpy as np
from sklearn.tree import DecisionTreeRegressor

from rllib_wireless.data.decisions import Floats
from rllib_wireless.data.information import numbered
from rllib_wireless.envs.base import FloatArray, IntArray

_LEAF = 20
_DRAWN = 20.0
"""Rows without a difference that count in each difference."""


class CellMeans(NamedTuple):
    """Predictions of a target.

    Attributes:
        target: [T].
        half: Which half of the episodes a row is in, 0 or 1, [T].
        cells: The cell of each row, as either half divides them, [2, T].
        means: What either half predicts of each row, [2, T].
    """

    target: Floats
    half: IntArray
    cells: IntArray
    means: Floats

    @classmethod
    def of(cls, known: FloatArray, actions: IntArray, target: Floats, half: IntArray) -> Self:
        """The first cells, those of what is known [T, F] and of the action taken [T]."""
        cells = np.zeros((2, len(target)), np.int64)
        for number in (0, 1):
            start = 1  # 0 is the cell of actions that this half does not know
            for action in np.unique(actions[half == number]):
                fit, of_action = (actions == action) & (half == number), actions == action
                tree = DecisionTreeRegressor(min_samples_leaf=_LEAF, random_state=0).fit(known[fit], target[fit])
                cells[number, of_action] = start + tree.apply(known[of_action])
                start += tree.tree_.node_count
        return cls(target, half, cells, _drawn(target, half, cells, np.zeros_like(cells), np.zeros(cells.shape)))

    def divided(self, code: IntArray) -> Self:
        """With each cell divided by a code [T]."""
        cells = paired(self.cells, code)
        return self._replace(cells=cells, means=_drawn(self.target, self.half, cells, self.cells, self.means))

    def numbered(self) -> Self:
        """With the cells numbered anew from 0, those without rows left out: for when more divisions follow."""
        return self._replace(cells=np.stack([numbered(cells) for cells in self.cells]))

    @property
    def errors(self) -> Floats:
        """Of each row, predicted by the other half, [T]."""
        errors: Floats = self.target - np.where(self.half == 0, self.means[1], self.means[0])
        return errors


def _drawn(target: Floats, half: IntArray, parts: IntArray, wholes: IntArray, means: Floats) -> Floats:
    """Predictions [2, T] by parts of cells, from those by whole cells."""
    found = means.copy()
    for number in (0, 1):
        own, part, whole = half == number, parts[number], wholes[number]
        rest = (target - means[number])[own]
        sums, counts = _sums(part[own], part, rest), _sums(part[own], part, np.ones(len(rest)))
        average = _sums(whole[own], whole, rest) / np.maximum(_sums(whole[own], whole, np.ones(len(rest))), 1.0)
        found[number] += (sums - counts * average) / (counts + _DRAWN)
    return found


def _sums(of_fitted: IntArray, of_all: IntArray, values: Floats) -> Floats:
    """For each row the sum of the values of its cell, [T]."""
    sums = np.bincount(of_fitted, values, minlength=int(of_all.max(initial=0)) + 1)
    return sums[of_all].astype(np.float64)


def paired(a: IntArray, b: IntArray) -> IntArray:
    """A number for each pair, [..., T]; equal ones for equal pairs."""
    pairs: IntArray = a * (int(b.max(initial=0)) + 1) + b
    return pairs
