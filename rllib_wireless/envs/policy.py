"""What acts in a BatchedEnv: rules and learned policies are the same kind of thing."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import BoolArray, EnvStep, FloatArray, IntArray
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


class RandomLegal(Policy):
    """Every legal action with equal probability."""

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        actions, self.action_prob = pick(step.action_mask, random.uniform())
        return actions


class RoundRobin(Policy):
    """In every step the next of the agents that act chooses action 1, all others action 0.

    Args:
        num_envs: B.
    """

    def __init__(self, num_envs: int) -> None:
        self._last = np.full(num_envs, -1, np.int64)

    def reset(self, copies: IntArray) -> None:
        self._last[copies] = -1

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        n = step.acting.shape[1]
        order = (self._last[:, None] + 1 + np.arange(n)) % n
        waiting = np.take_along_axis(step.acting, order, axis=1)
        turn = order[np.arange(order.shape[0]), waiting.argmax(1)]
        served = waiting.any(1)
        actions = np.zeros(step.acting.shape, np.int64)
        actions[served, turn[served]] = 1
        self._last[served] = turn[served]
        return actions


def pick(allowed: BoolArray, u: npt.NDArray[np.float64]) -> tuple[IntArray, FloatArray]:
    """One of the allowed actions [..., A], all alike, and its probability, by a uniform number each."""
    count = allowed.sum(-1)
    nth = np.minimum((u * count).astype(np.int64), count - 1)
    actions: IntArray = (allowed.cumsum(-1) > nth[..., None]).argmax(-1)
    return actions, (1.0 / count).astype(np.float32)
