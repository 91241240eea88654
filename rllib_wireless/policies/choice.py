"""How learned policies turn values of actions into actions."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import BoolArray, FloatArray, IntArray
from rllib_wireless.envs.random import jit
from rllib_wireless.errors import ConfigError

Mode = Literal["sample", "greedy"]

UNKNOWN = float(np.finfo(np.float32).min) / 2
"""Least value of a legal action: one of which nothing is known is below all others, and above those that are illegal."""


@dataclass(frozen=True)
class Choice:
    """Chooses by logits or Q-values.

    Args:
        owner: What errors are about.
        mode: `sample` from the softmax, or take the `greedy` action, the lowest index among equals.
        epsilon: Share of decisions that are uniform over the legal actions instead, for exploration.

    Raises:
        ConfigError: At an unknown mode or share.
    """

    owner: str
    mode: Mode
    epsilon: float

    def __post_init__(self) -> None:
        if self.mode not in ("sample", "greedy"):
            raise ConfigError(self.owner, "mode", self.mode, "it should be sample or greedy")
        if not isinstance(self.epsilon, float | int) or not 0.0 <= self.epsilon <= 1.0:
            raise ConfigError(self.owner, "epsilon", self.epsilon, "it should be between 0 and 1")

    def __call__(
        self, values: FloatArray, mask: BoolArray, uniform: npt.NDArray[np.float64]
    ) -> tuple[IntArray, FloatArray]:
        """Choose legal actions [B, N] for values [B, N, A] by uniform numbers [B, N]; with their probabilities [B, N]."""
        actions = np.empty(values.shape[:2], np.int64)
        prob = np.empty(values.shape[:2], np.float32)
        _choose(values, mask, uniform, self.mode == "greedy", self.epsilon, actions, prob)
        return actions, prob

    def probabilities(self, values: FloatArray, mask: BoolArray) -> FloatArray:
        """Probabilities [B, N, A] of all actions for values [B, N, A]; those of illegal ones are zero."""
        legal = np.where(mask, np.maximum(values, UNKNOWN), -np.inf)
        top = legal.max(-1, keepdims=True)
        if self.mode == "greedy":
            weights = np.zeros_like(values)
            np.put_along_axis(weights, legal.argmax(-1)[..., None], 1.0, -1)
        else:
            weights = np.exp(legal - np.where(np.isfinite(top), top, 0.0))
            weights[..., 0] += weights.sum(-1) == 0.0  # no action is legal
        total = weights.sum(-1, keepdims=True)
        uniform = mask / mask.sum(-1, keepdims=True).clip(min=1)
        law: FloatArray = ((1.0 - self.epsilon) * weights / total + self.epsilon * uniform).astype(np.float32)
        return law


@jit
def _choose(
    logits: FloatArray,
    mask: BoolArray,
    u: npt.NDArray[np.float64],
    greedy: bool,
    epsilon: float,
    actions: IntArray,
    prob: FloatArray,
) -> None:
    """Draw from epsilon * uniform + (1 - epsilon) * (softmax or greedy) over the legal actions.

    Inverts the distribution function at u: the first epsilon of [0, 1) is uniform.
    """
    num_envs, num_agents, num_actions = logits.shape
    weights = np.empty(num_actions)
    for b in range(num_envs):
        for i in range(num_agents):
            top, best, legal = -np.inf, 0, 0
            for a in range(num_actions):
                if mask[b, i, a]:
                    legal += 1
                    if max(logits[b, i, a], UNKNOWN) > top:
                        top, best = max(logits[b, i, a], UNKNOWN), a
            total = 0.0
            for a in range(num_actions):
                if greedy:
                    weights[a] = 1.0 if a == best else 0.0
                else:
                    weights[a] = np.exp(max(logits[b, i, a], UNKNOWN) - top) if mask[b, i, a] else 0.0
                total += weights[a]
            if u[b, i] < epsilon:
                chosen = _nth_legal(mask[b, i], int(u[b, i] / epsilon * legal))
            else:
                chosen = _invert(weights, (u[b, i] - epsilon) / (1.0 - epsilon) * total)
            actions[b, i] = chosen
            prob[b, i] = (1.0 - epsilon) * weights[chosen] / total + epsilon / max(legal, 1)


@jit
def _nth_legal(mask: BoolArray, n: int) -> int:
    chosen = 0
    for a in range(len(mask)):
        if mask[a]:
            chosen = a
            if n == 0:
                break
            n -= 1
    return chosen


@jit
def _invert(weights: npt.NDArray[np.float64], x: float) -> int:
    """The action at which the partial sum of weights passes x; the last one of positive weight where rounding keeps it below."""
    chosen, partial = 0, 0.0
    for a in range(len(weights)):
        if weights[a] > 0.0:
            chosen = a
            partial += weights[a]
            if x < partial:
                break
    return chosen
