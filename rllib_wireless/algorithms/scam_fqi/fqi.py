"""Fitted Q iteration of single agents (paper, eq. 5); what one agent does depends on its own rows and numbers alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rllib_wireless.algorithms.actors import ManagedActor
from rllib_wireless.algorithms.scam_fqi.regressors import Fit, fit_function
from rllib_wireless.algorithms.scam_fqi.settings import SCAMFQISettings
from rllib_wireless.data.returns import later_returns
from rllib_wireless.data.sharing import agent_folders, agent_rows
from rllib_wireless.data.store import Dataset, load_dataset
from rllib_wireless.envs import make_env
from rllib_wireless.envs.base import BoolArray, FloatArray, IntArray

Floats = npt.NDArray[np.float64]


class AgentRows(NamedTuple):
    """The data set D_i of one agent.

    Attributes:
        obs: s_Ni at its decisions, [T, D].
        actions: a_i, [T].
        rewards: r_i until its next decision in the same stream, [T].
        new_obs: s_Ni there, [T, D].
        new_mask: Actions over which a target's maximum runs, [T, A].
        discount: What the maximum counts, [T]; 0 at an end.
        initial_values: What takes the place of the maximum in the first iteration, [T].
    """

    obs: FloatArray
    actions: IntArray
    rewards: Floats
    new_obs: FloatArray
    new_mask: BoolArray
    discount: Floats
    initial_values: Floats


class Progress(NamedTuple):
    """What an iteration did to an agent.

    Attributes:
        next_values: max_a q(s', a) after it, [T]; all that the next iteration needs of this one.
        value: Mean of the targets.
        change: Root mean square by which `next_values` differ from those before.
    """

    next_values: Floats
    value: float
    change: float


@dataclass(frozen=True)
class Problem:
    """What all agents' iterations have in common.

    Args:
        data: The data set's folder.
        env: The environment's name.
        env_config: Its configuration, the sharing graph included.
        settings: Hyper-parameters.
        seed: Seed of all fits.
    """

    data: Path
    env: str
    env_config: dict[str, Any]
    settings: SCAMFQISettings
    seed: int


class Fitter(ManagedActor):
    """Iterates for some agents and keeps their fits; one that is lost is made again from the numbers that led to it."""

    def __init__(self, problem: Problem) -> None:
        self._p = problem
        self._env = make_env(problem.env, **problem.env_config)
        self._num_actions = int(self._env.action_space.n)
        self._folders = agent_folders(problem.data, self._env)
        self._fit = fit_function(problem.settings, self._num_actions)
        self._dataset: Dataset | None = None  # opened last: the joint one serves all agents
        self._rows: dict[str, AgentRows] = {}
        self._fits: dict[str, tuple[int, Fit]] = {}

    def iterate(self, iteration: int, next_values: dict[str, Floats]) -> dict[str, Progress]:
        """One iteration.

        Args:
            iteration: Its number k, from 0.
            next_values: What iteration k - 1 left, by agent.
        """
        progress = {}
        for agent, fit in self.fits(iteration, next_values).items():
            rows, before = self._open(agent), self._begin(agent, iteration, next_values)
            after = _greedy_values(fit, rows)
            value = float(_targets(rows, before).mean()) if len(after) else 0.0
            change = float(np.sqrt(np.mean((after - before) ** 2))) if len(after) else 0.0
            progress[agent] = Progress(after, value, change)
        return progress

    def fits(self, iteration: int, next_values: dict[str, Floats]) -> dict[str, Fit]:
        """The fits of an iteration, given what the one before it left, by agent."""
        return {a: self._fit_of(a, iteration, self._begin(a, iteration, next_values)) for a in next_values}

    def _begin(self, agent: str, iteration: int, next_values: dict[str, Floats]) -> Floats:
        """What takes the place of the maximum in an iteration's targets, [T]."""
        return next_values[agent] if iteration else self._open(agent).initial_values

    def _fit_of(self, agent: str, iteration: int, before: Floats) -> Fit:
        kept = self._fits.get(agent)
        if kept is None or kept[0] != iteration:
            rows = self._open(agent)
            seed = np.random.SeedSequence([self._p.seed, self._env.agents.index(agent), iteration])
            kept = iteration, self._fit(rows.obs, rows.actions, _targets(rows, before), int(seed.generate_state(1)[0]))
            self._fits[agent] = kept
        return kept[1]

    def _open(self, agent: str) -> AgentRows:
        if agent not in self._rows:
            s = self._p.settings
            if self._dataset is None or self._dataset.path != self._folders[agent]:
                self._dataset = load_dataset(self._folders[agent])
            columns = agent_rows(self._dataset, agent, self._env)
            acting = columns.get("acting", np.ones(len(columns["t"]), np.bool_))
            rows = {name: column[acting] for name, column in columns.items()}
            weight = s.gamma ** rows["duration"].astype(np.float64) if s.discount == "time" else s.gamma
            discount = weight * ~rows["terminateds"]
            rewards = rows["rewards"].astype(np.float64)
            monte_carlo = s.initial_values == "monte_carlo"
            self._rows[agent] = AgentRows(
                obs=np.ascontiguousarray(rows["obs"]),
                actions=rows["actions"],
                rewards=rewards,
                new_obs=np.ascontiguousarray(rows["new_obs"]),
                new_mask=rows["new_action_mask"] if s.mask_targets else np.ones_like(rows["new_action_mask"]),
                discount=discount,
                initial_values=later_returns(rows, rewards, discount) if monte_carlo else np.zeros(len(rewards)),
            )
        return self._rows[agent]


def _targets(rows: AgentRows, next_values: Floats) -> Floats:
    targets: Floats = rows.rewards + rows.discount * next_values
    return targets


def _greedy_values(fit: Fit, rows: AgentRows) -> Floats:
    """max_a q(s', a) over the actions of the target; where nothing is known of any, as low as anywhere."""
    best = fit.values(rows.new_obs, rows.new_mask).max(axis=1, initial=-np.inf).astype(np.float64)
    known = np.isfinite(best)
    values: Floats = np.where(known, best, best[known].min(initial=0.0))
    return values
