"""What a card counts while data is collected: rows, returns and the environment's metrics."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rllib_wireless.data.card import AgentCard
from rllib_wireless.data.fragments import Fragment
from rllib_wireless.envs.base import BoolArray, EnvStep, IntArray, Statistics
from rllib_wireless.envs.registry import Metric


class Tally:
    """Counts over all that is collected.

    Args:
        metrics: The environment's metrics.
        agents: Names of the agents.

    Attributes:
        num_episodes: Episodes that came to their end.
    """

    def __init__(self, metrics: Sequence[Metric], agents: tuple[str, ...]) -> None:
        self._metrics, self._agents = metrics, agents
        self._rows = dict.fromkeys(agents, 0)
        self._dropped: IntArray = np.zeros(len(agents), np.int64)
        self._ended: list[npt.NDArray[np.float64]] = []
        self._unfinished: list[npt.NDArray[np.float64]] = []
        self._statistics: list[Statistics] = []
        self.num_episodes = 0

    def begin(self, num_envs: int) -> None:
        """Begin with new copies."""
        self._live: BoolArray = np.ones(num_envs, np.bool_)
        self._steps: IntArray = np.zeros(num_envs, np.int64)
        self._return = np.zeros((num_envs, len(self._agents)))

    def add(self, step: EnvStep) -> None:
        """Take in one step of every copy."""
        self._return += step.reward
        self._steps += 1
        if step.final is None:
            return
        copies = step.final.copies
        live = self._live[copies]
        self._ended.append(self._return[copies[live]])
        self._statistics.append({name: values[live] for name, values in step.final.statistics.items()})
        self.num_episodes += int(live.sum())
        self._return[copies] = 0.0
        self._steps[copies] = 0

    def stop(self, copies: IntArray, statistics: Statistics) -> None:
        """Count these copies' running episodes as they are and no more of them."""
        chosen = copies[self._live[copies] & (self._steps[copies] > 0)]
        self._unfinished.append(self._return[chosen])
        self._statistics.append({name: values[chosen] for name, values in statistics.items()})
        self._live[copies] = False

    def count_rows(self, fragment: Fragment) -> None:
        """Count the rows of a fragment."""
        for agent, columns in fragment.rows.items():
            self._rows[agent] += len(columns["t"])

    def count_dropped(self, dropped: IntArray) -> None:
        """Count transitions left out, [N]."""
        self._dropped += dropped

    def agent_cards(self) -> dict[str, AgentCard]:
        """Rows and returns by agent."""
        returns = np.concatenate(self._ended if self.num_episodes else self._unfinished)
        return {
            agent: AgentCard(
                transitions=self._rows[agent],
                dropped=int(self._dropped[i]),
                return_mean=float(returns[:, i].mean()),
                return_std=float(returns[:, i].std()),
            )
            for i, agent in enumerate(self._agents)
        }

    def metrics(self) -> dict[str, float | None]:
        """The environment's metrics over everything collected; None where one is not defined."""
        pooled = {name: np.concatenate([s[name] for s in self._statistics]) for name in self._statistics[0]}
        values = {metric.name: metric.reduce(pooled) for metric in self._metrics}
        return {name: value if np.isfinite(value) else None for name, value in values.items()}
