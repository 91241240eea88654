"""All devices together, exactly: what their policies cost, the best constraints, and for two devices the joint optimum.

Devices whose policies look at nothing but their own state move independently of each other. In each slot the number of them that
offload is therefore a sum of independent trials, and the expected congestion of all is E[n f(n)] under its law.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.sparse

from rllib_wireless.envs.random import jit
from rllib_wireless.envs.task_offloading.cmdp import ConstrainedMDP, device_cmdp, solve, start_law
from rllib_wireless.envs.task_offloading.config import TaskOffloadingConfig
from rllib_wireless.envs.task_offloading.device import (
    OFFLOAD,
    Devices,
    Floats,
    Outcomes,
    congestion,
    congestion_slope,
    outcomes,
)
from rllib_wireless.envs.task_offloading.simulator import TaskOffloading
from rllib_wireless.errors import UserError

_minimize: Any = scipy.optimize.minimize


@dataclass(frozen=True)
class JointCost:
    """What policies cost when all devices follow theirs.

    Attributes:
        local: Local cost of all devices in each slot, [T].
        congestion: Expected congestion penalties of all in each slot, [T].
        offloading: Probability that a device offloads in a slot, [T, N].
        gamma: Discount per slot.
    """

    local: Floats
    congestion: Floats
    offloading: Floats
    gamma: float

    @property
    def weights(self) -> Floats:
        """Share of each slot in a discounted mean, [T]."""
        weights = self.gamma ** np.arange(len(self.local))
        shares: Floats = weights / weights.sum()
        return shares

    @property
    def discounted(self) -> float:
        """Discounted cost of all devices per slot: what the metric `discounted_cost` estimates."""
        return float(self.weights @ (self.local + self.congestion))

    @property
    def usages(self) -> Floats:
        """Discounted offload frequency of each device, [N]."""
        usages: Floats = self.weights @ self.offloading
        return usages

    @property
    def offload_frequency(self) -> float:
        """What the metric of this name estimates: plain mean over slots and devices."""
        return float(self.offloading.mean())


def evaluate_jointly(
    env: TaskOffloading, policies: npt.NDArray[np.floating[Any]], slots: int | None = None
) -> JointCost:
    """The expected cost of stationary policies from the environment's start law.

    Args:
        env: The environment.
        policies: Probabilities of actions, [N, S, A].
        slots: Length of an episode; the environment's if not given.

    Raises:
        UserError: Where neither says how long an episode is.
    """
    slots = slots or env.config.episode_slots
    if slots is None:
        raise UserError("episodes of this environment are endless: say over how many slots to evaluate")
    devices, start = env.devices, start_law(env.devices)
    local, offloading = np.zeros(slots), np.zeros((slots, len(env.agents)))
    for i in range(len(env.agents)):
        _propagate(outcomes(devices, i), np.asarray(policies[i], np.float64), start, local, offloading[:, i])
    total = np.arange(len(env.penalty)) * env.penalty
    return JointCost(local, np.array([_law_of_sum(p) @ total for p in offloading]), offloading, env.gamma)


def expected_congestion(frequencies: Floats, penalty: Floats) -> float:
    """E[n f(n)] where device i offloads with probability `frequencies[i]`, whatever the others do."""
    return float(_law_of_sum(frequencies) @ (np.arange(len(penalty)) * penalty))


@jit
def _propagate(table: Outcomes, policy: Floats, law: Floats, local: Floats, offloading: Floats) -> None:
    """Follow the law of one device's state: add its local cost in each slot, [T], and set how likely it offloads."""
    states, actions, count = table.paid.shape
    law, after = law.copy(), np.empty_like(law)
    for t in range(len(local)):
        after[:] = 0.0
        for state in range(states):
            if law[state] == 0.0:
                continue
            for action in range(actions):
                chance = law[state] * policy[state, action]
                if chance == 0.0:
                    continue
                if action == OFFLOAD:
                    offloading[t] += chance
                for o in range(count):
                    share = chance * table.chance[o]
                    after[table.following[state, action, o]] += share
                    local[t] += share * table.paid[state, action, o]
        law[:] = after


@jit
def _law_of_sum(chances: Floats) -> Floats:
    """Law of the number of successes in independent trials, [N + 1]."""
    law = np.zeros(len(chances) + 1)
    law[0] = 1.0
    for i, p in enumerate(chances):
        for n in range(i + 1, 0, -1):
            law[n] += p * (law[n - 1] - law[n])
        law[0] *= 1.0 - p
    return law


@dataclass(frozen=True)
class BestConstraints:
    """A vector of constraints that no small step improves.

    Attributes:
        value: F(K), cost of all devices per slot under the paper's approximation.
        limits: K, [N].
        policies: The exact local solutions, [N, S, A].
    """

    value: float
    limits: Floats
    policies: Floats


def value_of_constraints(
    processes: Sequence[ConstrainedMDP], limits: Floats, config: TaskOffloadingConfig
) -> tuple[float, Floats, Floats]:
    """F(K) = sum_i V_i(K_i, K_-i) by linear programs, its gradient [N] by proposition 3, and the policies [N, S, A]."""
    others = limits.sum() - limits
    prices = congestion(1.0 + others, config.penalty_exponent, config.penalty_scale)
    found = [solve(mdp, k, price) for mdp, k, price in zip(processes, limits, prices, strict=True)]
    slopes = congestion_slope(1.0 + others, config.penalty_exponent, config.penalty_scale)
    coupling = slopes * np.array([f.usage for f in found])
    gradient: Floats = coupling.sum() - coupling - np.array([f.multiplier for f in found])
    return sum(f.value for f in found), gradient, np.stack([f.policy for f in found])


def best_constraints(
    env: TaskOffloading, gamma: float | None = None, starts: int = 4, seed: int = 0
) -> BestConstraints:
    """Search the constraints of least F(K) by exact gradients, from several starts: for a few devices.

    Args:
        env: The environment.
        gamma: Discount per slot, the environment's if not given; 1 for the average criterion.
        starts: The first begins at 1 / (N + 1), the others anywhere below 2 / (N + 1).
        seed: Of the starts.
    """
    gamma = env.gamma if gamma is None else gamma
    n = len(env.agents)
    processes = [device_cmdp(env.devices, i, gamma) for i in range(n)]
    generator = np.random.default_rng(seed)
    first = [np.full(n, 1.0 / (n + 1)), *(generator.random((starts - 1, n)) * 2.0 / (n + 1))]
    ends = [
        _minimize(
            lambda k: value_of_constraints(processes, np.clip(k, 0.0, 1.0), env.config)[:2],
            k,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, 1.0)] * n,
            options={"maxiter": 100},
        ).x
        for k in first
    ]
    found = [value_of_constraints(processes, np.clip(k, 0.0, 1.0), env.config) for k in ends]
    best = int(np.argmin([value for value, _, _ in found]))
    return BestConstraints(found[best][0], ends[best], found[best][2])


def joint_optimum(env: TaskOffloading, tolerance: float = 1e-4) -> float:
    """Least discounted cost per slot of two devices that both see both states, by value iteration on the joint process.

    Args:
        env: An environment of two devices.
        tolerance: By how much the result may be too small or too large, cost per slot.

    Raises:
        UserError: At another number of devices.
    """
    if len(env.agents) != 2:
        raise UserError(f"num_devices = {len(env.agents)}, but the joint optimum is computed for 2")
    moves, costs = zip(*(_by_action(env.devices, i) for i in range(2)), strict=True)
    start = start_law(env.devices)
    values = np.zeros((len(start), len(start)))
    while True:
        best = np.full(values.shape, np.inf)
        for a, first in enumerate(moves[0]):
            halfway = first @ values
            for b, second in enumerate(moves[1]):
                offloading = (a == OFFLOAD) + (b == OFFLOAD)
                now = costs[0][:, a, None] + costs[1][None, :, b] + offloading * env.penalty[offloading]
                np.minimum(best, now + env.gamma * (second @ halfway.T).T, out=best)
        change = best - values
        values = best
        # The optimum lies within gamma / (1 - gamma) times the least and the largest change of the new values.
        low, high = env.gamma * change.min(), env.gamma * change.max()
        if (high - low) / 2.0 < tolerance:
            return float((1.0 - env.gamma) * (start @ values @ start) + (low + high) / 2.0)


def _by_action(devices: Devices, i: int) -> tuple[list[Any], Floats]:
    """Transitions [S, S] under each action, and the local cost [S, A], inf where the action is illegal."""
    mdp = device_cmdp(devices, i, 1.0)
    cost = np.full(mdp.legal.shape, np.inf)
    cost[mdp.state, mdp.action] = mdp.cost
    moves = []
    for action in range(mdp.num_actions):
        pairs = np.flatnonzero(mdp.action == action)
        place: Any = scipy.sparse.csr_array(
            (np.ones(len(pairs)), (mdp.state[pairs], pairs)), shape=(len(mdp.start), len(mdp.state))
        )
        moves.append(place @ mdp.transitions)
    return moves, cost
