"""SCAM-FQI: scalable multi-agent fitted Q iteration (Zamboni, Brunetti & Restelli, 2025)."""

from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from typing_extensions import override

from rllib_wireless.algorithms.actors import ActorPool
from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm, OfflineMultiAgentConfig
from rllib_wireless.algorithms.requirements import Requirements
from rllib_wireless.algorithms.scam_fqi.fqi import Fitter, Floats, Problem, Progress
from rllib_wireless.algorithms.scam_fqi.regressors import Fit, ForestFit, NetworkFit, fit_function
from rllib_wireless.algorithms.scam_fqi.settings import SCAMFQISettings
from rllib_wireless.data.card import read_card
from rllib_wireless.data.sharing import agent_folders
from rllib_wireless.envs import BatchedEnv
from rllib_wireless.policies import NetworkPolicy, PortablePolicy
from rllib_wireless.policies.trees import Forests, TreesPolicy


class SCAMFQIConfig(OfflineMultiAgentConfig):
    r"""Configuration of SCAM-FQI.

    Every agent i has rows of its own, D_i, with the states s_Ni of those that share theirs with it. Iteration k fits

    .. math:: \hat q_i^k = \arg\min_f \sum_{D_i} \left( f(s_{N_i}, a_i) - \bar r_i
              - \gamma \max_{a'} \hat q_i^{k-1}(s'_{N_i}, a') \right)^2

    (eq. 5), where s' is what it sees at its next decision in the same stream, about the same product say; the policy takes the
    action of the largest value. One iteration of `train()` is one of these for all agents.

    .. code-block:: python

        config = (
            SCAMFQIConfig()
            .environment("production_scheduling")
            .sharing(radius=1, observation="compressed")
            .offline_data(input_="data/uniform")
            .training(fqi_iterations=10, min_samples_leaf=5)
        )

    A joint data set with recorded states serves every graph and form of sharing; a folder of agents' own data sets holds what
    each of them saw. Its fields are those of `SCAMFQISettings`.
    """

    settings = SCAMFQISettings
    requirements = Requirements(layout="any")

    def __init__(self, algo_class: type["SCAMFQI"] | None = None) -> None:
        super().__init__(algo_class=algo_class or SCAMFQI)

    def sharing(
        self, *, radius: int | None = None, observation: str | None = None, graph: Path | str | None = None
    ) -> Self:
        """Say who sees what of whom: fields of the environment, whose sharing graph it is.

        Args:
            radius: Each agent sees those within so many links; the paper's d is the radius plus one.
            observation: `full`, or `compressed` to what is little.
            graph: A file that gives each agent those it sees, in place of a radius.
        """
        fields = {"sharing_radius": radius, "observation": observation, "sharing_graph": graph and str(graph)}
        given = {name: value for name, value in fields.items() if value is not None}
        return self.environment(env_config={**self.env_config, **given})

    @override
    def validate(self) -> None:
        super().validate()
        fit_function(self.parsed(), int(self.action_space.n))

    @override
    def parsed(self) -> SCAMFQISettings:
        return cast(SCAMFQISettings, super().parsed())


class SCAMFQI(OfflineMultiAgentAlgorithm):
    """The driver: agents' numbers go to the fitters and come back; fits stay with those until a policy is asked for."""

    config: SCAMFQIConfig

    @classmethod
    @override
    def get_default_config(cls) -> SCAMFQIConfig:
        return SCAMFQIConfig()

    @classmethod
    @override
    def own_bundles(cls, config: Any) -> list[dict[str, float]]:
        return [{"CPU": 1.0}] * config.num_fitter_actors

    @override
    def prepare(self, env: BatchedEnv) -> None:
        self.settings, self._env = self.config.parsed(), env
        data = Path(self.config.input_)
        problem = Problem(data, env.name, dict(self.config.env_config), self.settings, self.config.seed)
        folders = agent_folders(data, env)
        count = self.settings.num_fitter_actors
        self._blocks = _balanced(
            {agent: read_card(f).agents[agent].transitions for agent, f in folders.items()}, max(count, 1)
        )
        self._pool = ActorPool(Fitter, [{"problem": problem}] * count) if count else None
        self._fitter = None if count else Fitter(problem)
        self.done = 0
        self._before: dict[str, Floats] = {}  # what the newest fits were made from
        self._after: dict[str, Floats] = {agent: np.zeros(0) for agent in folders}
        self._policy: PortablePolicy | None = None

    @property
    @override
    def share_done(self) -> float:
        return self.done / self.settings.fqi_iterations

    @override
    def training_step(self) -> None:
        progress: dict[str, Progress] = self._ask("iterate", self.done, self._after)
        self._before, self._after = self._after, {agent: p.next_values for agent, p in progress.items()}
        self.done += 1
        self._policy = None
        self._result = {
            "value": float(np.mean([p.value for p in progress.values()])),
            "change": float(np.mean([p.change for p in progress.values()])),
        }

    @override
    def step(self) -> dict[str, Any]:
        result: dict[str, Any] = super().step()
        return {**result, "learners": {"agents": self._result}}

    @override
    def policy(self) -> PortablePolicy | None:
        if self.done and self._policy is None:
            fits = self._ask("fits", self.done - 1, self._before)
            self._policy = _policy_of(
                [fits[agent] for agent in self._env.agents if agent in fits], self._env, self.settings
            )
        return self._policy

    @override
    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        own = {"done": self.done, "before": self._before, "after": self._after}
        return {**super().get_state(components, not_components=not_components, **kwargs), "scam_fqi": own}

    @override
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        own = state["scam_fqi"]
        self.done, self._before, self._after = own["done"], own["before"], own["after"]
        self._policy = None

    @override
    def cleanup(self) -> None:
        if self._pool is not None:
            self._pool.stop()
        super().cleanup()

    def _ask(self, method: str, iteration: int, next_values: dict[str, Floats]) -> dict[str, Any]:
        """Have all agents' work done, each block by the fitter that has its rows; by another where that one was lost."""
        pieces = [{"iteration": iteration, "next_values": {a: next_values[a] for a in block}} for block in self._blocks]
        if self._fitter is not None:
            answers = [getattr(self._fitter, method)(**piece) for piece in pieces]
        else:
            assert self._pool is not None
            answers = self._pool.map(method, pieces, timeout_s=self.settings.actor_timeout_s)
        found: dict[str, Any] = {agent: value for answer in answers for agent, value in answer.items()}
        return {agent: found[agent] for agent in next_values}


def _balanced(rows: dict[str, int], count: int) -> list[list[str]]:
    """Agents in blocks with about as many rows each: the next largest goes where there are fewest."""
    blocks: list[list[str]] = [[] for _ in range(min(count, len(rows)))]
    loads = [0] * len(blocks)
    for agent in sorted(rows, key=lambda a: -rows[a]):
        least = int(np.argmin(loads))
        blocks[least].append(agent)
        loads[least] += rows[agent]
    return blocks


def _policy_of(fits: list[Fit], env: BatchedEnv, s: SCAMFQISettings) -> PortablePolicy:
    forests = [f.forests for f in fits if isinstance(f, ForestFit)]
    if forests:
        return TreesPolicy(Forests.join(forests), env.observation_space.shape[0], env.agents, s.mode, s.epsilon)
    networks = [f.network for f in fits if isinstance(f, NetworkFit)]
    return NetworkPolicy.stack(
        [NetworkPolicy(n, [agent], s.mode, s.epsilon) for n, agent in zip(networks, env.agents, strict=True)]
    )
