"""Forests as the attributes of ONNX's TreeEnsemble."""

from typing import Any

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import IntArray
from rllib_wireless.policies.trees import LEAF, UNKNOWN, Forests

_SUM, _NONE, _UP_TO = 1, 0, 0  # aggregate_function, post_transform, and the mode of a node that sends x <= split left


def tree_ensemble(forests: Forests, obs_size: int) -> dict[str, Any]:
    """One agent's forests as attributes of a TreeEnsemble that maps observations [B, D] to sums over trees [B, A].

    Splits by the action are decided here, so that each action has trees of its own. An action of which nothing is known
    has a single leaf of minus infinity.

    Args:
        forests: The forests of one agent.
        obs_size: D.
    """
    writer = _Writer(forests)
    for action, roots in enumerate(forests.roots[0]):
        known = roots[roots != UNKNOWN]
        if not len(known):
            writer.leaf(action, -np.inf)
            continue
        place = _decided(forests, obs_size, action)
        for root, times in zip(*np.unique(place[known], return_counts=True), strict=True):
            writer.tree(place, root, action, times)
    return writer.attributes()


class _Writer:
    """Writes tree by tree; TreeEnsemble numbers inner nodes and leaves each by themselves."""

    def __init__(self, forests: Forests) -> None:
        self._f = forests
        self._roots: list[int] = []
        self._nodes: list[
            npt.NDArray[np.float64]
        ] = []  # rows of: feature, split, left, left is leaf, right, right is leaf
        # ONNX Runtime 1.21 to 1.23 take a root for a leaf if both branches have equal numbers, even where one counts leaves
        # and the other nodes. With two leaves in front, that nothing leads to, leaves are always ahead.
        self._leaves = [np.zeros((2, 2))]  # rows of: action, weight
        self._num_nodes, self._num_leaves = 0, 2

    def leaf(self, action: int, value: float) -> None:
        """A tree that is a leaf: a node both of whose branches end in the same value."""
        self._add(np.array([[0.0, 0, 0, 1, 1, 1]]), np.array([[action, value], [action, value]]))

    def tree(self, place: IntArray, root: int, action: int, times: int) -> None:
        """A tree from its root on, that counts a number of times."""
        f = self._f
        if f.feature[root] == LEAF:
            self.leaf(action, times * float(f.value[root]))
            return
        nodes = _reached(f, place, root)
        is_leaf = f.feature[nodes] == LEAF
        inner, leaves = nodes[~is_leaf], nodes[is_leaf]
        number = np.where(is_leaf, np.cumsum(is_leaf), np.cumsum(~is_leaf)) - 1
        left, right = (np.searchsorted(nodes, place[child]) for child in (inner + 1, f.right[inner]))
        columns = f.feature[inner], f.threshold[inner], number[left], is_leaf[left], number[right], is_leaf[right]
        values = times * f.value[leaves].astype(np.float64)
        self._add(np.stack(columns, axis=1), np.stack([np.full(len(leaves), action), values], axis=1))

    def attributes(self) -> dict[str, Any]:
        feature, split, left, left_leaf, right, right_leaf = np.concatenate(self._nodes).T
        action, weight = np.concatenate(self._leaves).T
        return {
            "n_targets": self._f.roots.shape[1],
            "aggregate_function": _SUM,
            "post_transform": _NONE,
            "tree_roots": self._roots,
            "nodes_modes": np.full(len(feature), _UP_TO, np.uint8),
            "nodes_featureids": _integers(feature),
            "nodes_splits": split,
            "nodes_truenodeids": _integers(left),
            "nodes_trueleafs": _integers(left_leaf),
            "nodes_falsenodeids": _integers(right),
            "nodes_falseleafs": _integers(right_leaf),
            "leaf_targetids": _integers(action),
            "leaf_weights": weight,
        }

    def _add(self, nodes: npt.NDArray[Any], leaves: npt.NDArray[np.float64]) -> None:
        for child, is_leaf in ((2, 3), (4, 5)):
            nodes[:, child] += np.where(nodes[:, is_leaf] == 1, self._num_leaves, self._num_nodes)
        self._roots.append(self._num_nodes)
        self._nodes.append(nodes)
        self._leaves.append(leaves)
        self._num_nodes += len(nodes)
        self._num_leaves += len(leaves)


def _decided(f: Forests, obs_size: int, action: int) -> IntArray:
    """For each node the node where a walk for this action goes on, past splits that look at the action."""
    one_hot = (f.feature - obs_size == action).astype(np.float32)
    child = np.where(one_hot <= f.threshold, np.arange(1, len(f.feature) + 1), f.right)
    place = np.where(f.feature >= obs_size, child, np.arange(len(f.feature)))
    while not np.array_equal(further := place[place], place):
        place = further
    return place


def _reached(f: Forests, place: IntArray, root: int) -> IntArray:
    """The nodes of a tree that observations can reach, in order."""
    levels, level = [], np.array([root])
    while len(level):
        levels.append(level)
        inner = level[f.feature[level] != LEAF]
        level = np.concatenate([place[inner + 1], place[f.right[inner]]])
    return np.sort(np.concatenate(levels))


def _integers(values: npt.NDArray[np.float64]) -> list[int]:
    return [int(v) for v in values]
