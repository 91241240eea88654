"""Constrained Markov decision processes as sparse matrices, and their exact solution as a linear program.

A discounted process with start law mu has the (normalised) discounted occupation measure rho over legal state-action pairs,

    min  sum rho r   s.t.  sum_a rho(s', a) - gamma sum P(s' | s, a) rho(s, a) = (1 - gamma) mu(s'),   sum rho c <= K,   rho >= 0

(Altman, Constrained Markov Decision Processes, 1999, theorem 3.3); gamma = 1 stands for the average criterion, with sum rho = 1 in
place of the start law. Values, frequencies and multipliers are therefore all per slot, and dV/dK = -lambda without a factor.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg

from rllib_wireless.envs.task_offloading.device import (
    NUM_ACTIONS,
    OFFLOAD,
    START_FRESH,
    START_FULL,
    Devices,
    Floats,
    Ints,
    legal_actions,
    outcomes,
)
from rllib_wireless.errors import UserError

# The stubs of scipy have an overload per format and type of number, of which none fits what is built here.
Sparse = Any
_linprog: Any = scipy.optimize.linprog

# A pair that a vertex of the program gives less than this is not in its support.
_NO_MASS = 1e-11

# Value iteration over the states that an optimal policy does not visit.
_MOST_SWEEPS, _TOLERANCE = 10_000, 1e-7


@dataclass(frozen=True)
class ConstrainedMDP:
    """A process with P legal state-action pairs over S states.

    Args:
        state: State of each pair, [P], ascending, every state at least once.
        action: Action of each pair, [P].
        num_actions: A.
        transitions: Probabilities of the next state, [P, S].
        cost: Cost of each pair that is minimised, [P].
        usage: Cost of each pair that is constrained, [P]; here 1 where the pair offloads.
        start: Law of the first state, [S].
        gamma: Discount per slot; 1 for the average criterion.
    """

    state: Ints
    action: Ints
    num_actions: int
    transitions: Sparse
    cost: Floats
    usage: Floats
    start: Floats
    gamma: float

    @property
    def legal(self) -> npt.NDArray[np.bool_]:
        """Which actions are legal, [S, A]."""
        legal = np.zeros((len(self.start), self.num_actions), np.bool_)
        legal[self.state, self.action] = True
        return legal

    def balance(self) -> tuple[Sparse, Floats]:
        """The equations that occupation measures satisfy: a matrix and its right-hand side."""
        pairs, states = self.transitions.shape
        of_state = scipy.sparse.csr_array((np.ones(pairs), (self.state, np.arange(pairs))), shape=(states, pairs))
        flow: Sparse = (of_state - self.gamma * self.transitions.T).tocsr()
        if self.gamma < 1.0:
            return flow, (1.0 - self.gamma) * self.start
        total: Sparse = scipy.sparse.csr_array(np.ones((1, pairs)))
        return scipy.sparse.vstack([flow, total], format="csr"), np.append(np.zeros(states), 1.0)


@dataclass(frozen=True)
class Solution:
    """A policy of a constrained process and what it costs.

    Attributes:
        value: Cost per slot V.
        usage: Constrained cost per slot C.
        occupation: Share of slots of each pair, [P].
        policy: Probability of each action, [S, A]; 0 for illegal ones.
        multiplier: Smallest Lagrange multiplier of the constraint, minus the right derivative of V by the limit K.
    """

    value: float
    usage: float
    occupation: Floats
    policy: Floats
    multiplier: float


def device_cmdp(devices: Devices, i: int, gamma: float) -> ConstrainedMDP:
    """Device i on its own: its local cost, without congestion.

    Args:
        devices: The devices.
        i: Index of the device.
        gamma: Discount per slot; 1 for the average criterion.
    """
    state, action = np.nonzero(legal_actions(devices))
    table = outcomes(devices, i)
    following = table.following[state, action]
    rows = np.repeat(np.arange(len(state)), following.shape[1])
    return ConstrainedMDP(
        state=state,
        action=action,
        num_actions=NUM_ACTIONS,
        transitions=scipy.sparse.csr_array(
            (np.tile(table.chance, len(state)), (rows, following.ravel())), shape=(len(state), devices.num_states)
        ),
        cost=table.paid[state, action] @ table.chance,
        usage=(action == OFFLOAD).astype(np.float64),
        start=start_law(devices),
        gamma=gamma,
    )


def start_law(devices: Devices) -> Floats:
    """Probability of each state at the begin of an episode, [S]."""
    law = np.zeros((devices.max_age, devices.num_levels))
    ages = slice(0, 1) if devices.start in (START_FRESH, START_FULL) else slice(None)
    lowest = devices.capacity if devices.start == START_FULL else 0
    law[ages, lowest - devices.lowest :] = 1.0
    law /= law.sum()
    return law.reshape(-1)


def assumption_1(mdp: ConstrainedMDP) -> float:
    """By how much offloading alone is cheaper than the best other action of the same slot, in the state where it is least so.

    Assumption 1 of the paper holds for a device where this is not negative.
    """
    offloads = mdp.usage > 0.0
    alone = np.full(len(mdp.start), np.inf)
    alone[mdp.state[offloads]] = mdp.cost[offloads]
    return float((mdp.cost - alone[mdp.state])[~offloads].min())


def solve(mdp: ConstrainedMDP, limit: float, price: float = 0.0) -> Solution:
    """The policy of least cost among those that keep the constraint.

    Args:
        mdp: The process.
        limit: K, the largest usage per slot.
        price: What usage costs beside `mdp.cost`: the congestion f(1 + K_-i) that the others make.

    Raises:
        UserError: Where no policy keeps the constraint.
    """
    matrix, right = mdp.balance()
    cost = mdp.cost + price * mdp.usage
    found = _linprog(
        cost, A_ub=mdp.usage[None], b_ub=[limit], A_eq=matrix, b_eq=right, bounds=(0, None), method="highs-ds"
    )
    if found.status != 0:
        raise UserError(f"no policy keeps the usage per slot below K = {limit:g}: {found.message}")
    occupation = np.maximum(found.x, 0.0)
    multiplier = max(-float(found.ineqlin.marginals[0]), 0.0)
    policy = _policy(mdp, occupation, cost + multiplier * mdp.usage, found.eqlin.marginals[: len(mdp.start)])
    usage = float(mdp.usage @ occupation)
    if multiplier > 0.0 and not ((policy > 0.0).sum(1) > 1).any():
        # With a randomised state the multiplier is unique; a vertex without one lies at a kink of V, or at K = 0.
        multiplier = _smallest_multiplier(mdp, matrix, cost, occupation > _NO_MASS)
    return Solution(float(cost @ occupation), usage, occupation, policy, multiplier)


def evaluate_policy(mdp: ConstrainedMDP, policy: Floats, price: float = 0.0) -> Solution:
    """What a given policy [S, A] costs; the multiplier is 0, as nothing is optimised.

    Under the average criterion all states must be reachable from each other under the policy, or the answer is not unique.
    """
    weight = policy[mdp.state, mdp.action]
    states = len(mdp.start)
    chosen: Sparse = scipy.sparse.csr_array((weight, (mdp.state, np.arange(len(weight)))), shape=(states, len(weight)))
    chain = chosen @ mdp.transitions
    if mdp.gamma < 1.0:
        visits = scipy.sparse.linalg.spsolve(
            (scipy.sparse.eye_array(states) - mdp.gamma * chain.T).tocsc(), (1.0 - mdp.gamma) * mdp.start
        )
    else:
        equations = np.vstack([np.eye(states) - chain.T.toarray(), np.ones(states)])
        visits = np.linalg.lstsq(equations, np.append(np.zeros(states), 1.0), rcond=None)[0]
    occupation = visits[mdp.state] * weight
    usage = float(mdp.usage @ occupation)
    return Solution(float(mdp.cost @ occupation) + price * usage, usage, occupation, policy, 0.0)


def _policy(mdp: ConstrainedMDP, occupation: Floats, cost: Floats, values: Floats) -> Floats:
    """The policy [S, A]: rho(s, a) / sum rho(s, .) where a state is visited, elsewhere what is best on the way back.

    Best is the least cost to go, with the multiplier's share in it; under the average criterion, the least time.

    Args:
        mdp: The process.
        occupation: rho, [P].
        cost: Cost of each pair with that share, [P].
        values: Cost to go, [S], right where a state is visited.
    """
    mass = np.zeros((len(mdp.start), mdp.num_actions))
    mass[mdp.state, mdp.action] = np.where(occupation > _NO_MASS, occupation, 0.0)
    unvisited = mass.sum(1) == 0.0
    if mdp.gamma == 1.0:
        cost, values = np.ones(len(cost)), np.zeros(len(values))
    values = values.copy()
    first = np.searchsorted(mdp.state, np.arange(len(values)))
    for _ in range(_MOST_SWEEPS):
        to_go = cost + mdp.gamma * (mdp.transitions @ values)
        change = np.minimum.reduceat(to_go, first)[unvisited] - values[unvisited]
        values[unvisited] += change
        if np.abs(change).max(initial=0.0) < _TOLERANCE:
            break
    table = np.full(mass.shape, np.inf)
    table[mdp.state, mdp.action] = to_go
    mass[unvisited, table[unvisited].argmin(1)] = 1.0
    mass /= mass.sum(1, keepdims=True)
    return mass


def _smallest_multiplier(mdp: ConstrainedMDP, matrix: Sparse, cost: Floats, support: npt.NDArray[np.bool_]) -> float:
    """Least lambda over all optima of the dual: those are its feasible points that are tight where an optimal rho has mass."""
    stack: Any = scipy.sparse.hstack
    columns = stack([matrix.T, -mdp.usage[:, None]], format="csr")
    objective = np.zeros(columns.shape[1])
    objective[-1] = 1.0
    free: list[tuple[float | None, float | None]] = [(None, None)] * (columns.shape[1] - 1)
    found = _linprog(
        objective,
        A_ub=columns[~support],
        b_ub=cost[~support],
        A_eq=columns[support],
        b_eq=cost[support],
        bounds=[*free, (0, None)],
        method="highs-ds",
    )
    assert found.status == 0, found.message
    return float(found.x[-1])
