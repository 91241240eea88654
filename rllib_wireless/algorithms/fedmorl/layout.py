"""What transitions are made of: the columns of observations, rows of them, and what a model says comes next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rllib_wireless.envs.base import BatchedEnv, ObsField, field_slices


@dataclass(frozen=True)
class Layout:
    """Which columns of an observation are what.

    Args:
        categorical: Columns of each categorical field.
        continuous: Indices of the continuous columns, C of them.
        low: Smallest value of each column.
        high: Largest value of each column.
        num_actions: A.
        has_cost: Whether costs are modelled beside rewards.
    """

    categorical: tuple[slice, ...]
    continuous: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    num_actions: int
    has_cost: bool = False

    @classmethod
    def of(cls, env: BatchedEnv) -> "Layout":
        """The layout of an environment's observations."""
        return cls.from_fields(env.obs_fields, int(env.action_space.n), has_cost=env.has_cost)

    @classmethod
    def from_fields(cls, fields: Sequence[ObsField], num_actions: int, *, has_cost: bool = False) -> "Layout":
        """The layout of these fields."""
        slices = field_slices(tuple(fields))
        return cls(
            categorical=tuple(slices[f.name] for f in fields if f.kind == "categorical"),
            continuous=tuple(
                c for f in fields if f.kind == "continuous" for c in range(slices[f.name].start, slices[f.name].stop)
            ),
            low=tuple(0.0 if f.kind == "categorical" else f.low for f in fields for _ in range(f.size)),
            high=tuple(1.0 if f.kind == "categorical" else f.high for f in fields for _ in range(f.size)),
            num_actions=num_actions,
            has_cost=has_cost,
        )

    @property
    def signals(self) -> tuple[str, ...]:
        """What the Gaussian head predicts beside the continuous fields."""
        return ("reward", "duration", "cost") if self.has_cost else ("reward", "duration")

    @property
    def num_targets(self) -> int:
        """Number T of values that the Gaussian head predicts."""
        return len(self.continuous) + len(self.signals)

    @property
    def obs_size(self) -> int:
        """D."""
        return len(self.low)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each categorical part of an outcome; the last says whether the episode terminates."""
        return (*(s.stop - s.start for s in self.categorical), 2)


class Rows(NamedTuple):
    """Transitions of K clients, each leaf [K, B, ...] (or [B, ...] of one client)."""

    obs: Tensor  # [..., D]
    actions: Tensor  # [...]
    rewards: Tensor  # [...] undiscounted sum over the interval
    costs: Tensor  # [...] the same of costs; zero where there are none
    new_obs: Tensor  # [..., D]
    duration: Tensor  # [...]
    terminateds: Tensor  # [...] bool
    action_mask: Tensor  # [..., A]

    def slice(self, start: int, stop: int) -> "Rows":
        """Rows `start` to `stop` of one client."""
        return Rows(*(column[start:stop] for column in self))

    def take(self, index: Tensor) -> "Rows":
        """Rows at `index` [K, b] of each client's [K, B, ...]."""
        clients = torch.arange(len(index))[:, None]
        return Rows(*(column[clients, index] for column in self))


class Outcomes(NamedTuple):
    """What a model expects after each action: K outcomes with their probabilities, leaves [..., A, K]."""

    prob: Tensor
    reward: Tensor  # undiscounted sum over the interval, credited at its start
    cost: Tensor  # the same of costs; zero where there are none
    duration: Tensor
    terminated: Tensor  # 1 where no decision follows, else 0
    obs: Tensor  # [..., A, K, D] mean
    std: Tensor  # [..., A, K, D] of the continuous columns; 0 elsewhere


class Model(Protocol):
    """What the planner needs of a model, learned or exact."""

    def outcomes(self, obs: Tensor) -> Outcomes:
        """What follows each action in observations [..., D]."""

    def sample(self, obs: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        """Observations with mean `obs`, given standard normal noise; all [..., D]."""


def outcome_parts(new_obs: Tensor, terminated: Tensor, layout: Layout) -> Tensor:
    """The outcome's categorical parts [..., F + 1]: value of each categorical field, and whether the episode terminated."""
    values = [new_obs[..., s].argmax(-1) for s in layout.categorical]
    return torch.stack([*values, terminated.long()], dim=-1)


def effect_targets(rows: Rows, layout: Layout) -> Tensor:
    """What a model's Gaussian head predicts: change of the continuous fields, then the signals, [..., T]."""
    continuous = list(layout.continuous)
    change = rows.new_obs[..., continuous] - rows.obs[..., continuous]
    signals = {"reward": rows.rewards, "duration": rows.duration, "cost": rows.costs}
    return torch.cat([change, torch.stack([signals[name] for name in layout.signals], dim=-1)], dim=-1)


def normalise(obs: Tensor, layout: Layout, mean: Tensor, std: Tensor) -> Tensor:
    """Observations whose continuous columns have mean 0 and deviation 1 over all clients' data; constant ones become 0."""
    continuous = list(layout.continuous)
    out = obs.clone()
    out[..., continuous] = (obs[..., continuous] - mean) * inverse(std)
    return out


def inverse(std: Tensor) -> Tensor:
    """1 / std, and 0 for what is constant."""
    return torch.where(std > 1e-6, 1.0 / std.clamp(min=1e-6), 0.0)
