"""How the agents' values make up what a TD error is taken of: one value each, their sum, or a monotonic function of them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from rllib_wireless.policies import StackedMLP


class Separate(nn.Module):
    """Each agent's value stands for itself."""

    def forward(self, values: Tensor, state: Tensor | None = None) -> Tensor:
        """Map values [B, K, N] of K critics to [B, K, N]."""
        return values


class SumMixer(nn.Module):
    """Q_tot = sum_i Q_i (VDN; Sunehag et al., 2018), as in the paper."""

    def forward(self, values: Tensor, state: Tensor | None = None) -> Tensor:
        """Map values [B, K, N] of K critics to the team's [B, K, 1]."""
        return values.sum(dim=-1, keepdim=True)


class MonotonicMixer(nn.Module):
    """Q_tot = f(Q_1, ..., Q_N; s) that rises with every Q_i (QMIX; Rashid et al., ICML 2018).

    A hypernetwork turns the joint state into the weights of a network with one hidden layer; those that values are
    multiplied with are taken absolute. Each critic has a mixer of its own.

    Args:
        num_critics: K.
        num_agents: N.
        state_mean: Mean of the joint state [S] in the data; states are standardised, as their units are the environment's.
        state_std: Standard deviation of the joint state [S].
        embed_dim: Width E of the hidden layer.
        hypernet_hiddens: Widths of the hypernetwork's hidden layers.
    """

    state_mean: Tensor
    state_std: Tensor

    def __init__(
        self,
        num_critics: int,
        num_agents: int,
        state_mean: Sequence[float],
        state_std: Sequence[float],
        embed_dim: int,
        hypernet_hiddens: Sequence[int],
    ) -> None:
        super().__init__()
        self.register_buffer("state_mean", torch.tensor(state_mean))
        self.register_buffer("state_std", torch.tensor(state_std))
        # Weights and biases of the hidden layer, weights and bias of the output.
        self._shares = (num_agents * embed_dim, embed_dim, embed_dim, 1)
        self.hypernet = StackedMLP(num_critics, (len(state_mean), *hypernet_hiddens, sum(self._shares)))

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Map values [B, K, N] of K critics and states [B, S] to the team's [B, K, 1]."""
        rows, critics, agents = values.shape
        standard = (state - self.state_mean) / self.state_std
        made = self.hypernet(standard[:, None].expand(-1, critics, -1))
        weights, biases, out_weights, out_bias = made.split(self._shares, dim=-1)
        weights = weights.abs().view(rows, critics, agents, -1)
        hidden = functional.elu((values.unsqueeze(-1) * weights).sum(dim=2) + biases)
        mixed: Tensor = (hidden * out_weights.abs()).sum(dim=-1, keepdim=True) + out_bias
        return mixed
