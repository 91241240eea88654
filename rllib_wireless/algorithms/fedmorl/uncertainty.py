"""Pessimism where an ensemble's members disagree (Yu et al., "MOPO: Model-based Offline Policy Optimization", NeurIPS 2020)."""

import torch
from torch import Tensor

from rllib_wireless.algorithms.fedmorl.layout import Outcomes, inverse
from rllib_wireless.algorithms.fedmorl.world_model import WorldModel


class PenalisedModel:
    """An ensemble whose rewards are less penalty * u(o, a), to whatever plans or rolls out in it.

    Args:
        model: The ensemble.
        penalty: Reward that one unit of disagreement costs.
    """

    def __init__(self, model: WorldModel, penalty: float) -> None:
        self._model, self._penalty = model, penalty

    def outcomes(self, obs: Tensor) -> Outcomes:
        """What follows each action in observations [M, D]."""
        outcomes = self._model.outcomes(obs)
        u = disagreement(outcomes, self._model)
        return outcomes._replace(reward=outcomes.reward - self._penalty * u.unsqueeze(-1))

    def sample(self, obs: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        """See `WorldModel.sample`."""
        return self._model.sample(obs, std, noise)


def disagreement(outcomes: Outcomes, model: WorldModel) -> Tensor:
    """u(o, a) [..., A]: how far a member's expectation is from the members' mean at most.

    The expectation is a vector of next observation, end, reward, duration and cost: continuous ones in units of what changes
    over the data, categorical ones as probabilities. MOPO takes the largest deviation that a member predicts. That is large
    wherever the process itself is random, and whether a packet collides is random however well it is known; members disagree
    only about what the data do not tell. MOReL takes such a disagreement, too (Kidambi et al., NeurIPS 2020).

    Args:
        outcomes: What the model says, members side by side.
        model: The ensemble.
    """
    layout, members = model.layout, model.ensemble_size
    signals = torch.stack([getattr(outcomes, name) for name in layout.signals], dim=-1)
    effects = torch.cat([outcomes.obs, signals, outcomes.terminated.unsqueeze(-1)], dim=-1)
    scale = torch.ones(effects.shape[-1])
    scaled = [*layout.continuous, *range(layout.obs_size, layout.obs_size + len(layout.signals))]
    scale[scaled] = inverse(model.target_std)
    each = (outcomes.prob * members).unsqueeze(-1) * effects * scale
    expected = each.reshape(*each.shape[:-2], members, -1, each.shape[-1]).sum(-2)  # [..., A, E, F]
    return (expected - expected.mean(-2, keepdim=True)).square().sum(-1).sqrt().amax(-1)
