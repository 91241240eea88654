"""Tabular policies: probabilities of actions for each cell of a grid over the observation, one table per agent."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import EnvStep, FloatArray, IntArray
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.errors import DataError
from rllib_wireless.policies.portable import PortablePolicy, Tensors, portable_kind

Grid = Sequence[npt.NDArray[np.floating[Any]]]


def cells(obs: FloatArray, grid: Grid) -> IntArray:
    """Number of the grid cell nearest to each observation, [..., D] -> [...]; the last column counts fastest."""
    number = np.zeros(obs.shape[:-1], np.int64)
    for k, levels in enumerate(grid):
        between = (levels[1:] + levels[:-1]) / 2
        number = number * len(levels) + np.searchsorted(between, obs[..., k])
    return number


@portable_kind
class TablePolicy(PortablePolicy):
    """A stochastic policy that looks up the probabilities of its actions.

    Args:
        table: Probabilities [N, S, A], S cells of the grid.
        grid: Ascending levels of each observed value; their product makes up the S cells.
        agents: The agents' names, in the order of the tables.

    Raises:
        DataError: Where shapes do not match, or rows are no probabilities.
    """

    kind: ClassVar[str] = "table"

    def __init__(self, table: npt.NDArray[np.floating[Any]], grid: Grid, agents: Sequence[str]) -> None:
        super().__init__(agents)
        self.table = np.asarray(table, np.float32)
        self.grid = tuple(np.asarray(levels, np.float32) for levels in grid)
        size = int(np.prod([len(levels) for levels in self.grid]))
        if self.table.ndim != 3 or self.table.shape[:2] != (len(self.agents), size):
            raise DataError(
                f"the table has shape {list(self.table.shape)}, but {len(self.agents)} agents and {size} cells of the grid need "
                f"[{len(self.agents)}, {size}, A]"
            )
        if (self.table < 0).any() or not np.allclose(self.table.sum(-1), 1.0, atol=1e-4):
            raise DataError("a row of the table is no law of probability: its values should be at least 0, with sum 1")
        if any((np.diff(levels) <= 0).any() for levels in self.grid):
            raise DataError("the levels of the grid should ascend")

    @property
    def obs_size(self) -> int:
        return len(self.grid)

    @property
    def num_actions(self) -> int:
        return int(self.table.shape[-1])

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        """Draw legal actions [B, N] and set `action_prob` [B, N]."""
        weights = self._weights(step)
        partial = np.cumsum(weights, -1)
        total = partial[..., -1]
        actions: IntArray = (random.uniform()[..., None] * total[..., None] >= partial).sum(-1)
        chosen = np.take_along_axis(weights, actions[..., None], -1)[..., 0]
        self.action_prob = (chosen / total).astype(np.float32)
        return actions

    def probabilities(self, step: EnvStep) -> FloatArray:
        weights = self._weights(step)
        law: FloatArray = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
        return law

    def _weights(self, step: EnvStep) -> npt.NDArray[np.float64]:
        """What the table says of legal actions, [B, N, A]; where the mask leaves nothing of a row, all that is legal is alike."""
        weights = self.table[np.arange(len(self.agents)), cells(step.obs, self.grid)] * step.action_mask
        return np.where(weights.sum(-1, keepdims=True) > 0, weights, step.action_mask).astype(np.float64)

    def slice(self, agent_index: int) -> "TablePolicy":
        return TablePolicy(self.table[agent_index : agent_index + 1], self.grid, [self.agents[agent_index]])

    def to_portable(self) -> tuple[dict[str, Any], Tensors]:
        return {}, {"table": self.table, **{f"grid_{k}": levels for k, levels in enumerate(self.grid)}}

    @classmethod
    def from_portable(cls, extra: dict[str, Any], tensors: Tensors, agents: Sequence[str]) -> Self:
        grid = [tensors[name] for k in range(len(tensors)) if (name := f"grid_{k}") in tensors]
        if "table" not in tensors or len(grid) != len(tensors) - 1:
            raise DataError(f"tensors are {sorted(tensors)}, but a table needs table, grid_0, grid_1, ...")
        if any(levels.ndim != 1 for levels in grid):
            raise DataError("the levels of the grid should be plain lists")
        return cls(tensors["table"], grid, agents)
