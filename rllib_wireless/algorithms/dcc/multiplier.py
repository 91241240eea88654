"""The intermediate time scale: the multiplier of each device, around Q-learning on the fast one; one kernel over all devices."""

from typing import Any, NamedTuple

import numpy as np

from rllib_wireless.algorithms.dcc.q_learning import (
    COST,
    DRAWS,
    Schedule,
    greedy_policy,
    learn,
    side_by_side,
)
from rllib_wireless.algorithms.dcc.rollouts import Rollouts, draw_rollouts, roll_out, set_levels
from rllib_wireless.envs.random import jit, stream
from rllib_wireless.envs.task_offloading.device import (
    NUM_ACTIONS,
    OFFLOAD,
    Devices,
    Floats,
    Ints,
    Outcomes,
    Unsigned,
    outcomes,
)

# Purposes of the streams of random numbers.
_LEARN, _ROLLOUT = 200, 201

# Halvings of the interval between the neighbouring multipliers, and doublings before there is one.
_HALVINGS, _DOUBLINGS = 18, 40

SIDE_BY_SIDE = 4
"""Devices that learn in one loop: as many as the processor has in flight, and their tables are still near it."""


@jit
def solve_all(
    devices: Devices,
    agents: Ints,
    limits: Floats,
    prices: Floats,
    schedule: Schedule,
    seed: int,
    numbers: Ints,
    q: Floats,
    visits: Ints,
    multipliers: Floats,
    policies: Floats,
    values: Floats,
    usages: Floats,
) -> None:
    """Learn the local problems of all devices, a few side by side, and group after group.

    Args:
        devices: The devices.
        agents: Index of each in the network, which keys its random numbers, [N].
        limits: K_i, [N].
        prices: Congestion price f(1 + K_-i), [N].
        schedule: How to learn.
        seed: Seed of the run.
        numbers: How many solutions each has been through, which keys what is drawn while learning, [N].
        q: Tables of cost and usage, [N, S, A, 2], changed in place, as all that follows.
        visits: Number of updates of each entry, [N, S, A].
        multipliers: Where the search begins, and where it ended, [N].
        policies: Probabilities of the actions, [N, S, A].
        values: Estimated V_i per slot, [N].
        usages: Estimated C_i per slot, [N].
    """
    policies[:] = 0.0
    for first in range(0, len(limits), SIDE_BY_SIDE):
        group = range(first, min(first + SIDE_BY_SIDE, len(limits)))
        problems = [_problem(devices, i, agents[i], limits[i], prices[i], schedule, seed) for i in group]
        keys = np.array([stream(seed, numbers[i], agents[i], _LEARN) for i in group])
        own = slice(group.start, group.stop)
        last = _ascend(problems, schedule, keys, q[own].reshape(-1, 2), visits[own].reshape(-1), multipliers[own])
        for i in group:
            problem, table = problems[i - first], q[i].reshape(-1, 2)
            if problem.limit <= 0.0:
                found = _never_offload(problem, schedule, table, last[i - first], policies[i])
            else:
                found = _conclude(problem, schedule, table, multipliers[i], policies[i])
            multipliers[i], values[i], usages[i] = found


class Problem(NamedTuple):
    """The local problem of one device."""

    devices: Devices
    table: Outcomes
    rollouts: Rollouts
    limit: float
    price: float


@jit
def _problem(
    devices: Devices, i: int, agent: int, limit: float, price: float, schedule: Schedule, seed: int
) -> Problem:
    table = outcomes(devices, i)
    # The same random numbers in every evaluation of a device: differences of values are then those of policies.
    rollouts = draw_rollouts(devices, table, schedule, stream(seed, 0, agent, _ROLLOUT))
    return Problem(devices, table, rollouts, limit, price)


class Judged(NamedTuple):
    """A deterministic policy and what rollouts say of it."""

    actions: Unsigned
    mass: Floats  # discounted share of slots in each state
    value: float
    used: float


@jit
def _ascend(problems: Any, schedule: Schedule, keys: Any, q: Floats, visits: Ints, multipliers: Floats) -> list[Judged]:
    """Q-learning on the fast time scale, steps of the multipliers on the intermediate one; the last policies on the way.

    At K = 0 no multiplier does what the constraint does: there a device learns without offloading, but for trying it out.
    """
    never = np.array([problem.limit <= 0.0 for problem in problems])
    steps, before = np.full(len(problems), schedule.multiplier_lr), np.zeros(len(problems))
    group, share = side_by_side([problem.table for problem in problems]), schedule.steps // schedule.updates
    rows = len(q) // len(problems)
    prices, slots = np.empty(len(problems)), 1.0 / (1.0 - schedule.gamma)
    epsilon = schedule.epsilon
    for m in range(schedule.updates):
        for g, problem in enumerate(problems):
            prices[g] = problem.price if never[g] else problem.price + multipliers[g]
        learn(group, prices, never, schedule, epsilon, keys, DRAWS * m * share, share, q, visits)
        last = []
        for g, problem in enumerate(problems):
            table = q[g * rows : (g + 1) * rows]
            judged = _judged(problem, schedule, table, prices[g], never[g])
            last.append(judged)
            set_levels(problem.devices, table, judged.actions, slots * judged.value, slots * judged.used)
            if not never[g]:
                excess = judged.used - problem.limit
                multipliers[g], steps[g], before[g] = next_multiplier(
                    multipliers[g], steps[g], before[g], m, excess, schedule
                )
        epsilon *= schedule.epsilon_decay
    return last


@jit
def _never_offload(
    problem: Problem, schedule: Schedule, q: Floats, last: Judged, policy: Floats
) -> tuple[float, float, float]:
    """At K = 0 the smallest multiplier under which it is optimal is the most that one offload would save where a device is.

    Returns it, V and C, as the following.
    """
    saving = 0.0
    for state in range(len(policy)):
        action, row = int(last.actions[state]), NUM_ACTIONS * state
        policy[state, action] = 1.0
        if last.mass[state] > 0.0:
            saving = max(saving, q[row + action, COST] - q[row + OFFLOAD, COST])
    return min(max(saving - problem.price, 0.0), schedule.multiplier_max), last.value, 0.0


@jit
def next_multiplier(
    multiplier: float, step: float, before: float, m: int, excess: float, schedule: Schedule
) -> tuple[float, float, float]:
    """Step m of a multiplier by how far the usage is above its limit; with the step's size and direction, for the next one."""
    if schedule.adaptive:
        # A step that repeats its direction doubles, one that turns halves: multipliers span orders of magnitude.
        sign = 1.0 if excess > 0.0 else -1.0
        if m > 0:
            # No faster than by half of what it is, lest one leap takes it far beyond.
            step = min(2.0 * step, 0.5 * (1.0 + multiplier)) if sign == before else 0.5 * step
        return min(max(multiplier + sign * step, 0.0), schedule.multiplier_max), step, sign
    eta = schedule.multiplier_lr / (m + 1.0) ** schedule.multiplier_exponent
    return min(max(multiplier + eta * excess, 0.0), schedule.multiplier_max), step, before


@jit
def _conclude(
    problem: Problem, schedule: Schedule, q: Floats, multiplier: float, policy: Floats
) -> tuple[float, float, float]:
    """The policy that the table gives: of two neighbouring multipliers, mixed so that the constraint holds with equality."""
    price, limit = problem.price, problem.limit
    loose = _judged(problem, schedule, q, price, False)
    if loose.used <= limit:
        write_mixture(policy, loose, loose, 0.0)
        return 0.0, loose.value + price * loose.used, loose.used
    # Never offloading keeps every constraint.
    tight = _judged(problem, schedule, q, price, True)
    low, high = 0.0, max(multiplier, 1.0)
    found = False
    actions = np.empty(len(policy), np.uint64)
    for k in range(_DOUBLINGS + _HALVINGS):
        middle = high if not found else 0.5 * (low + high)
        greedy_policy(price + middle, q, False, actions)
        # Where it does what one of the two does, it costs what that one costs.
        if _acts_alike(actions, loose):
            new = loose
        elif _acts_alike(actions, tight):
            new = tight
        else:
            new = _judged(problem, schedule, q, price + middle, False)
        if new.used > limit:
            low, loose = middle, new
            if not found:
                high *= 2.0
            if high > schedule.multiplier_max:
                break
        else:
            high, found, tight = middle, True, new
        if (found and k >= _HALVINGS) or (not found and k >= _DOUBLINGS) or high - low < 1e-3:
            break
    weight = (limit - tight.used) / (loose.used - tight.used) if schedule.mix else 0.0
    write_mixture(policy, tight, loose, weight)
    used = (1.0 - weight) * tight.used + weight * loose.used
    return 0.5 * (low + high), (1.0 - weight) * tight.value + weight * loose.value + price * used, used


@jit
def _judged(problem: Problem, schedule: Schedule, q: Floats, price: float, never: bool) -> Judged:
    states = len(problem.table.paid)
    actions, mass = np.empty(states, np.uint64), np.empty(states)
    greedy_policy(price, q, never, actions)
    value, used = roll_out(problem.table, problem.rollouts, actions, schedule, mass)
    return Judged(actions, mass, value, used)


@jit
def _acts_alike(actions: Unsigned, other: Judged) -> bool:
    """Whether a policy does the same in all states that the other one's rollouts visit: its own are the same then."""
    for state in range(len(actions)):
        if other.mass[state] > 0.0 and actions[state] != other.actions[state]:
            return False
    return True


@jit
def write_mixture(policy: Floats, tight: Judged, loose: Judged, weight: float) -> None:
    """The stationary policy [S, A] whose occupation is the mixture of two policies', by how often each was in a state."""
    for state in range(len(policy)):
        a, b = (1.0 - weight) * tight.mass[state], weight * loose.mass[state]
        share = b / (a + b) if a + b > 0.0 else 0.0
        policy[state, tight.actions[state]] += 1.0 - share
        policy[state, loose.actions[state]] += share
