"""PettingZoo's ParallelEnv as an environment: B of them behind the interface that everything here works with.

    register_parallel("my_game", lambda config: MyGame(config.size), MyConfig)

Observations are boxes or discrete, alone or beside a mask in `{"observation": ..., "action_mask": ...}`; a mask may also come in
the infos. Actions are discrete. Agents may leave before the episode ends, and then do not act any more.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from pettingzoo import ParallelEnv  # type: ignore[import-untyped]

from rllib_wireless.configuration import Configuration
from rllib_wireless.envs.base import (
    BatchedEnv,
    BoolArray,
    EnvStep,
    FinalStep,
    FloatArray,
    IntArray,
    ObsField,
    Statistics,
    observation_space,
)
from rllib_wireless.envs.registry import RANDOM, EnvSpec, Metric, NoParameters, Rule, ratio, register
from rllib_wireless.errors import UserError

Box, Dict, Discrete = gymnasium.spaces.Box, gymnasium.spaces.Dict, gymnasium.spaces.Discrete

METRICS = (
    Metric("mean_return", "reward", "higher", lambda s: float(s["reward"].mean()), "reward of an agent in an episode"),
    Metric(
        "reward_per_step",
        "reward",
        "higher",
        lambda s: ratio(s["reward"].sum(), s["steps"].sum() * s["reward"].shape[1]),
        "reward of an agent in a step",
    ),
    Metric("episode_steps", "steps", "higher", lambda s: float(s["steps"].mean()), "length of an episode"),
)


def register_parallel(
    name: str,
    make: Callable[[Any], Any],
    config: type[Configuration] = NoParameters,
    *,
    gamma: float = 0.99,
    description: str = "a ParallelEnv of PettingZoo",
    rules: Mapping[str, Rule] | None = None,
) -> None:
    """Make a ParallelEnv known by a name.

    Args:
        name: The name.
        make: Called with the configuration, once for each copy; gives a ParallelEnv. An episode begins with `reset(seed=...)`,
            on which everything random in it should depend.
        config: The fields that can be configured.
        gamma: Default discount per step.
        description: What it is.
        rules: Rules beside `random`.
    """
    env = type(name, (ParallelGames,), {"name": name, "gamma": gamma, "make": staticmethod(make)})
    known = {"random": RANDOM, **(rules or {})}
    register(EnvSpec(env, config, known, METRICS, description, objectives=("mean_return",)))


class ParallelGames(BatchedEnv):
    """B ParallelEnvs of N agents each, stepped one after the other.

    Observations are made flat, and padded with zeros where an agent's is narrower than another's; actions are counted from 0. What
    an agent saw last stays its observation once it has left. Where the mask forbids action 0, it stands for the first legal one.
    """

    duration_unit = "steps"
    default_episodes = 100
    make: ClassVar[Any]  # a static method: called with the configuration, it gives a ParallelEnv

    def __init__(self, config: Configuration, num_envs: int = 1, strict: bool = False) -> None:
        super().__init__(config, num_envs, strict)
        self._games: list[ParallelEnv[str, Any, int]] = [self.make(config) for _ in range(num_envs)]
        game = self._games[0]
        self.agents = tuple(game.possible_agents)
        self._spaces = [_inner(self.name, game.observation_space(agent)) for agent in self.agents]
        actions = [game.action_space(agent) for agent in self.agents]
        for agent, space in zip(self.agents, actions, strict=True):
            if not isinstance(space, Discrete):
                raise UserError(f"{self.name}: the actions of {agent} are {space}, but they should be Discrete")
        self._first = [int(space.start) for space in actions]
        self._sizes = np.array([int(space.n) for space in actions])
        self.action_space = Discrete(int(self._sizes.max()))
        self.obs_fields = _fields(self._spaces)
        self.observation_space = observation_space(self.obs_fields)
        n, d = len(self.agents), self.observation_space.shape[0]
        self._unseen = np.clip(np.zeros(d, np.float32), self.observation_space.low, self.observation_space.high)
        if self.obs_fields[0].kind == "categorical":
            self._unseen[0] = 1.0
        self._obs = np.zeros((num_envs, n, d), np.float32)
        self._mask = np.zeros((num_envs, n, int(self.action_space.n)), np.bool_)
        self._acting = np.zeros((num_envs, n), np.bool_)
        self._counts: Statistics = {
            "steps": np.zeros(num_envs, np.int64),
            "reward": np.zeros((num_envs, n)),
            "illegal_actions": np.zeros((num_envs, n), np.int64),
        }
        self._episode = np.zeros(num_envs, np.int64)
        self._seed = 0

    def reset(self, seed: int = 0) -> EnvStep:
        self._seed = seed
        self._episode[:] = 0
        for b in range(self.num_envs):
            self._begin(b)
        nobody = np.zeros(self.num_envs, np.bool_)
        return self._show(np.zeros(self._acting.shape), nobody, nobody, np.zeros(self.num_envs), None)

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        chosen, illegal = self.executed(actions, self._mask)
        executed = np.where(chosen > 0, chosen, self._mask.argmax(-1))
        self._counts["illegal_actions"] += illegal
        self._counts["steps"] += 1
        reward = np.zeros(self._acting.shape)
        terminated, truncated = np.zeros((2, self.num_envs), np.bool_)
        acted = self._acting.copy()
        for b, game in enumerate(self._games):
            given = {agent: int(executed[b, i]) + self._first[i] for i, agent in enumerate(self.agents) if acted[b, i]}
            observations, rewards, _, truncations, infos = game.step(given)
            reward[b] = [rewards.get(agent, 0.0) for agent in self.agents]
            self._see(b, observations, infos)
            if not game.agents:
                truncated[b] = any(truncations.values())
                terminated[b] = not truncated[b]
        self._counts["reward"] += reward
        ended = np.flatnonzero(terminated | truncated)
        final = self._final(ended, acted) if len(ended) else None
        for b in ended.tolist():
            self._episode[b] += 1
            self._begin(b)
        return self._show(reward, terminated, truncated, np.ones(self.num_envs), final)

    def local_state(self) -> FloatArray:
        return self._obs.copy()

    def state(self) -> FloatArray:
        return self._obs.reshape(self.num_envs, -1).copy()

    def statistics(self) -> Statistics:
        return {name: values.copy() for name, values in self._counts.items()}

    def _begin(self, b: int) -> None:
        """Begin an episode in a copy, with a seed of its own."""
        seed = np.random.SeedSequence([self._seed, b, int(self._episode[b])]).generate_state(1)[0] >> 1
        for values in self._counts.values():
            values[b] = 0
        self._obs[b] = self._unseen
        observations, infos = self._games[b].reset(seed=int(seed))
        self._see(b, observations, infos)

    def _see(self, b: int, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> None:
        """Take in what the agents of a copy see, and who of them is still there."""
        present = set(self._games[b].agents)
        for i, agent in enumerate(self.agents):
            self._acting[b, i] = agent in present
            self._mask[b, i] = np.arange(self._mask.shape[-1]) < self._sizes[i]
            if agent in observations:
                given = observations[agent]
                mask = infos.get(agent, {}).get("action_mask")
                if isinstance(given, Mapping):
                    mask, given = given.get("action_mask", mask), given["observation"]
                flat: Any = gymnasium.spaces.flatten(self._spaces[i], given)
                self._obs[b, i, : len(flat)] = flat
                if mask is not None:
                    self._mask[b, i, : self._sizes[i]] = np.asarray(mask, np.bool_)
        self._mask[b, ~self._acting[b]] = np.arange(self._mask.shape[-1]) == 0

    def _final(self, copies: IntArray, acted: BoolArray) -> FinalStep:
        """What those saw who were there until the end."""
        mask = np.where(acted[..., None], np.arange(self._mask.shape[-1]) < self._sizes[:, None], self._mask)
        return self.ended(copies, self._obs, mask, acted)

    def _show(
        self,
        reward: npt.NDArray[Any],
        terminated: BoolArray,
        truncated: BoolArray,
        duration: Any,
        final: FinalStep | None,
    ) -> EnvStep:
        return EnvStep(
            obs=self._obs,
            action_mask=self._mask,
            acting=self._acting,
            reward=reward.astype(np.float32),
            cost=np.zeros(reward.shape, np.float32),
            terminated=terminated,
            truncated=truncated,
            duration=duration.astype(np.float32),
            final=final,
        )


def _inner(name: str, space: Any) -> Any:
    """The space of the observation itself.

    Raises:
        UserError: At a space that is none of those that can be made flat here.
    """
    found = space["observation"] if isinstance(space, Dict) and "observation" in space.spaces else space
    if not isinstance(found, Box | Discrete):
        raise UserError(
            f"{name}: an agent observes {space}, but it should be a Box or Discrete, or a Dict of that as `observation` and "
            "an `action_mask`"
        )
    return found


def _fields(spaces: list[Any]) -> tuple[ObsField, ...]:
    """Fields that hold every agent's observation."""
    if all(isinstance(space, Discrete) for space in spaces) and len({int(space.n) for space in spaces}) == 1:
        return (ObsField("observation", "categorical", int(spaces[0].n)),)
    boxes: list[Any] = [gymnasium.spaces.flatten_space(space) for space in spaces]
    width = max(box.shape[0] for box in boxes)
    low = np.min([np.pad(box.low, (0, width - len(box.low))) for box in boxes], axis=0)
    high = np.max([np.pad(box.high, (0, width - len(box.high))) for box in boxes], axis=0)
    return tuple(
        ObsField(f"observation_{i}", "continuous", low=float(low[i]), high=float(high[i])) for i in range(width)
    )
