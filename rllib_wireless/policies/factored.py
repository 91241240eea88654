"""A central policy whose agents draw their actions side by side: one network sees all and has the logits of every agent."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from rllib_wireless.envs.base import EnvStep, FloatArray, IntArray
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.errors import DataError
from rllib_wireless.policies.joint import JointNetworkPolicy
from rllib_wireless.policies.network import NetworkPolicy
from rllib_wireless.policies.portable import Tensors, portable_kind


@portable_kind
class FactoredNetworkPolicy(JointNetworkPolicy):
    """A policy softmax(network(all observations)[i]) of each agent i over its legal actions.

    As `JointNetworkPolicy` it needs all observations, but its outputs grow as N * A and not as A ** N: given what all see, the
    agents' actions are independent.

    Its arguments are those of `JointNetworkPolicy`, with a network from N * D values to N * A logits.
    """

    kind: ClassVar[str] = "factored_network"

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        """Choose legal actions, [B, N]."""
        actions, _ = self._team.choose(self._logits(step), step.action_mask, random.uniform())
        return actions

    def probabilities(self, step: EnvStep) -> FloatArray:
        return self._team.choose.probabilities(self._logits(step), step.action_mask)

    def _logits(self, step: EnvStep) -> FloatArray:
        return self._team.logits(step.obs.reshape(len(step.obs), 1, -1)).reshape(step.action_mask.shape)

    @classmethod
    def from_portable(cls, extra: dict[str, Any], tensors: Tensors, agents: Sequence[str]) -> Self:
        team = NetworkPolicy.from_portable(extra, tensors, ("team",))
        num_actions, (inputs, *_, outputs) = extra.get("num_actions"), team.network.sizes
        if not isinstance(num_actions, int) or num_actions * len(agents) != outputs or inputs % len(agents):
            raise DataError(
                f"its network maps {inputs} values to {outputs}, which are not the logits of {len(agents)} agents with "
                f"{num_actions!r} actions each"
            )
        return cls(team.network, agents, num_actions, team.mode, team.epsilon)
