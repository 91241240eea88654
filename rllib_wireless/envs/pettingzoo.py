"""Environments as PettingZoo's ParallelEnv."""

import copy
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv  # type: ignore[import-untyped]

from rllib_wireless.envs.base import EnvStep, FloatArray
from rllib_wireless.envs.registry import make_env

PerAgent = dict[str, Any]


class ParallelView(ParallelEnv[str, PerAgent, int]):  # type: ignore[misc]
    """One copy of an environment; a step is a decision epoch, in which all agents are present.

    An observation is `{"observation": float32 [D], "action_mask": int8 [A]}`; an agent that does not decide has the
    mask [1, 0, ...]. Infos hold `duration` and `cost` of the step.

    Args:
        name: Name of the environment.
        config: Its configuration.
    """

    metadata: dict[str, Any]

    def __init__(self, name: str, config: Mapping[str, Any] | None = None) -> None:
        self._env = make_env(name, num_envs=1, **dict(config or {}))
        self.metadata = {"name": name, "render_modes": []}
        self.render_mode = None
        self.possible_agents = list(self._env.agents)
        self.agents: list[str] = []
        mask = gymnasium.spaces.Box(0, 1, (int(self._env.action_space.n),), np.int8)
        observation: dict[str, gymnasium.Space[Any]] = {"observation": self._env.observation_space, "action_mask": mask}
        # A space of its own per agent, so that each can be seeded for itself.
        self.observation_spaces = {a: gymnasium.spaces.Dict(copy.deepcopy(observation)) for a in self.possible_agents}
        self.action_spaces = {a: copy.deepcopy(self._env.action_space) for a in self.possible_agents}
        self._seeds = np.random.default_rng()
        self._state: FloatArray = self._env.state()[0]

    def observation_space(self, agent: str) -> gymnasium.spaces.Dict:
        """The agent's observation space, the same object at each call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """The agent's action space, the same object at each call."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, PerAgent], dict[str, PerAgent]]:
        """Begin an episode; episodes after a seeded one follow from its seed."""
        if seed is not None:
            self._seeds = np.random.default_rng(seed)
        step = self._env.reset(int(self._seeds.integers(2**31)))
        self._state = self._env.state()[0]
        self.agents = self.possible_agents[:]
        return self._observations(step), self._infos(step)

    def step(
        self, actions: Mapping[str, int]
    ) -> tuple[dict[str, PerAgent], dict[str, float], dict[str, bool], dict[str, bool], dict[str, PerAgent]]:
        """Execute the actions and go on to the next decision epoch."""
        step = self._env.step(np.array([[actions.get(agent, 0) for agent in self.possible_agents]], np.int64))
        self._state = self._env.state()[0] if step.final is None else step.final.state[0]
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        if terminated or truncated:
            self.agents = []
        rewards = dict(zip(self.possible_agents, step.reward[0].tolist(), strict=True))
        terminations = dict.fromkeys(self.possible_agents, terminated)
        truncations = dict.fromkeys(self.possible_agents, truncated)
        return self._observations(step), rewards, terminations, truncations, self._infos(step)

    def state(self) -> FloatArray:
        """The joint state [S]."""
        return self._state

    def _observations(self, step: EnvStep) -> dict[str, PerAgent]:
        shown = step if step.final is None else step.final
        masks, obs = shown.action_mask[0].astype(np.int8), shown.obs[0].copy()
        return {agent: {"observation": obs[i], "action_mask": masks[i]} for i, agent in enumerate(self.possible_agents)}

    def _infos(self, step: EnvStep) -> dict[str, PerAgent]:
        duration = float(step.duration[0])
        return {a: {"duration": duration, "cost": float(step.cost[0, i])} for i, a in enumerate(self.possible_agents)}
