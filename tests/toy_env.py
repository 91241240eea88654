"""A small game written with plain arrays, whose every number can be recomputed by hand, and a plain simulation of it."""

from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration, field
from rllib_wireless.envs.base import (
    BatchedEnv,
    EnvStep,
    FloatArray,
    IntArray,
    ObsField,
    Statistics,
    observation_space,
)
from rllib_wireless.envs.policy import Policy
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.envs.registry import EnvSpec, Metric, Rule

LONGEST = 8


@dataclass(frozen=True, config=CONFIG)
class ToyConfig(Configuration):
    owner: ClassVar[str] = "toy"

    num_agents: int = field(2, "Number N of agents.", ge=1)
    endless: bool = field(False, "Episodes never end.")


class Toy(BatchedEnv):
    """Agent i acts at even (time + i), may take action 2 at even times, and earns action * (i + 1).

    The e-th episode of copy b lasts 3 + (7 seed + 5 b + 3 e) mod 4 steps; odd lengths terminate, even ones truncate.
    """

    name = "toy"
    duration_unit = "ticks"
    gamma = 0.9
    has_cost = True

    config: ToyConfig

    def __init__(self, config: ToyConfig, num_envs: int = 1, strict: bool = False) -> None:
        super().__init__(config, num_envs, strict)
        self.agents = tuple(f"agent_{i}" for i in range(config.num_agents))
        self.obs_fields = (
            ObsField("parity", "categorical", 2),
            ObsField("time", "continuous"),
            ObsField("last", "continuous"),
        )
        self.observation_space = observation_space(self.obs_fields)
        self.action_space = gymnasium.spaces.Discrete(3)
        self.reset(0)

    def reset(self, seed: int = 0) -> EnvStep:
        shape = (self.num_envs, len(self.agents))
        self.seed, self.t, self.e = seed, np.zeros(shape[0], np.int64), np.zeros(shape[0], np.int64)
        self.last = np.zeros(shape, np.float32)
        self.counts: Statistics = {
            "steps": np.zeros(shape[0], np.int64),
            "reward": np.zeros(shape),
            "illegal_actions": np.zeros(shape, np.int64),
        }
        nothing = np.zeros(shape, np.float32)
        never = np.zeros(shape[0], np.bool_)
        return self._step(nothing, nothing, never, never, nothing[:, 0], None)

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        executed, illegal = self.executed(actions, self.mask())
        reward = (executed * (np.arange(len(self.agents)) + 1)).astype(np.float32)
        self.counts["steps"] += 1
        self.counts["reward"] += reward
        self.counts["illegal_actions"] += illegal
        self.last[:] = executed / 2
        duration = (1 + self.t % 3).astype(np.float32)
        self.t += 1
        length = 3 + (7 * self.seed + 5 * np.arange(self.num_envs) + 3 * self.e) % 4
        ended = (self.t >= length) & (not self.config.endless)
        self.t %= LONGEST
        final = None
        if ended.any():
            final = self.ended(np.flatnonzero(ended), self.obs(), self.mask(), self.acting())
        self.e[ended] += 1
        self.t[ended] = 0
        self.last[ended] = 0
        for value in self.counts.values():
            value[ended] = 0
        cost = (executed == 2).astype(np.float32)
        return self._step(reward, cost, ended & (length % 2 == 1), ended & (length % 2 == 0), duration, final)

    def mask(self) -> npt.NDArray[np.bool_]:
        acting = self.acting()
        return np.stack([np.ones_like(acting), acting, acting & (self.t % 2 == 0)[:, None]], axis=-1)

    def acting(self) -> npt.NDArray[np.bool_]:
        even: npt.NDArray[np.bool_] = (self.t[:, None] + np.arange(len(self.agents))) % 2 == 0
        return even

    def obs(self) -> FloatArray:
        obs = np.zeros((self.num_envs, len(self.agents), 4), np.float32)
        np.put_along_axis(obs, (self.t % 2)[:, None, None], 1.0, axis=-1)
        obs[..., 2] = (self.t / LONGEST)[:, None]
        obs[..., 3] = self.last
        return obs

    def local_state(self) -> FloatArray:
        return self.obs()[..., 2:]

    def state(self) -> FloatArray:
        return np.concatenate([self.local_state().reshape(self.num_envs, -1), self.obs()[:, 0, :2]], axis=1)

    def statistics(self) -> Statistics:
        return {name: value.copy() for name, value in self.counts.items()}

    def _step(
        self, reward: FloatArray, cost: FloatArray, terminated: Any, truncated: Any, duration: Any, final: Any
    ) -> EnvStep:
        return EnvStep(self.obs(), self.mask(), self.acting(), reward, cost, terminated, truncated, duration, final)


class LastLegal(Policy):
    """Takes the highest legal action."""

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        highest: IntArray = 2 - step.action_mask[..., ::-1].argmax(-1)
        return highest


@dataclass(frozen=True, config=CONFIG)
class FixedConfig(Configuration):
    owner: ClassVar[str] = "fixed"

    action: int = field(1, "Taken where legal.", ge=0, le=2)


class Fixed(Policy):
    def __init__(self, env: Toy, config: FixedConfig) -> None:
        self._action = config.action

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        return np.where(step.action_mask[..., self._action], self._action, 0)


SPEC = EnvSpec(
    env=Toy,
    config=ToyConfig,
    rules={
        "last_legal": Rule(lambda env, config: LastLegal(), ToyConfig, "highest legal action"),
        "fixed": Rule(Fixed, FixedConfig, "one action"),
    },
    metrics=(
        Metric(
            "reward_per_step", "", "higher", lambda s: float(s["reward"].sum() / s["steps"].sum()), "reward per step"
        ),
        Metric("episode_steps", "", "higher", lambda s: float(s["steps"].mean()), "length"),
    ),
    description="a toy",
)


def episodes_by_hand(seed: int, copy: int, num_agents: int, num_steps: int) -> list[dict[str, Any]]:
    """The episodes of one copy under LastLegal, step by step without arrays; the last one may be running."""
    episodes: list[dict[str, Any]] = []
    e = t = 0
    current: dict[str, Any] = {"steps": 0, "reward": [0] * num_agents, "ended": False}
    for _ in range(num_steps):
        for i in range(num_agents):
            if (t + i) % 2 == 0:
                current["reward"][i] += (2 if t % 2 == 0 else 1) * (i + 1)
        current["steps"] += 1
        t += 1
        if t >= 3 + (7 * seed + 5 * copy + 3 * e) % 4:
            current["ended"] = True
            episodes.append(current)
            e, t, current = e + 1, 0, {"steps": 0, "reward": [0] * num_agents, "ended": False}
    return [*episodes, current]


def make_toy(num_envs: int = 1, *, strict: bool = False, **config: Any) -> Toy:
    return Toy(ToyConfig(**config), num_envs, strict)
