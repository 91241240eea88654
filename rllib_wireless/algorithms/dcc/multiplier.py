"""The intermediate time scale: the multiplier of each device, around Q-learning on the fast one; one kernel over all devices."""

import numpy as np

from rllib_wireless.algorithms.dcc.q_learning import Schedule, greedy_policy, learn, roll_out, set_level
from rllib_wireless.envs.random import jit, stream
from rllib_wireless.envs.task_offloading.device import OFFLOAD, Devices, Floats, Ints

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
    cost: Floats,
    usage: Floats,
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
        cost: Table of the local cost, changed in place, as all that follows.
        usage: Table of the usage.
        visits: Number of updates of each entry.
        multipliers: Where the search begins, and where it ended, [N].
        policies: Probabilities of the actions, [N, S, A].
        values: Estimated V_i per slot, [N].
        usages: Estimated C_i per slot, [N].
    """
    for i in range(len(limits)):
        learning = stream(seed, numbers[i], agents[i], _LEARN)
        # The same random numbers in every evaluation of a device: differences of values are then those of policies.
        judging = stream(seed, 0, agents[i], _ROLLOUT)
        if limits[i] <= 0.0:
            _never_offload(
                devices, i, prices[i], schedule, learning, judging, cost[i], usage[i], visits[i], multipliers, policies[i],
                values, usages,
            )  # fmt: skip
            continue
        _ascend(
            devices, i, limits[i], prices[i], schedule, learning, judging, cost[i], usage[i], visits[i], multipliers
        )
        _conclude(
            devices, i, limits[i], prices[i], schedule, judging, cost[i], usage[i], multipliers, policies[i], values, usages
        )  # fmt: skip


@jit
def _learn_and_judge(
    devices: Devices,
    i: int,
    price: float,
    schedule: Schedule,
    epsilon: float,
    never: bool,
    learning: int,
    judging: int,
    update: int,
    cost: Floats,
    usage: Floats,
    visits: Ints,
    actions: Ints,
    mass: Floats,
) -> tuple[float, float]:
    """Learn for one update of the multiplier, roll the greedy policy out, and set the tables' levels by it; cost and usage.

    Fills `actions` with that policy and `mass` with where it was.
    """
    share = schedule.steps // schedule.updates
    learn(devices, i, price, schedule, epsilon, never, learning, 4 * update * share, share, cost, usage, visits)
    greedy_policy(devices, price, cost, usage, never, actions)
    value, used = roll_out(devices, i, actions, schedule, judging, mass)
    set_level(devices, cost, actions, value / (1.0 - schedule.gamma))
    set_level(devices, usage, actions, used / (1.0 - schedule.gamma))
    return value, used


@jit
def _never_offload(
    devices: Devices,
    i: int,
    price: float,
    schedule: Schedule,
    learning: int,
    judging: int,
    cost: Floats,
    usage: Floats,
    visits: Ints,
    multipliers: Floats,
    policy: Floats,
    values: Floats,
    usages: Floats,
) -> None:
    """At K = 0 no multiplier does what the constraint does: learn without offloading, but for trying it out.

    The smallest multiplier under which that is optimal is the most that one offload would save in a state that is visited.
    """
    actions, mass = np.empty(len(cost), np.int64), np.empty(len(cost))
    epsilon, value = schedule.epsilon, 0.0
    for m in range(schedule.updates):
        value = _learn_and_judge(
            devices, i, price, schedule, epsilon, True, learning, judging, m, cost, usage, visits, actions, mass
        )[0]
        epsilon *= schedule.epsilon_decay
    saving = 0.0
    policy[:] = 0.0
    for state in range(len(cost)):
        policy[state, actions[state]] = 1.0
        if mass[state] > 0.0:
            saving = max(saving, cost[state, actions[state]] - cost[state, OFFLOAD])
    multipliers[i] = min(max(saving - price, 0.0), schedule.multiplier_max)
    values[i], usages[i] = value, 0.0


@jit
def _ascend(
    devices: Devices,
    i: int,
    limit: float,
    price: float,
    schedule: Schedule,
    learning: int,
    judging: int,
    cost: Floats,
    usage: Floats,
    visits: Ints,
    multipliers: Floats,
) -> None:
    """Q-learning on the fast time scale, steps of the multiplier on the intermediate one."""
    actions, mass = np.empty(len(cost), np.int64), np.empty(len(cost))
    multiplier, step, before = multipliers[i], schedule.multiplier_lr, 0.0
    epsilon = schedule.epsilon
    for m in range(schedule.updates):
        used = _learn_and_judge(
            devices, i, price + multiplier, schedule, epsilon, False, learning, judging, m, cost, usage, visits, actions, mass
        )[1]  # fmt: skip
        epsilon *= schedule.epsilon_decay
        if schedule.adaptive:
            # A step that repeats its direction doubles, one that turns halves: multipliers span orders of magnitude.
            sign = 1.0 if used > limit else -1.0
            if m > 0:
                # No faster than by half of what it is, lest one leap takes it far beyond.
                step = min(2.0 * step, 0.5 * (1.0 + multiplier)) if sign == before else 0.5 * step
            before = sign
            multiplier = min(max(multiplier + sign * step, 0.0), schedule.multiplier_max)
        else:
            eta = schedule.multiplier_lr / (m + 1.0) ** schedule.multiplier_exponent
            multiplier = min(max(multiplier + eta * (used - limit), 0.0), schedule.multiplier_max)
    multipliers[i] = multiplier


@jit
def _conclude(
    devices: Devices,
    i: int,
    limit: float,
    price: float,
    schedule: Schedule,
    judging: int,
    cost: Floats,
    usage: Floats,
    multipliers: Floats,
    policy: Floats,
    values: Floats,
    usages: Floats,
) -> None:
    """The policy that the tables give: of two neighbouring multipliers, mixed so that the constraint holds with equality."""
    states = len(cost)
    loose, tight = np.empty(states, np.int64), np.empty(states, np.int64)
    loose_mass, tight_mass, mass = np.empty(states), np.empty(states), np.empty(states)
    actions = np.empty(states, np.int64)
    policy[:] = 0.0
    greedy_policy(devices, price, cost, usage, False, loose)
    loose_value, loose_usage = roll_out(devices, i, loose, schedule, judging, loose_mass)
    if loose_usage <= limit:
        multipliers[i] = 0.0
        _write(policy, loose, loose_mass, loose, loose_mass, 0.0)
        values[i], usages[i] = loose_value + price * loose_usage, loose_usage
        return
    # Never offloading keeps every constraint.
    greedy_policy(devices, price, cost, usage, True, tight)
    tight_value, tight_usage = roll_out(devices, i, tight, schedule, judging, tight_mass)
    low, high = 0.0, max(multipliers[i], 1.0)
    found = False
    for k in range(_DOUBLINGS + _HALVINGS):
        multiplier = high if not found else 0.5 * (low + high)
        greedy_policy(devices, price + multiplier, cost, usage, False, actions)
        value, used = roll_out(devices, i, actions, schedule, judging, mass)
        if used > limit:
            low = multiplier
            loose[:], loose_mass[:], loose_value, loose_usage = actions, mass, value, used
            if not found:
                high *= 2.0
            if high > schedule.multiplier_max:
                break
        else:
            high, found = multiplier, True
            tight[:], tight_mass[:], tight_value, tight_usage = actions, mass, value, used
        if (found and k >= _HALVINGS) or (not found and k >= _DOUBLINGS) or high - low < 1e-3:
            break
    multipliers[i] = 0.5 * (low + high)
    weight = (limit - tight_usage) / (loose_usage - tight_usage) if schedule.mix else 0.0
    _write(policy, tight, tight_mass, loose, loose_mass, weight)
    usages[i] = (1.0 - weight) * tight_usage + weight * loose_usage
    values[i] = (1.0 - weight) * tight_value + weight * loose_value + price * usages[i]


@jit
def _write(policy: Floats, tight: Ints, tight_mass: Floats, loose: Ints, loose_mass: Floats, weight: float) -> None:
    """The stationary policy [S, A] whose occupation is the mixture of two policies', by how often each was in a state."""
    for state in range(len(tight)):
        a, b = (1.0 - weight) * tight_mass[state], weight * loose_mass[state]
        share = b / (a + b) if a + b > 0.0 else 0.0
        policy[state, tight[state]] += 1.0 - share
        policy[state, loose[state]] += share
