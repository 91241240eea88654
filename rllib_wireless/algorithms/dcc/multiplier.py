"""The intermediate time scale: the multiplier of each device, around Q-learning on the fast one; one kernel over all devices."""

from typing import NamedTuple

import numpy as np

from rllib_wireless.algorithms.dcc.q_learning import (
    COST,
    DRAWS,
    Schedule,
    greedy_policy,
    learn,
    roll_out,
    set_levels,
)
from rllib_wireless.envs.random import jit, stream
from rllib_wireless.envs.task_offloading.device import OFFLOAD, Devices, Floats, Ints, Outcomes, outcomes

# Purposes of the streams of random numbers.
_LEARN, _ROLLOUT = 200, 201

# Halvings of the interval between the neighbouring multipliers, and doublings before there is one.
_HALVINGS, _DOUBLINGS = 18, 40


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
    """Learn the local problems of all devices, one after the other.

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
    for i in range(len(limits)):
        learning = stream(seed, numbers[i], agents[i], _LEARN)
        # The same random numbers in every evaluation of a device: differences of values are then those of policies.
        judging = stream(seed, 0, agents[i], _ROLLOUT)
        problem = Problem(devices, outcomes(devices, i), limits[i], prices[i], learning, judging)
        policies[i] = 0.0
        if limits[i] <= 0.0:
            found = _never_offload(problem, schedule, q[i], visits[i], policies[i])
        else:
            multiplier = _ascend(problem, schedule, q[i], visits[i], multipliers[i])
            found = _conclude(problem, schedule, q[i], multiplier, policies[i])
        multipliers[i], values[i], usages[i] = found


class Problem(NamedTuple):
    """The local problem of one device."""

    devices: Devices
    table: Outcomes
    limit: float
    price: float
    learning: int  # streams of random numbers
    judging: int


@jit
def _learn_and_judge(
    problem: Problem,
    price: float,
    schedule: Schedule,
    epsilon: float,
    never: bool,
    update: int,
    q: Floats,
    visits: Ints,
    actions: Ints,
    mass: Floats,
) -> tuple[float, float]:
    """Learn for one update of the multiplier, roll the greedy policy out, and set the table's levels by it; cost and usage.

    Fills `actions` with that policy and `mass` with where it was.
    """
    share = schedule.steps // schedule.updates
    first = DRAWS * update * share
    learn(problem.table, price, schedule, epsilon, never, problem.learning, first, share, q, visits)
    greedy_policy(price, q, never, actions)
    value, used = roll_out(problem.devices, problem.table, actions, schedule, problem.judging, mass)
    slots = 1.0 / (1.0 - schedule.gamma)
    set_levels(problem.devices, q, actions, slots * value, slots * used)
    return value, used


@jit
def _never_offload(
    problem: Problem, schedule: Schedule, q: Floats, visits: Ints, policy: Floats
) -> tuple[float, float, float]:
    """At K = 0 no multiplier does what the constraint does: learn without offloading, but for trying it out.

    The smallest multiplier under which that is optimal is the most that one offload would save in a state that is visited.
    Returns it, V and C, as the following.
    """
    actions, mass = np.empty(len(q), np.int64), np.empty(len(q))
    epsilon, value = schedule.epsilon, 0.0
    for m in range(schedule.updates):
        value, _ = _learn_and_judge(problem, problem.price, schedule, epsilon, True, m, q, visits, actions, mass)
        epsilon *= schedule.epsilon_decay
    saving = 0.0
    for state in range(len(q)):
        policy[state, actions[state]] = 1.0
        if mass[state] > 0.0:
            saving = max(saving, q[state, actions[state], COST] - q[state, OFFLOAD, COST])
    return min(max(saving - problem.price, 0.0), schedule.multiplier_max), value, 0.0


@jit
def _ascend(problem: Problem, schedule: Schedule, q: Floats, visits: Ints, multiplier: float) -> float:
    """Q-learning on the fast time scale, steps of the multiplier on the intermediate one; where it ends."""
    actions, mass = np.empty(len(q), np.int64), np.empty(len(q))
    step, before = schedule.multiplier_lr, 0.0
    epsilon = schedule.epsilon
    for m in range(schedule.updates):
        price = problem.price + multiplier
        _, used = _learn_and_judge(problem, price, schedule, epsilon, False, m, q, visits, actions, mass)
        epsilon *= schedule.epsilon_decay
        multiplier, step, before = next_multiplier(multiplier, step, before, m, used - problem.limit, schedule)
    return multiplier


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
    actions = np.empty(len(q), np.int64)
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


class Judged(NamedTuple):
    """A deterministic policy and what rollouts say of it."""

    actions: Ints
    mass: Floats  # discounted share of slots in each state
    value: float
    used: float


@jit
def _judged(problem: Problem, schedule: Schedule, q: Floats, price: float, never: bool) -> Judged:
    actions, mass = np.empty(len(q), np.int64), np.empty(len(q))
    greedy_policy(price, q, never, actions)
    value, used = roll_out(problem.devices, problem.table, actions, schedule, problem.judging, mass)
    return Judged(actions, mass, value, used)


@jit
def _acts_alike(actions: Ints, other: Judged) -> bool:
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
