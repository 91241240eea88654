"""The planner (paper, algorithm 2, eq. 1): Q-values of logged observations in the world model.

The model is solved, not sampled: logged observations serve as anchors, every next observation is worth what the anchors
nearest to it are worth, and the finite decision process that this makes is iterated to its fixed point or to a horizon. Being
an average of values, the interpolation keeps the iteration a contraction (Gordon, "Stable function approximation in dynamic
programming", ICML 1995).

Time between decisions varies, so a decision that takes d slots is discounted by gamma ** d (semi-Markov). Rewards are scored
against a reference rate rho: an interval of discount g counts r - rho (1 - g) / (1 - gamma), and r - rho d where gamma = 1.
That subtracts the constant rho / (1 - gamma) from every value. It moves no decision over an infinite horizon, and under a
finite one it makes the leaves worth what an average decision is worth instead of nothing; without it a tree whose depth is
counted in decisions takes an idle slot for as good a use of time as a packet of 124 slots.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rllib_wireless.algorithms.fedmorl.layout import Model
from rllib_wireless.algorithms.losses import interval_discount

PlannerValue = Literal["data", "max"]

_TOLERANCE = 1e-4  # of values, in units of reward, at which the iteration stops
_MAX_ITERATIONS = 10_000


class FiniteModel(NamedTuple):
    """The decision process among M anchors.

    Attributes:
        reward: Score of each action [M, A].
        cost: The same of costs, [M, A].
        transition: Discounted probabilities [A, M, M] of the anchors that come next.
    """

    reward: Tensor
    cost: Tensor
    transition: Tensor

    def priced(self, cost_weight: float) -> "FiniteModel":
        """The process whose reward is reward - cost_weight * cost."""
        return self._replace(reward=self.reward - cost_weight * self.cost)


def finite_model(
    model: Model,
    anchors: Tensor,
    metric: Tensor,
    *,
    gamma: float,
    rho: float,
    rho_cost: float = 0.0,
    neighbours: int,
    generator: torch.Generator,
    samples: int = 2,
) -> FiniteModel:
    """Reduce a model to the anchors.

    Args:
        model: Learned or exact.
        anchors: Observations [M, D].
        metric: What differences in each column count, [D].
        gamma: Discount per unit of duration.
        rho: Reference reward rate.
        rho_cost: Reference cost rate.
        neighbours: Anchors that share a next observation.
        generator: Source of the noise of next observations.
        samples: Next observations drawn for each outcome.
    """
    outcomes = model.outcomes(anchors)
    m, a, _ = outcomes.prob.shape
    discount = interval_discount(gamma, outcomes.duration, outcomes.terminated > 0.5)
    time = elapsed(outcomes.duration, discount, gamma)
    transition = torch.zeros(m, a, m)
    for _ in range(samples):
        noise = torch.randn(outcomes.std.shape, generator=generator)
        following = model.sample(outcomes.obs, outcomes.std, noise)
        index, weight = nearest(following.flatten(0, 2), anchors, metric, neighbours)
        weight = weight * (outcomes.prob * discount / samples).reshape(-1, 1)
        transition.scatter_add_(2, index.reshape(m, a, -1), weight.reshape(m, a, -1))
    return FiniteModel(
        (outcomes.prob * (outcomes.reward - rho * time)).sum(-1),
        (outcomes.prob * (outcomes.cost - rho_cost * time)).sum(-1),
        transition.transpose(0, 1).contiguous(),
    )


def solve(finite: FiniteModel, data_policy: Tensor, value: PlannerValue, horizon: int | None, support: float) -> Tensor:
    """Q-values [M, A] of the anchors, eq. (1) iterated `horizon` times or to its fixed point.

    Args:
        finite: The decision process.
        data_policy: Action probabilities [M, A] in the data.
        value: Whether the next observation is worth what the data's policy gets, or the best action.
        horizon: Decisions, the first included; None for infinitely many.
        support: See `state_value`.
    """
    q = finite.reward
    for _ in range(_MAX_ITERATIONS if horizon is None else horizon - 1):
        before, q = q, finite.reward + (finite.transition @ state_value(q, data_policy, value, support)).T
        if horizon is None and (q - before).abs().max() < _TOLERANCE:
            break
    return q


def lead(q: Tensor, data_policy: Tensor) -> float:
    """How much better acting is than action 0, on average over the rows that leave a choice.

    Args:
        q: Q-values [T, A].
        data_policy: Action probabilities [T, A], 0 where an action is not legal.
    """
    others = data_policy[:, 1:]
    choice = others.sum(1) > 0.0
    acting = (others * q[:, 1:]).sum(1)[choice] / others.sum(1)[choice]
    return float((acting - q[choice, 0]).mean()) if choice.any() else 0.0


def elapsed(duration: Tensor, discount: Tensor, gamma: float) -> Tensor:
    """Discounted time that an interval takes away; after an end that is all time, so that rho shifts every value alike."""
    return duration if gamma == 1.0 else (1.0 - discount) / (1.0 - gamma)


def state_value(q: Tensor, data_policy: Tensor, value: PlannerValue, support: float) -> Tensor:
    """V(o) [...] of Q-values [..., A]: of the data's policy, or the maximum over actions that it takes often enough."""
    if value == "data":
        return (data_policy * q).sum(-1)
    return q.masked_fill(~supported(data_policy, support), -torch.inf).amax(-1)


def supported(data_policy: Tensor, support: float) -> Tensor:
    """Actions [..., A] that the data take at least `support` times as often as the likeliest one."""
    return data_policy >= support * data_policy.amax(-1, keepdim=True)


def nearest(points: Tensor, anchors: Tensor, metric: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """The anchors nearest to points [P, D], and weights that fall with distance and sum to 1; [P, neighbours] each."""
    distance, index = torch.cdist(points * metric, anchors * metric).topk(min(neighbours, len(anchors)), largest=False)
    weight = 1.0 / (distance + 1e-6)
    return index, weight / weight.sum(-1, keepdim=True)
