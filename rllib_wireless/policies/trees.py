"""Policies of regression trees: Q-values as means over forests, one forest per agent and action, kept as plain arrays."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import BoolArray, EnvStep, FloatArray, IntArray
from rllib_wireless.envs.random import StepRandom, jit
from rllib_wireless.errors import ConfigError, DataError
from rllib_wireless.policies.choice import Choice, Mode
from rllib_wireless.policies.portable import PortablePolicy, Tensors, portable_kind

LEAF = -1
UNKNOWN = -1
"""Root of an action of which nothing is known; its value is minus infinity."""


class Forests(NamedTuple):
    """The trees of N agents and A actions, all their nodes in one row of M.

    A tree's nodes lie depth first: the left child of node m is m + 1. Splits may look at the action, too: column D + a is 1
    for action a and 0 for others, so that one forest can serve all actions.

    Attributes:
        roots: First node of each of T trees, [N, A, T] int64; `UNKNOWN` throughout where an action has none.
        feature: Column that a node splits by, [M] int32; `LEAF` at a leaf.
        threshold: Values up to this go left, [M] float32.
        right: The right child, [M] int64.
        value: What a leaf predicts, [M] float32.
    """

    roots: IntArray
    feature: npt.NDArray[np.int32]
    threshold: FloatArray
    right: IntArray
    value: FloatArray

    def predict(self, obs: FloatArray, agents: IntArray, wanted: BoolArray) -> FloatArray:
        """Means over the trees.

        Args:
            obs: Observations [R, D].
            agents: Whose forests, [R].
            wanted: Of which actions, [R, A].

        Returns:
            Values [R, A]; minus infinity where an action is not wanted or unknown.
        """
        values = np.full(wanted.shape, -np.inf, np.float32)
        _predict(*self, np.ascontiguousarray(obs, np.float32), np.asarray(agents, np.int64), wanted, values)
        return values

    def part(self, agent_index: int) -> "Forests":
        """One agent's forests, without the nodes of others."""
        roots = self.roots[agent_index]
        used = np.unique(roots[roots != UNKNOWN])
        ends = np.append(np.unique(self.roots[self.roots != UNKNOWN]), len(self.feature))
        nodes = [np.arange(r, ends[np.searchsorted(ends, r, "right")]) for r in used]
        kept = np.concatenate(nodes) if nodes else np.zeros(0, np.int64)
        new = np.full(len(self.feature) + 1, UNKNOWN, np.int64)  # the last place is that of UNKNOWN
        new[kept] = np.arange(len(kept))
        return Forests(
            new[roots][None], self.feature[kept], self.threshold[kept], new[self.right[kept]], self.value[kept]
        )

    @classmethod
    def join(cls, parts: Sequence["Forests"]) -> "Forests":
        """Forests of several agents as one; agents with fewer trees repeat theirs, which changes no mean.

        Raises:
            ConfigError: Where the numbers of trees do not divide the largest one.
        """
        trees = max(p.roots.shape[-1] for p in parts)
        if odd := [p.roots.shape[-1] for p in parts if trees % p.roots.shape[-1]]:
            raise ConfigError("Forests", "trees", odd[0], f"it should divide {trees}, the largest number")
        starts = np.cumsum([0, *(len(p.feature) for p in parts)])[:-1]
        roots = [
            np.tile(np.where(p.roots == UNKNOWN, UNKNOWN, p.roots + s), (1, 1, trees // p.roots.shape[-1]))
            for p, s in zip(parts, starts, strict=True)
        ]
        rights = [np.where(p.right == UNKNOWN, UNKNOWN, p.right + s) for p, s in zip(parts, starts, strict=True)]
        return cls(
            np.concatenate(roots),
            np.concatenate([p.feature for p in parts]),
            np.concatenate([p.threshold for p in parts]),
            np.concatenate(rights),
            np.concatenate([p.value for p in parts]),
        )


@portable_kind
class TreesPolicy(PortablePolicy):
    """The legal action whose forest promises most, the lowest index among equals.

    Args:
        forests: The forests.
        obs_size: Width D of the observation.
        agents: The agents' names, in the order of the forests.
        mode: `greedy`, or `sample` from the softmax of the values.
        epsilon: Share of decisions that are uniform over the legal actions instead.

    Raises:
        ConfigError: At an unknown mode or share.
        DataError: Where the arrays are no trees over such observations.
    """

    kind: ClassVar[str] = "trees"

    def __init__(
        self, forests: Forests, obs_size: int, agents: Sequence[str], mode: Mode = "greedy", epsilon: float = 0.0
    ) -> None:
        super().__init__(agents)
        _check_trees(forests, len(self.agents), obs_size)
        self.forests, self._obs_size = forests, obs_size
        self.choose = Choice("TreesPolicy", mode, epsilon)

    @property
    def obs_size(self) -> int:
        return self._obs_size

    @property
    def num_actions(self) -> int:
        return int(self.forests.roots.shape[1])

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        """Choose legal actions [B, N] and set `action_prob` [B, N]."""
        actions, self.action_prob = self.choose(self.values(step), step.action_mask, random.uniform())
        return actions

    def probabilities(self, step: EnvStep) -> FloatArray:
        return self.choose.probabilities(self.values(step), step.action_mask)

    def values(self, step: EnvStep) -> FloatArray:
        """Q-values [B, N, A] of the legal actions of agents that act; minus infinity elsewhere."""
        values = np.full(step.action_mask.shape, -np.inf, np.float32)
        copies, agents = np.nonzero(step.acting)
        values[copies, agents] = self.forests.predict(
            step.obs[copies, agents], agents, step.action_mask[copies, agents]
        )
        return values

    def slice(self, agent_index: int) -> "TreesPolicy":
        part, agent = self.forests.part(agent_index), self.agents[agent_index]
        return TreesPolicy(part, self._obs_size, [agent], self.choose.mode, self.choose.epsilon)

    def to_portable(self) -> tuple[dict[str, Any], Tensors]:
        extra = {"obs_size": self._obs_size, "mode": self.choose.mode, "epsilon": self.choose.epsilon}
        return extra, self.forests._asdict()

    @classmethod
    def from_portable(cls, extra: dict[str, Any], tensors: Tensors, agents: Sequence[str]) -> Self:
        if missing := set(Forests._fields) ^ tensors.keys():
            raise DataError(
                f"tensors are {sorted(tensors)}, but trees need {sorted(Forests._fields)}; see {min(missing)}"
            )
        kinds = {"roots": "i", "feature": "i", "threshold": "f", "right": "i", "value": "f"}
        for name, kind in kinds.items():
            if tensors[name].dtype.kind != kind:
                raise DataError(f"tensor {name} is of type {tensors[name].dtype}, which trees cannot have")
        forests = Forests(
            tensors["roots"].astype(np.int64),
            tensors["feature"].astype(np.int32),
            tensors["threshold"].astype(np.float32),
            tensors["right"].astype(np.int64),
            tensors["value"].astype(np.float32),
        )
        size = extra.get("obs_size")
        if type(size) is not int or size < 1:
            raise DataError(f"obs_size is {size!r}, but it should be a positive integer")
        return cls(forests, size, agents, extra.get("mode", "greedy"), extra.get("epsilon", 0.0))


def _check_trees(f: Forests, num_agents: int, obs_size: int) -> None:
    """Walking down must end at a leaf of known columns, whatever the file says."""
    nodes = len(f.feature)
    if f.roots.ndim != 3 or len(f.roots) != num_agents or 0 in f.roots.shape:
        raise DataError(f"roots have shape {list(f.roots.shape)}, but {num_agents} agents need [{num_agents}, A, T]")
    if any(array.shape != (nodes,) for array in f[1:]):
        raise DataError("feature, threshold, right and value should be rows of equal length")
    inner = np.flatnonzero(f.feature != LEAF)
    if ((f.feature < LEAF) | (f.feature >= obs_size + f.roots.shape[1])).any():
        raise DataError(
            f"a node splits by a column that is none of {obs_size} observed values and {f.roots.shape[1]} actions"
        )
    if ((f.roots < UNKNOWN) | (f.roots >= nodes)).any():
        raise DataError("a root is none of the nodes")
    # Both children lie behind their parent, so that a walk goes on and comes to an end.
    if (inner + 1 >= nodes).any() or ((f.right[inner] <= inner + 1) | (f.right[inner] >= nodes)).any():
        raise DataError("a node's children do not follow it")


@jit
def _predict(
    roots: IntArray,
    feature: npt.NDArray[np.int32],
    threshold: FloatArray,
    right: IntArray,
    value: FloatArray,
    obs: FloatArray,
    agents: IntArray,
    wanted: BoolArray,
    values: FloatArray,
) -> None:
    size, trees = obs.shape[1], roots.shape[2]
    for r in range(len(obs)):
        for a in range(wanted.shape[1]):
            if not wanted[r, a] or roots[agents[r], a, 0] < 0:
                continue
            total = 0.0
            for t in range(trees):
                m = roots[agents[r], a, t]
                while feature[m] >= 0:
                    column = feature[m]
                    x = obs[r, column] if column < size else np.float32(1.0 if column - size == a else 0.0)
                    m = m + 1 if x <= threshold[m] else right[m]
                total += value[m]
            values[r, a] = total / trees
