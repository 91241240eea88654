"""A central policy: one network sees the observations of all agents and chooses their joint action."""

from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn, Self, TypeVar

import numpy as np
import torch

from rllib_wireless.envs.base import BoolArray, EnvStep, IntArray
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.errors import DataError, UserError
from rllib_wireless.policies.choice import Mode
from rllib_wireless.policies.network import NetworkPolicy, StackedMLP
from rllib_wireless.policies.portable import PortablePolicy, Tensors, portable_kind

Actions = TypeVar("Actions", IntArray, torch.Tensor)
Mask = TypeVar("Mask", BoolArray, torch.Tensor)

_TEAM = ("team",)


def joint_action(actions: Actions, num_actions: int) -> Actions:
    """Number of the joint action, [..., N] -> [...]: the agents' actions as digits to the base A, agent 0 the highest."""
    number = actions[..., 0]
    for i in range(1, actions.shape[-1]):
        number = number * num_actions + actions[..., i]
    return number


def joint_mask(action_mask: Mask) -> Mask:
    """Joint actions of which every part is legal, [..., N, A] -> [..., A ** N]."""
    mask = action_mask[..., 0, :]
    for i in range(1, action_mask.shape[-2]):
        mask = (mask[..., :, None] & action_mask[..., i, None, :]).reshape(*mask.shape[:-1], -1)
    return mask


def split_action(number: IntArray, num_agents: int, num_actions: int) -> IntArray:
    """The agents' actions of joint actions, [...] -> [..., N]; undoes `joint_action`."""
    powers = num_actions ** np.arange(num_agents - 1, -1, -1)
    return number[..., None] // powers % num_actions


@portable_kind
class JointNetworkPolicy(PortablePolicy):
    """A policy over joint actions, softmax(network(all observations)) over the legal ones.

    It needs every agent's observation at every decision, so it is what a central controller could do and cannot be cut down
    to one agent. `action_prob` stays None: what the own observation alone says of an action is not known.

    Args:
        network: A stack of one, from N * D values to A ** N logits (or Q-values).
        agents: The agents' names, in the order of the observations.
        num_actions: A.
        mode: As of `NetworkPolicy`.
        epsilon: As of `NetworkPolicy`; exploring, all agents act at random together.

    Raises:
        ConfigError: At an unknown mode or share.
    """

    kind: ClassVar[str] = "joint_network"
    centralized: ClassVar[bool] = True

    def __init__(
        self,
        network: StackedMLP,
        agents: Sequence[str],
        num_actions: int,
        mode: Mode = "sample",
        epsilon: float = 0.0,
    ) -> None:
        super().__init__(agents)
        self._team = NetworkPolicy(network, _TEAM, mode, epsilon)
        self._num_actions = num_actions

    @property
    def obs_size(self) -> int:
        return self._team.obs_size // len(self.agents)

    @property
    def num_actions(self) -> int:
        return self._num_actions

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        """Choose a legal joint action in every copy, [B, N]."""
        logits = self._team.logits(step.obs.reshape(len(step.obs), 1, -1))
        mask = np.ascontiguousarray(joint_mask(step.action_mask)[:, None])
        number, _ = self._team.choose(logits, mask, random.uniform())
        return split_action(number[:, 0], len(self.agents), self._num_actions)

    def slice(self, agent_index: int) -> NoReturn:
        raise UserError(
            "the policy is centralized: it chooses a joint action from all agents' observations, so no agent has a part of "
            "its own"
        )

    def to_portable(self) -> tuple[dict[str, Any], Tensors]:
        extra, tensors = self._team.to_portable()
        return {**extra, "num_actions": self._num_actions}, tensors

    @classmethod
    def from_portable(cls, extra: dict[str, Any], tensors: Tensors, agents: Sequence[str]) -> Self:
        team = NetworkPolicy.from_portable(extra, tensors, _TEAM)
        num_actions, (inputs, *_, outputs) = extra.get("num_actions"), team.network.sizes
        if not isinstance(num_actions, int) or num_actions ** len(agents) != outputs or inputs % len(agents):
            raise DataError(
                f"its network maps {inputs} values to {outputs}, which is no joint action of {len(agents)} agents with "
                f"{num_actions!r} actions each"
            )
        return cls(team.network, agents, num_actions, team.mode, team.epsilon)
