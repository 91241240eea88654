"""The networks of PPO in one RLModule: policies and critics, agents side by side, with the scales of what critics see and say."""

from typing import Any

import torch
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn
from typing_extensions import override

from rllib_wireless.algorithms.stacked import Batch
from rllib_wireless.policies import StackedMLP

VALUES = "values"
"""Output of `forward_train` beside the logits: standardised values, [B, K]."""

# Initial policies are nearly uniform: their last layer begins this much smaller than usual.
_FIRST_LOGITS = 0.01


class PPOModule(TorchRLModule):  # type: ignore[misc]
    """Policies of N agents, and K critics.

    `model_config` holds `num_agents`; `sizes`, the widths of an agent's policy; `paradigm`; `num_critics`; and
    `critic_inputs`, the width of what a critic sees.

    Attributes:
        actor: N networks, or one with N * A outputs where one sees all observations.
        critic: K networks of the joint state, or of the observation of agent k.
        inputs: Moments of the joint state; None where critics see observations, whose range is declared.
        returns: Moments of the returns [K]: what critics say is standardised.
    """

    @override
    def setup(self) -> None:
        n, sizes = self.model_config["num_agents"], self.model_config["sizes"]
        self.centralized = self.model_config["paradigm"] == "centralized"
        if self.centralized:
            self.actor = StackedMLP(1, (n * sizes[0], *sizes[1:-1], n * sizes[-1]))
        else:
            self.actor = StackedMLP(n, sizes)
        with torch.no_grad():
            self.actor.weights[-1].mul_(_FIRST_LOGITS)
            self.actor.biases[-1].zero_()
        self.num_critics, width = self.model_config["num_critics"], self.model_config["critic_inputs"]
        self.critic = StackedMLP(self.num_critics, (width, *sizes[1:-1], 1))
        self.inputs = None if self.model_config["paradigm"] == "independent" else Moments(width)
        self.returns = Moments(self.num_critics)

    @override
    def _forward(self, batch: Batch, **kwargs: Any) -> Batch:
        return {Columns.ACTION_DIST_INPUTS: self.logits(batch[Columns.OBS])}

    @override
    def _forward_train(self, batch: Batch, **kwargs: Any) -> Batch:
        seen = batch["obs"] if self.inputs is None else batch["state"]
        return {Columns.ACTION_DIST_INPUTS: self.logits(batch["obs"]), VALUES: self.standardised_values(seen)}

    def logits(self, obs: Tensor) -> Tensor:
        """Logits [..., N, A] of observations [..., N, D]."""
        if not self.centralized:
            return self.actor(obs)  # type: ignore[no-any-return]
        out: Tensor = self.actor(obs.flatten(-2).unsqueeze(-2))
        return out.view(*obs.shape[:-1], -1)

    def standardised_values(self, seen: Tensor) -> Tensor:
        """What critics say, [..., K], of joint states [..., S] or of observations [..., N, D]."""
        if self.inputs is not None:
            seen = self.inputs.standardise(seen)
            seen = seen.unsqueeze(-2).expand(*seen.shape[:-1], self.num_critics, -1)
        values: Tensor = self.critic(seen).squeeze(-1)
        return values

    def values(self, seen: Tensor) -> Tensor:
        """The same in the environment's own rewards."""
        return self.returns.restore(self.standardised_values(seen))

    @torch.no_grad()
    def see_returns(self, returns: Tensor) -> None:
        """Update the moments of returns [..., K], and the critics' last layers so that no value changes.

        Source: van Hasselt et al., "Learning values across many orders of magnitude", NeurIPS 2016 (PopArt).
        """
        mean, std = self.returns.mean.clone(), self.returns.std
        self.returns.see(returns)
        shrink = (std / self.returns.std).view(-1, 1, 1)
        shift = ((mean - self.returns.mean) / self.returns.std).view(-1, 1, 1)
        self.critic.weights[-1].mul_(shrink)
        self.critic.biases[-1].mul_(shrink).add_(shift)


class Moments(nn.Module):
    """Mean and standard deviation of the values [..., W] seen so far.

    Args:
        width: W.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    # The first batches count alike; later ones a tenth, as returns change with the policy.
    _LEAST_SHARE = 0.1

    def __init__(self, width: int) -> None:
        super().__init__()
        # In single precision, as RLlib restores all of a module's numbers in that.
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def std(self) -> Tensor:
        """The standard deviation, [W]; 1 where nothing ever varied, but for rounding."""
        varies = self.variance > 1e-10 * self.mean.square()
        return torch.where(varies, self.variance, 1.0).sqrt()

    def see(self, values: Tensor) -> None:
        """Take in a batch."""
        rows = values.detach().reshape(-1, values.shape[-1]).double()
        self.count += 1
        share = max(1.0 / int(self.count), self._LEAST_SHARE)
        moved = rows.mean(dim=0) - self.mean
        spread = rows.var(dim=0, correction=0)
        self.variance.copy_((1.0 - share) * self.variance + share * (spread + (1.0 - share) * moved.square()))
        self.mean.copy_(self.mean + share * moved)

    def standardise(self, values: Tensor) -> Tensor:
        """Values less the mean, over the standard deviation."""
        return (values - self.mean) / self.std

    def restore(self, values: Tensor) -> Tensor:
        """Undo `standardise`."""
        return values * self.std + self.mean
