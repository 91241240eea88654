"""Small cooperative games given by tables, whose optimum a few lines of dynamic programming find."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
import pydantic.dataclasses

from rllib_wireless.configuration import CONFIG, Configuration, field
from rllib_wireless.data import Behaviour, Card, collect
from rllib_wireless.envs.base import (
    BatchedEnv,
    EnvStep,
    FloatArray,
    ObsField,
    Statistics,
    observation_space,
)
from rllib_wireless.envs.registry import EnvSpec, Metric
from rllib_wireless.policies import NetworkPolicy, StackedMLP

Floats = npt.NDArray[np.float64]

END = -1


@dataclass(frozen=True)
class Tables:
    """A game of two agents that see the state.

    Attributes:
        reward: [S, A, A], shared.
        successor: [S, A, A]; END terminates.
        duration: [S, A, A].
        legal: [S, 2, A].
        horizon: Steps after which an episode is cut off.
        own_share: Of the reward that each agent's rows say, [2]; both 1 where it is shared.
    """

    reward: Floats
    successor: npt.NDArray[np.int64]
    duration: Floats
    legal: npt.NDArray[np.bool_]
    horizon: int | None = None
    own_share: tuple[float, float] = (1.0, 1.0)


def tables(reward: Any, successor: Any, duration: Any = 1.0, legal: Any = True, **kwargs: Any) -> Tables:
    """Tables from what broadcasts to them."""
    reward = np.asarray(reward, np.float64)
    states, actions, _ = reward.shape
    return Tables(
        reward,
        np.broadcast_to(np.asarray(successor, np.int64), reward.shape),
        np.broadcast_to(np.asarray(duration, np.float64), reward.shape),
        np.broadcast_to(np.asarray(legal, np.bool_), (states, 2, actions)),
        **kwargs,
    )


def optimal_q(game: Tables, gamma: float, backup: Callable[[Floats], float] = np.max) -> Floats:
    """Q* [S, A, A] of the joint actions by value iteration; illegal ones are -inf.

    Args:
        game: The game.
        gamma: Discount per unit of time.
        backup: The value of a state from the Q-values of its legal joint actions.
    """
    allowed = game.legal[:, 0, :, None] & game.legal[:, 1, None, :]
    q = np.zeros_like(game.reward)
    for _ in range(2000):
        values = np.array([backup(q[s][allowed[s]]) for s in range(len(q))] + [0.0])  # the last one is END's
        q = game.reward + gamma**game.duration * values[game.successor]
    return np.where(allowed, q, -np.inf)


_ADDITIVE = np.array([0.0, 1.0, 3.0])[:, None] + np.array([2.0, 0.0, -1.0])[None]
_CLIMBING = np.array([[11.0, -30.0, 0.0], [-30.0, 7.0, 6.0], [0.0, 0.0, 5.0]])
_TWO_STEP = np.array([np.zeros((2, 2)), np.full((2, 2), 7.0), [[0.0, 1.0], [1.0, 8.0]]])

GAMES = {
    # One step; the reward is the sum of what each action gives.
    "additive": tables(_ADDITIVE[None], END),
    # The climbing game (Claus and Boutilier, 1998): the best joint action is surrounded by the worst.
    "climbing": tables(_CLIMBING[None], END),
    # The two-step game of the QMIX paper: agent 0 chooses between a safe 7, and 8 that needs both agents.
    "two_step": tables(_TWO_STEP, [[[1, 1], [2, 2]], np.full((2, 2), END), np.full((2, 2), END)]),
    # Two states without end: a sum of agents' values holds the optimum, though agents move between the states.
    "additive_chain": tables(
        np.stack([_ADDITIVE, 2.0 - _ADDITIVE]), np.array([[0] * 3, [1] * 3, [0] * 3])[None, :, :], horizon=20
    ),
    # Taking your time pays more and is discounted more.
    "slow": tables(
        [[[1.0, 1.0], [2.5, 2.5]], [[0.0, 1.0], [1.0, 3.0]]],
        [[[1, 1], [1, 1]], [[0, 0], [0, 0]]],
        [[[1.0, 1.0], [3.0, 3.0]], np.full((2, 2), 2.0)],
        horizon=10,
    ),
    # One state, where action 1 earns 1 for ever; only cut off.
    "endless": tables([[[0.0, 0.5], [0.5, 1.0]]], 0, horizon=3),
    # In state 0 agent 1 may do nothing but wait, and the best action is forbidden to agent 0.
    "masked": tables(
        np.stack([_ADDITIVE + 10.0 * np.eye(3)[2][:, None], _ADDITIVE]),
        [np.full((3, 3), 1), np.full((3, 3), END)],
        legal=[[[True, True, False], [True, False, False]], [[True] * 3, [True] * 3]],
    ),
    # Each agent's rows say only what it earned itself.
    "own_rewards": tables(np.array([[[1.0, 1.0], [0.0, 0.0]]]), END, own_share=(1.0, -2.0)),
}


@pydantic.dataclasses.dataclass(frozen=True, config=CONFIG)
class TableConfig(Configuration):
    owner: ClassVar[str] = "table_game"

    game: str = field("additive", "Which.")


class TableGame(BatchedEnv):
    """Plays the tables; an observation is the state, one-hot."""

    name = "table_game"
    duration_unit = "steps"
    gamma = 0.9

    config: TableConfig

    def __init__(self, config: TableConfig, num_envs: int = 1, strict: bool = False) -> None:
        super().__init__(config, num_envs, strict)
        self.game = GAMES[config.game]
        states, actions, _ = self.game.reward.shape
        self.agents = ("row", "column")
        self.obs_fields = (ObsField("state", "categorical", states),)
        self.observation_space = observation_space(self.obs_fields)
        self.action_space = gymnasium.spaces.Discrete(actions)
        self.reset(0)

    def reset(self, seed: int = 0) -> EnvStep:
        self.t, self.s = np.zeros(self.num_envs, np.int64), np.zeros(self.num_envs, np.int64)
        self.counts: Statistics = {
            "steps": np.zeros(self.num_envs, np.int64),
            "reward": np.zeros(self.num_envs),
            "illegal_actions": np.zeros((self.num_envs, 2), np.int64),
        }
        never = np.zeros(self.num_envs, np.bool_)
        nothing = np.zeros((self.num_envs, 2), np.float32)
        return self._shown(nothing, never, never, nothing[:, 0], None)

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        legal = np.take_along_axis(self._mask(), actions[..., None], -1)[..., 0]
        at = (self.s, *np.where(legal, actions, 0).T)
        reward, duration = self.game.reward[at], self.game.duration[at].astype(np.float32)
        self.counts["steps"] += 1
        self.counts["reward"] += reward
        self.counts["illegal_actions"] += ~legal
        self.s, self.t = self.game.successor[at], self.t + 1
        terminated = self.s == END
        truncated = ~terminated & (self.t == self.game.horizon)
        self.s[terminated] = 0
        final, over = None, np.flatnonzero(terminated | truncated)
        if len(over):
            final = self.ended(over, self._obs(), self._mask(), np.ones((self.num_envs, 2), np.bool_))
            self.s[over] = self.t[over] = 0
            for value in self.counts.values():
                value[over] = 0
        own = (reward[:, None] * self.game.own_share).astype(np.float32)
        return self._shown(own, terminated, truncated, duration, final)

    def local_state(self) -> FloatArray:
        return self._obs()

    def state(self) -> FloatArray:
        # One column more, as large as raw physical units may be.
        states = self._obs().reshape(self.num_envs, -1)
        return np.concatenate([states, 1e4 * states[:, :1]], axis=1)

    def statistics(self) -> Statistics:
        return {name: value.copy() for name, value in self.counts.items()}

    def _obs(self) -> FloatArray:
        one_hot = np.eye(len(self.game.reward), dtype=np.float32)[self.s]
        return np.repeat(one_hot[:, None], 2, axis=1)

    def _mask(self) -> npt.NDArray[np.bool_]:
        return self.game.legal[self.s]

    def _shown(self, reward: FloatArray, terminated: Any, truncated: Any, duration: Any, final: Any) -> EnvStep:
        acting = np.ones((self.num_envs, 2), np.bool_)
        zero = np.zeros_like(reward)
        return EnvStep(self._obs(), self._mask(), acting, reward, zero, terminated, truncated, duration, final)


SPEC = EnvSpec(
    env=TableGame,
    config=TableConfig,
    rules={},
    metrics=(
        Metric("reward_per_step", "", "higher", lambda s: float(s["reward"].sum() / s["steps"].sum()), "mean reward"),
    ),
    description="games given by tables",
)


def uniform(game: str) -> NetworkPolicy:
    """Acts uniformly over the legal actions."""
    states, actions, _ = GAMES[game].reward.shape
    return NetworkPolicy(StackedMLP(2, (states, actions)), ("row", "column"), epsilon=1.0)


def play(game: str, steps: int, out: Path, policy: NetworkPolicy | None = None) -> Card:
    """A data set of the game, of uniform play if nothing else is given; its rows are in `out`."""
    behaviour = Behaviour(policy or uniform(game))
    return collect("table_game", {"game": game}, [behaviour], steps, out, num_envs=8)
