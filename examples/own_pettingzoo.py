"""A PettingZoo environment of one's own: sensors with batteries on two channels, which leave when their battery is empty.

The class knows nothing of this package; the last line makes it known by a name.

    rllib-wireless collect sensors --import examples/own_pettingzoo.py --policy random --rows all --steps 5000 --out data/sensors
    rllib-wireless train ctde_cql --import examples/own_pettingzoo.py --env sensors --data data/sensors --out runs/sensors
"""

from typing import Any, ClassVar

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv  # type: ignore[import-untyped]
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration, field
from rllib_wireless.envs.parallel import register_parallel


class Sensors(ParallelEnv):  # type: ignore[misc]
    """Each sensor has packets to send. It waits, or sends on channel 1 or 2, and a channel carries one packet at a time."""

    metadata: ClassVar[dict[str, Any]] = {"name": "sensors"}

    def __init__(self, count: int = 3, battery: int = 12, length: int = 40) -> None:
        self.possible_agents = [f"sensor_{i}" for i in range(count)]
        self.agents: list[str] = []
        self._battery, self._length = battery, length

    def observation_space(self, agent: str) -> gymnasium.spaces.Dict:
        return gymnasium.spaces.Dict(
            {
                "observation": gymnasium.spaces.Box(0.0, 1.0, (3,), np.float32),  # battery, queue, time
                "action_mask": gymnasium.spaces.MultiBinary(3),
            }
        )

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Discrete(3)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        self._random, self._t = np.random.default_rng(seed), 0
        self.agents = self.possible_agents[:]
        self._charge = dict.fromkeys(self.agents, self._battery)
        self._queue = dict.fromkeys(self.agents, 1)
        return {agent: self._seen(agent) for agent in self.agents}, {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, int]) -> tuple[dict[str, Any], ...]:
        self._t += 1
        taken = list(actions.values())
        rewards = {}
        for agent, action in actions.items():
            arrived = action > 0 and taken.count(action) == 1
            rewards[agent] = float(arrived) - 0.1 * (action > 0)
            self._charge[agent] -= action > 0
            self._queue[agent] = min(self._queue[agent] - arrived + int(self._random.random() < 0.5), 4)
        empty = {agent: self._charge[agent] == 0 for agent in actions}
        over = dict.fromkeys(actions, self._t == self._length)
        self.agents = [agent for agent in self.agents if not (empty[agent] or over[agent])]
        return {agent: self._seen(agent) for agent in actions}, rewards, empty, over, {agent: {} for agent in actions}

    def _seen(self, agent: str) -> dict[str, Any]:
        parts = (self._charge[agent] / self._battery, self._queue[agent] / 4, self._t / self._length)
        can_send = int(self._queue[agent] > 0)
        return {"observation": np.array(parts, np.float32), "action_mask": np.array([1, can_send, can_send], np.int8)}


@dataclass(frozen=True, config=CONFIG)
class SensorsConfig(Configuration):
    """Sensors with batteries."""

    owner: ClassVar[str] = "sensors"

    count: int = field(3, "Number of sensors.", ge=1)
    battery: int = field(12, "Packets that a battery lasts for.", ge=1)


register_parallel(
    "sensors", lambda c: Sensors(c.count, c.battery), SensorsConfig, gamma=0.95, description="sensors with batteries"
)
