"""Planner-based policy learning (paper, algorithm 2): Q-values from the world model, then Q-weighted imitation.

Time between decisions varies, so a decision that takes d slots is discounted by gamma ** d (semi-Markov). Rewards are scored
against a reference rate rho: an interval of discount g counts r - rho (1 - g) / (1 - gamma), and r - rho d where gamma = 1.
That subtracts the constant rho / (1 - gamma) from every value. It moves no decision over an infinite horizon, and under a
finite one it makes the leaves worth what an average decision is worth instead of nothing; without it a tree whose depth is
counted in decisions takes an idle slot for as good a use of time as a packet of 124 slots.
"""

from typing import Literal

import torch
from torch import Tensor

from rllib_wireless.algorithms.fedmorl.world_model import Model, Outcomes, stacked
from rllib_wireless.policies import StackedMLP

PlannerValue = Literal["data", "max"]


def discounts(duration: Tensor, terminated: Tensor, gamma: float) -> Tensor:
    """gamma ** duration, and 0 where no decision follows."""
    return gamma**duration * (1.0 - terminated)


def scores(reward: Tensor, duration: Tensor, discount: Tensor, gamma: float, rho: float | Tensor) -> Tensor:
    """Rewards less what the reference rate rho would have brought in the same time."""
    elapsed = duration if gamma == 1.0 else (1.0 - discount) / (1.0 - gamma)
    return reward - rho * elapsed


def backup(outcomes: Outcomes, next_value: Tensor, gamma: float, rho: float | Tensor) -> Tensor:
    """Eq. (1): Q(o, a) = E[score + discount * V(o')], [..., A].

    Args:
        outcomes: Of a model, leaves [..., A, K].
        next_value: V of each outcome [..., A, K].
        gamma: Discount per unit of duration.
        rho: Reference reward rate.
    """
    discount = discounts(outcomes.duration, outcomes.terminated, gamma)
    score = scores(outcomes.reward, outcomes.duration, discount, gamma, rho)
    return (outcomes.prob * (score + discount * next_value)).sum(-1)


def state_value(q: Tensor, data_policy: Tensor, value: PlannerValue, support: float) -> Tensor:
    """V(o) [...] of Q-values [..., A]: of the data's policy, or the maximum over actions that it takes often enough."""
    if value == "data":
        return (data_policy * q).sum(-1)
    supported = data_policy >= support * data_policy.amax(-1, keepdim=True)
    return q.masked_fill(~supported, -torch.inf).amax(-1)
