"""Rules of routing: at random, along shortest paths, and around units that are occupied."""

from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration, field
from rllib_wireless.envs.base import BoolArray, EnvStep, IntArray
from rllib_wireless.envs.policy import Policy, pick
from rllib_wireless.envs.production_scheduling.routes import leg, times_to_finish
from rllib_wireless.envs.production_scheduling.simulator import ProductionScheduling
from rllib_wireless.envs.production_scheduling.tables import NOBODY, Bools, Floats, Ints, Rules
from rllib_wireless.envs.random import StepRandom, jit


@dataclass(frozen=True, config=CONFIG)
class NoConfig(Configuration):
    """A rule without parameters."""

    owner: ClassVar[str] = "uniform"


@dataclass(frozen=True, config=CONFIG)
class PathConfig(Configuration):
    """How products follow shortest paths."""

    owner: ClassVar[str] = "shortest_path"

    epsilon: float = field(
        0.1,
        "Probability of a uniform legal action instead; at 0 products that face each other may wait for ever.",
        source="own choice",
        ge=0.0,
        le=1.0,
    )


@dataclass(frozen=True, config=CONFIG)
class CrowdingConfig(PathConfig):
    """How products avoid occupied units."""

    owner: ClassVar[str] = "congestion_aware"

    crowding_ticks: float = field(
        10.0,
        "Ticks that a path is held to take longer for each occupied unit on it.",
        unit="ticks",
        source="own choice, near the mean length of an operation",
        ge=0.0,
        le=1e6,
    )


class Uniform(Policy):
    """Every legal action with equal probability."""

    def __init__(self, env: ProductionScheduling, config: NoConfig) -> None:
        pass

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        actions, self.action_prob = pick(self._considered(step.action_mask), random.uniform())
        return actions

    def _considered(self, mask: BoolArray) -> BoolArray:
        return mask


class UniformNoDefer(Uniform):
    """Every legal move with equal probability; a defer where there is none."""

    def _considered(self, mask: BoolArray) -> BoolArray:
        moves = mask.copy()
        moves[..., 0] = ~mask[..., 1:].any(-1)
        return moves


class ShortestPath(Policy):
    """What gets the product to its end soonest if nothing else comes in its way: a free way, a detour, or waiting.

    Ties are broken at random. A unit needs to know the plant, the product that it holds, and which of its links are free.
    """

    def __init__(self, env: ProductionScheduling, config: PathConfig) -> None:
        self._env, self._epsilon = env, config.epsilon
        self._crowding = 0.0
        self._times = times_to_finish(env.rules)

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        env, mask = self._env, step.action_mask
        best = np.zeros(mask.shape, np.bool_)
        stream = np.zeros(step.acting.shape, np.int64) if step.stream is None else step.stream
        _best_actions(
            env.rules, self._times, self._crowding, step.acting, stream, mask, env.done, env.holds, best
        )  # fmt: skip
        greedy, of_best = pick(best, random.uniform(0))
        anything, of_any = pick(mask, random.uniform(1))
        actions = np.where(random.uniform(2) < self._epsilon, anything, greedy)
        chosen = np.take_along_axis(best, actions[..., None], -1)[..., 0]
        self.action_prob = (self._epsilon * of_any + (1.0 - self._epsilon) * np.where(chosen, of_best, 0.0)).astype(
            np.float32
        )
        return actions


class CongestionAware(ShortestPath):
    """As `ShortestPath`, but a path takes longer for each occupied unit on it; needs to know which units are occupied."""

    privileged = True

    def __init__(self, env: ProductionScheduling, config: CrowdingConfig) -> None:
        super().__init__(env, config)
        self._crowding = config.crowding_ticks

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        actions = super().act(step, random)
        self.action_prob = None  # it depends on more than is observed
        return actions


@jit
def _best_actions(
    r: Rules,
    times: Floats,
    crowding: float,
    acting: Bools,
    stream: Ints,
    mask: Bools,
    done: Ints,
    holds: Ints,
    best: Bools,
) -> None:
    """Mark the legal actions [B, N, A] after which the product is finished soonest."""
    num_envs, n, num_actions = mask.shape
    ticks = np.empty(num_actions)
    for b in range(num_envs):
        for i in range(n):
            if not acting[b, i]:
                best[b, i, 0] = True
                continue
            p = stream[b, i]
            k = done[b, p]
            values = times[p, k]
            if crowding > 0.0:
                values = leg(r, r.sequences[p, k], times[p, k + 1], holds[b], crowding)
            least = np.inf
            for a in range(num_actions):
                ticks[a] = np.inf
                if mask[b, i, a]:
                    j = r.neighbours[i, a]
                    ticks[a] = r.defer_ticks + values[i] if j == NOBODY else r.move_ticks + values[j]
                least = min(least, ticks[a])
            for a in range(num_actions):
                best[b, i, a] = ticks[a] == least
