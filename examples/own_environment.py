"""An environment of one's own: slotted ALOHA with capture, from its physics to a name on the command line.

Nodes share a channel. In a slot each one waits, or sends with low or high power over a channel that fades. The strongest packet
gets through if it is `capture` times as strong as all others together. All earn 1 for it and pay for what they send.

    rllib-wireless collect aloha --import examples/own_environment.py --policy random --steps 20000 --out data/aloha
    rllib-wireless train ctde_cql --import examples/own_environment.py --env aloha --data data/aloha --out runs/aloha
"""

from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration, field
from rllib_wireless.envs import BatchedEnv, EnvSpec, EnvStep, Metric, ObsField, Statistics, register
from rllib_wireless.envs.base import FloatArray, observation_space
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.envs.registry import RANDOM

POWER = np.array([0.0, 0.3, 1.0])  # of the actions wait, low, high


@dataclass(frozen=True, config=CONFIG)
class AlohaConfig(Configuration):
    """Nodes that send when they like."""

    owner: ClassVar[str] = "aloha"

    num_nodes: int = field(4, "Number of nodes.", ge=1, le=64)
    capture: float = field(3.0, "How much stronger than all others together a packet must be.", gt=1.0)
    energy: float = field(0.2, "What sending at full power costs.", unit="reward", ge=0.0)
    slots: int = field(100, "Length of an episode.", unit="slots", ge=1)


class Aloha(BatchedEnv):
    """B channels with N nodes each; all copies are in the same slot."""

    name, duration_unit, gamma = "aloha", "slots", 0.9

    config: AlohaConfig

    def __init__(self, config: AlohaConfig, num_envs: int = 1, strict: bool = False) -> None:
        super().__init__(config, num_envs, strict)
        self.agents = tuple(f"node_{i}" for i in range(config.num_nodes))
        self.obs_fields = (ObsField("gain", "continuous"), ObsField("heard", "continuous", description="last success"))
        self.observation_space = observation_space(self.obs_fields)
        self.action_space = gymnasium.spaces.Discrete(len(POWER))
        self._shape = (num_envs, config.num_nodes)
        self._mask = np.ones((*self._shape, len(POWER)), np.bool_)
        self.reset()

    def reset(self, seed: int = 0) -> EnvStep:
        self._random, self._slot = StepRandom(seed, *self._shape), 0
        self._begin()
        return self._show(np.zeros(self._shape), 0.0)

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        chosen, illegal = self.executed(actions, self._mask)
        sent = POWER[chosen]
        received = sent * self._gain
        best = received.max(1)
        success = (best > 0) & (best >= self.config.capture * (received.sum(1) - best))
        reward = success[:, None] - self.config.energy * sent
        self._heard[:] = success[:, None]
        self._counts["slots"] += 1
        self._counts["successes"] += success
        self._counts["energy"] += sent.sum(1)
        self._counts["illegal_actions"] += illegal
        self._slot += 1
        self._fade()
        return self._show(reward, 1.0, ends=self._slot % self.config.slots == 0)

    def local_state(self) -> FloatArray:
        return np.stack([self._gain, self._heard], axis=-1).astype(np.float32)

    def state(self) -> FloatArray:
        return self.local_state().reshape(self.num_envs, -1)

    def statistics(self) -> Statistics:
        return {name: values.copy() for name, values in self._counts.items()}

    def _begin(self) -> None:
        one, each = np.zeros(self.num_envs), np.zeros(self._shape, np.int64)
        self._counts = {"slots": one, "successes": one.copy(), "energy": one.copy(), "illegal_actions": each}
        self._heard = np.zeros(self._shape)
        self._fade()

    def _fade(self) -> None:
        """Rayleigh fading, anew in each slot; power in units of three times its mean."""
        self._random.advance()
        self._gain = np.minimum(-np.log1p(-self._random.uniform(purpose=1)) / 3, 1.0)

    def _show(self, reward: npt.NDArray[Any], duration: float, ends: bool = False) -> EnvStep:
        final, all_act = None, np.ones(self._shape, np.bool_)
        if ends:
            final = self.ended(np.arange(self.num_envs), self.local_state(), self._mask, all_act)
            self._begin()
        of_copies = (
            np.full(self.num_envs, False),
            np.full(self.num_envs, ends),
            np.full(self.num_envs, duration, np.float32),
        )
        rewards, costs = reward.astype(np.float32), np.zeros(self._shape, np.float32)
        return EnvStep(self.local_state(), self._mask, all_act, rewards, costs, *of_copies, final)


register(
    EnvSpec(
        env=Aloha,
        config=AlohaConfig,
        rules={"random": RANDOM},
        metrics=(
            Metric("throughput", "", "higher", lambda s: float(s["successes"].sum() / s["slots"].sum()), "of a slot"),
            Metric("energy", "", "lower", lambda s: float(s["energy"].sum() / s["slots"].sum()), "power of a slot"),
        ),
        description="slotted ALOHA with capture",
        objectives=("throughput",),
    )
)
