"""What brings an environment's rewards and states to sizes that networks learn well, measured on the data."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rllib_wireless.algorithms.ctde_cql.settings import CTDECQLSettings
from rllib_wireless.algorithms.losses import interval_discount


@dataclass(frozen=True)
class Scaling:
    """Numbers that networks are trained with.

    Attributes:
        gamma: Discount per unit of time, or per decision.
        reward_scale: What rewards are divided by.
        value_offset: What learned values are relative to. Learning Q - v instead of Q is exact, and saves networks from
            climbing from 0 to r / (1 - gamma).
        state_mean: Mean of each value of the joint state; empty where none was given.
        state_std: Its standard deviation, 1 where it is constant.
    """

    gamma: float
    reward_scale: float
    value_offset: float
    state_mean: tuple[float, ...] = ()
    state_std: tuple[float, ...] = ()

    def target(self, rewards: Tensor, discounts: Tensor, new_values: Tensor) -> Tensor:
        """The TD target of values relative to the offset, r / scale + discount (V' + offset) - offset."""
        return rewards / self.reward_scale + discounts * new_values - (1.0 - discounts) * self.value_offset

    def in_rewards(self, values: Tensor) -> Tensor:
        """Learned values in the environment's own rewards."""
        return (values + self.value_offset) * self.reward_scale


def discounts(batch: Mapping[str, Tensor], gamma: float, settings: CTDECQLSettings) -> Tensor:
    """The discount of each row [B, N]; 0 where the game terminates, not where it was merely cut off."""
    duration = batch["duration"] if settings.discount == "time" else None
    return interval_discount(gamma, duration, batch["terminateds"])


def measure(rows: Mapping[str, Tensor], gamma: float, settings: CTDECQLSettings) -> Scaling:
    """Measure the scaling on rows of data.

    Args:
        rows: Columns [T, N, ...] `rewards`, `duration` and `terminateds`; `state` [T, S] where it is to be scaled.
        gamma: The environment's own discount.
        settings: What is given there is not measured.
    """
    gamma = gamma if settings.gamma is None else settings.gamma
    rewards = rows["rewards"].double()
    if settings.paradigm != "independent":
        rewards = rewards.mean(dim=1)
    scale = settings.reward_scale or float(rewards.std(correction=0)) or 1.0
    # The constant whose mean TD error is zero; without discount in games without end there is none.
    ends = float((1.0 - discounts(rows, gamma, settings)).double().mean())
    offset = float(rewards.mean()) / scale / ends if ends > 0.0 else 0.0
    if "state" not in rows:
        return Scaling(gamma, scale, offset)
    mean, std = rows["state"].mean(dim=0), rows["state"].std(dim=0, correction=0)
    std = torch.where(std > 0.0, std, 1.0)
    return Scaling(gamma, scale, offset, tuple(mean.tolist()), tuple(std.tolist()))
