"""Neural policies: one small network per agent, their weights stacked so that all agents run in one matrix product."""

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from rllib_wireless.envs.base import EnvStep, FloatArray, IntArray
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.errors import ConfigError, DataError
from rllib_wireless.policies.choice import Choice, Mode
from rllib_wireless.policies.portable import PortablePolicy, Tensors, portable_kind

# Larger batches are cut into pieces of this many copies, whose activations stay in the cache of one core.
_CHUNK = 256


class StackedMLP(nn.Module):
    """N independent multilayer perceptrons of equal shape, with ReLU between the layers.

    Args:
        num_agents: N.
        sizes: Widths of all layers, input and output included: `(D, 64, 64, A)`.
        generator: Source of the initial weights; torch's global one where None.

    Attributes:
        weights: One [N, in, out] per layer.
        biases: One [N, 1, out] per layer.
    """

    def __init__(self, num_agents: int, sizes: Sequence[int], generator: torch.Generator | None = None) -> None:
        super().__init__()
        if num_agents < 1:
            raise ConfigError("StackedMLP", "num_agents", num_agents, "it should be at least 1")
        if len(sizes) < 2 or min(sizes) < 1:
            raise ConfigError("StackedMLP", "sizes", sizes, "it should be at least two widths, all positive")
        self.num_agents, self.sizes = num_agents, tuple(sizes)
        layers = list(itertools.pairwise(sizes))
        self.weights = nn.ParameterList([nn.Parameter(torch.empty(num_agents, i, o)) for i, o in layers])
        self.biases = nn.ParameterList([nn.Parameter(torch.empty(num_agents, 1, o)) for _, o in layers])
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw weights and biases from U(-1/sqrt(in), 1/sqrt(in)), as `nn.Linear` does."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            bound = weight.shape[1] ** -0.5
            nn.init.uniform_(weight, -bound, bound, generator=generator)
            nn.init.uniform_(bias, -bound, bound, generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map inputs [..., N, D] to outputs [..., N, A], agent i by network i."""
        h = x.reshape(-1, self.num_agents, self.sizes[0]).transpose(0, 1)
        last = len(self.sizes) - 2
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, h, weight)
            if k < last:
                h.relu_()
        return h.transpose(0, 1).reshape(*x.shape[:-1], self.sizes[-1])

    def slice(self, agent_index: int) -> "StackedMLP":
        """A copy of one agent's network, as a stack of one."""
        return self.part(agent_index, agent_index + 1)

    def part(self, start: int, stop: int) -> "StackedMLP":
        """A copy of the networks from `start` up to `stop`."""
        return self.from_layers([w[start:stop] for w in self.weights], [b[start:stop] for b in self.biases])

    @classmethod
    def from_layers(cls, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> "StackedMLP":
        """A network with copies of the given weights [N, in, out] and biases [N, 1, out]."""
        network = cls(len(weights[0]), [weights[0].shape[1], *(w.shape[2] for w in weights)])
        with torch.no_grad():
            for mine, given in zip([*network.weights, *network.biases], [*weights, *biases], strict=True):
                mine.copy_(given)
        return network


@portable_kind
class NetworkPolicy(PortablePolicy):
    """A stochastic policy softmax(network(obs)) over the legal actions, one network per agent.

    Args:
        network: Maps observations [B, N, D] to logits (or Q-values) [B, N, A].
        agents: The agents' names, in the order of the stack.
        mode: `sample` from the softmax, or take the `greedy` action, the lowest index among equals.
        epsilon: Share of decisions that are uniform over the legal actions instead, for exploration.

    Raises:
        ConfigError: Where the names do not match the stack, or at an unknown mode or share.
    """

    kind: ClassVar[str] = "network"

    def __init__(self, network: StackedMLP, agents: Sequence[str], mode: Mode = "sample", epsilon: float = 0.0) -> None:
        super().__init__(agents)
        if len(self.agents) != network.num_agents:
            raise ConfigError("NetworkPolicy", "agents", self.agents, f"the network has {network.num_agents} agents")
        self.network = network
        self.choose = Choice("NetworkPolicy", mode, epsilon)
        self.mode, self.epsilon = self.choose.mode, self.choose.epsilon

    @property
    def obs_size(self) -> int:
        return self.network.sizes[0]

    @property
    def num_actions(self) -> int:
        return self.network.sizes[-1]

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        """Choose legal actions [B, N] and set `action_prob` [B, N]."""
        actions, self.action_prob = self.choose(self.logits(step.obs), step.action_mask, random.uniform())
        return actions

    def probabilities(self, step: EnvStep) -> FloatArray:
        return self.choose.probabilities(self.logits(step.obs), step.action_mask)

    def logits(self, obs: FloatArray) -> FloatArray:
        """The networks' outputs [B, N, A] for observations [B, N, D]; sets no gradient."""
        out = np.empty((*obs.shape[:2], self.num_actions), np.float32)
        with torch.inference_mode():
            for start in range(0, len(obs), _CHUNK):
                chunk = slice(start, start + _CHUNK)
                out[chunk] = self.network(torch.from_numpy(obs[chunk])).numpy()
        return out

    def slice(self, agent_index: int) -> "NetworkPolicy":
        return NetworkPolicy(self.network.slice(agent_index), [self.agents[agent_index]], self.mode, self.epsilon)

    @classmethod
    def stack(cls, policies: Sequence["NetworkPolicy"]) -> "NetworkPolicy":
        """Join policies of equal shape into one that acts for all their agents.

        Raises:
            ConfigError: Where shapes, modes or epsilon differ.
        """
        shapes = {(p.network.sizes, p.mode, p.epsilon) for p in policies}
        if len(shapes) != 1:
            raise ConfigError(
                "NetworkPolicy", "policies", sorted(shapes), "sizes, modes and epsilon should be equal to be stacked"
            )
        layers = range(len(policies[0].network.sizes) - 1)
        network = StackedMLP.from_layers(
            [torch.cat([p.network.weights[k] for p in policies]) for k in layers],
            [torch.cat([p.network.biases[k] for p in policies]) for k in layers],
        )
        return cls(network, [name for p in policies for name in p.agents], policies[0].mode, policies[0].epsilon)

    def to_portable(self) -> tuple[dict[str, Any], Tensors]:
        tensors = {}
        for k, (weight, bias) in enumerate(zip(self.network.weights, self.network.biases, strict=True)):
            tensors[f"layer_{k}.weight"] = weight.detach().cpu().numpy()
            tensors[f"layer_{k}.bias"] = bias.detach().cpu().numpy()[:, 0]
        return {"sizes": list(self.network.sizes), "mode": self.mode, "epsilon": self.epsilon}, tensors

    @classmethod
    def from_portable(cls, extra: dict[str, Any], tensors: Tensors, agents: Sequence[str]) -> Self:
        sizes = extra.get("sizes")
        if not isinstance(sizes, list) or len(sizes) < 2 or not all(type(s) is int and s > 0 for s in sizes):
            raise DataError(f"sizes is {sizes!r}, but it should be a list of at least two positive layer widths")
        _expect_layers(tensors, len(agents), sizes)
        layers = range(len(sizes) - 1)
        network = StackedMLP.from_layers(
            [torch.from_numpy(tensors[f"layer_{k}.weight"]) for k in layers],
            [torch.from_numpy(tensors[f"layer_{k}.bias"])[:, None] for k in layers],
        )
        return cls(network, agents, extra.get("mode", "sample"), extra.get("epsilon", 0.0))


def _expect_layers(tensors: Tensors, num_agents: int, sizes: list[int]) -> None:
    """Check that the tensors are the layers that `sizes` announces."""
    expected: dict[str, tuple[int, ...]] = {}
    for k, (i, o) in enumerate(itertools.pairwise(sizes)):
        expected[f"layer_{k}.weight"], expected[f"layer_{k}.bias"] = (num_agents, i, o), (num_agents, o)
    if missing := expected.keys() ^ tensors.keys():
        raise DataError(f"tensors are {sorted(tensors)}, but sizes {sizes} need {sorted(expected)}; see {min(missing)}")
    for name, shape in expected.items():
        if tensors[name].shape != shape or tensors[name].dtype != np.float32:
            found = f"{tensors[name].dtype}{list(tensors[name].shape)}"
            raise DataError(
                f"tensor {name} is {found}, but {num_agents} agents and sizes {sizes} need float32{list(shape)}"
            )
