"""Rollouts of the world model (paper, algorithm 3), and conservative Q-learning on logged and imagined rows.

A policy is the softmax of its network f, and f carries the Q-values: with the data's policy pi_D as prior,

    Q(o, a) / beta = f_a(o) - log pi_D(a | o),    so that    pi(a | o) = softmax(f(o)) = pi_D(a | o) exp(Q(o, a) / beta) / Z.

The conservative term logsumexp_a f_a - f_logged is then CQL's with prior pi_D (Kumar et al. 2020, KL variant): where all
actions are worth the same the policy is the data's, and a large weight keeps it there. A plain softmax of Q would be uniform
instead, and half of all stations would send at once. The price of acting (`rollout_shift`) moves the outputs of all actions but
0 of the policy, and not of the network that learns Q.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rllib_wireless.algorithms.fedmorl.layout import Model, Outcomes


class Imagined(NamedTuple):
    """Transitions drawn from a model, leaves [R, ...]."""

    obs: Tensor
    actions: Tensor
    rewards: Tensor
    costs: Tensor
    new_obs: Tensor
    duration: Tensor
    terminateds: Tensor


def rollout(
    model: Model, policy: "Callable[[Tensor], Tensor]", starts: Tensor, horizon: int, generator: torch.Generator
) -> Imagined:
    """Follow a policy in the model.

    Args:
        model: The world model.
        policy: Gives action probabilities [R, A] for observations [R, D].
        starts: Observations [R, D], the next observations of logged rows.
        horizon: Decisions H.
        generator: Source of actions, outcomes and noise.

    Returns:
        H * R transitions; those after an episode's end are left out.
    """
    steps = []
    obs = starts
    for _ in range(horizon):
        actions = _draw(policy(obs), generator)
        drawn = draw_step(outcomes_of(model, obs, actions), obs, actions, model, generator)
        steps.append(drawn)
        obs = drawn.new_obs[~drawn.terminateds]
    return Imagined(*(torch.cat(column) for column in zip(*steps, strict=True)))


def outcomes_of(model: Model, obs: Tensor, actions: Tensor) -> Outcomes:
    """What may follow actions [R] in observations [R, D], leaves [R, K, ...]."""
    each = torch.arange(len(obs))
    return Outcomes(*(leaf[each, actions] for leaf in model.outcomes(obs)))


def draw_step(taken: Outcomes, obs: Tensor, actions: Tensor, model: Model, generator: torch.Generator) -> Imagined:
    """Draw one of the outcomes `taken` of actions in observations; of an ensemble, a member anew each time, as MOPO does."""
    each, k = torch.arange(len(obs)), _draw(taken.prob, generator)
    new_obs = model.sample(taken.obs[each, k], taken.std[each, k], torch.randn(obs.shape, generator=generator))
    # r(o, a) of the paper: the mean over outcomes, with less noise than one.
    reward, cost = ((taken.prob * signal).sum(-1) for signal in (taken.reward, taken.cost))
    return Imagined(obs, actions, reward, cost, new_obs, taken.duration[each, k], taken.terminated[each, k] > 0.5)


def _draw(prob: Tensor, generator: torch.Generator) -> Tensor:
    return torch.multinomial(prob, 1, generator=generator).squeeze(-1)
