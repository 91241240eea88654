"""What acts in a BatchedEnv: rules and learned policies are the same kind of thing."""

from abc import ABC, abstractmethod
from typing import ClassVar

from rllib_wireless.envs.base import EnvStep, FloatArray, IntArray
from rllib_wireless.envs.random import StepRandom


class Policy(ABC):
    """Acts for all agents in all copies.

    Attributes:
        privileged: Whether it reads what no agent of a real network knows; tables say so.
        action_prob: After `act`, the probability [B, N] of the chosen actions given the observation alone, or None where
            that is not known (rules with memory).
    """

    privileged: ClassVar[bool] = False
    action_prob: FloatArray | None = None

    @abstractmethod
    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        """Choose actions [B, N]; what it says for agents that do not act is ignored.

        Args:
            step: What the environment shows.
            random: Random numbers of this step; draws for copy b do not depend on B.
        """

    def reset(self, copies: IntArray) -> None:
        """Forget the past of these copies, in which a new episode has begun."""
