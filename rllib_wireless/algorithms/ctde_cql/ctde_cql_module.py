"""The networks of CTDE-CQL in one RLModule: critics, policies, mixer, temperature and targets, agents side by side."""

import copy
import math
from typing import Any, TypeVar

import torch
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn
from typing_extensions import override

from rllib_wireless.algorithms.ctde_cql.mixing import MonotonicMixer, Separate, SumMixer
from rllib_wireless.algorithms.ctde_cql.scaling import Scaling
from rllib_wireless.algorithms.ctde_cql.settings import CTDECQLSettings
from rllib_wireless.algorithms.stacked import Batch
from rllib_wireless.policies import StackedMLP

M = TypeVar("M", bound=nn.Module)

Q, NEW_Q, NEW_Q_TARGET, NEW_LOGITS = "q", "new_q", "new_q_target", "new_logits"
"""Outputs of `forward_train` beside the policies' logits; Q-values are [B, K, N, A]."""


class CTDECQLModule(TorchRLModule):  # type: ignore[misc]
    """N agents with K critics each.

    `model_config` holds `num_agents`, 1 where one network acts for all; `sizes`, the widths of all layers; `settings`; and
    the `scaling`.

    Attributes:
        critic: K * N networks, those of the first critic first.
        actor: N networks; None with DQN, which acts by its critic.
        mixer: Makes what TD errors are taken of.
        log_temperature: [N, 1]; None with DQN. Trained only where the temperature is `auto`.
    """

    @override
    def setup(self) -> None:
        settings: CTDECQLSettings = self.model_config["settings"]
        self.scaling: Scaling = self.model_config["scaling"]
        sizes = self.model_config["sizes"]
        self.num_agents, self.num_critics = self.model_config["num_agents"], settings.critics
        self.critic = StackedMLP(self.num_critics * self.num_agents, sizes)
        self.mixer = _mixer(settings, self.num_agents, self.scaling)
        self.target_critic, self.target_mixer = _frozen_copy(self.critic), _frozen_copy(self.mixer)
        self.actor = self.log_temperature = None
        if settings.backbone == "sac":
            self.actor = StackedMLP(self.num_agents, sizes)
            value = torch.full((self.num_agents, 1), math.log(settings.first_temperature))
            self.log_temperature = nn.Parameter(value, requires_grad=settings.temperature == "auto")
        self._learned: list[Tensor] = [*self.critic.parameters(), *self.mixer.parameters()]
        self._targets: list[Tensor] = [*self.target_critic.parameters(), *self.target_mixer.parameters()]

    @property
    def temperature(self) -> Tensor:
        """Weight of each agent's entropy [N], without gradient."""
        assert self.log_temperature is not None, "DQN has no entropy"
        return self.log_temperature.detach()[:, 0].exp()

    @override
    def _forward(self, batch: Batch, **kwargs: Any) -> Batch:
        network = self.actor or self.critic.part(0, self.num_agents)
        return {Columns.ACTION_DIST_INPUTS: network(batch[Columns.OBS])}

    @override
    def _forward_train(self, batch: Batch, **kwargs: Any) -> Batch:
        outputs = {Q: self._all_critics(self.critic, batch["obs"])}
        if self.scaling.gamma > 0.0:  # else nothing is bootstrapped
            outputs |= self._of_next(batch["new_obs"])
        if self.actor is not None:
            outputs[Columns.ACTION_DIST_INPUTS] = self.actor(batch["obs"])
        return outputs

    @torch.no_grad()
    def update_targets(self, tau: float) -> None:
        """Move the target networks by a share `tau` towards the learned ones."""
        torch._foreach_lerp_(self._targets, self._learned, tau)

    @torch.no_grad()
    def _of_next(self, new_obs: Tensor) -> Batch:
        """What targets are made of."""
        outputs = {NEW_Q_TARGET: self._all_critics(self.target_critic, new_obs)}
        if self.actor is None:
            return outputs | {NEW_Q: self._all_critics(self.critic, new_obs)}
        return outputs | {NEW_LOGITS: self.actor(new_obs)}

    def _all_critics(self, critic: StackedMLP, obs: Tensor) -> Tensor:
        """Q-values [B, K, N, A] of observations [B, N, D]."""
        repeated = obs.repeat(1, self.num_critics, 1)
        q: Tensor = critic(repeated).view(len(obs), self.num_critics, self.num_agents, -1)
        return q


def _mixer(settings: CTDECQLSettings, num_agents: int, scaling: Scaling) -> nn.Module:
    if settings.paradigm != "ctde":
        return Separate()
    if settings.mixer == "sum":
        return SumMixer()
    return MonotonicMixer(
        settings.critics,
        num_agents,
        scaling.state_mean,
        scaling.state_std,
        settings.mixing_embed_dim,
        settings.hypernet_hiddens,
    )


def _frozen_copy(module: M) -> M:
    return copy.deepcopy(module).requires_grad_(False)
