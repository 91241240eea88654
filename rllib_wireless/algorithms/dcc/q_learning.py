"""The fast time scale: tabular Q-learning of one device at a price of offloading, compiled.

Q-learning keeps two values of an action, its local cost and its usage, both for the policy that is greedy in cost + price * usage.
The congestion price and the multiplier are one number there, so the table stays right when it moves. Illegal actions cost inf.
"""

from typing import NamedTuple, Self

import numpy as np

from rllib_wireless.algorithms.dcc.settings import DCCSettings
from rllib_wireless.envs.random import jit, stream_uniform
from rllib_wireless.envs.task_offloading.device import (
    NUM_ACTIONS,
    OFFLOAD,
    PROCESS,
    WAIT,
    Devices,
    Floats,
    Ints,
    Outcomes,
    legal_actions,
    pick_outcome,
    start_state,
)

COST, USAGE = range(2)
"""The two values of an action."""

DRAWS = 3
"""Random numbers that a step of learning may take."""

# Points, equally spread, at which the mean over the start law is taken.
_STARTS, _GOLDEN = 256, 0.6180339887498949


class Schedule(NamedTuple):
    """The numbers of `DCCSettings` that the kernel needs."""

    steps: int
    updates: int
    rate: float  # of the first update of a pair; the n-th has rate / (1 + slowdown n)
    slowdown: float
    epsilon: float
    epsilon_decay: float
    episode_steps: int
    rollouts: int
    rollout_steps: int
    multiplier_lr: float
    multiplier_max: float
    multiplier_exponent: float
    adaptive: bool
    mix: bool
    gamma: float

    @classmethod
    def of(cls, settings: DCCSettings, gamma: float) -> Self:
        """The schedule of one solution of all local problems."""
        return cls(
            steps=settings.steps,
            updates=settings.multiplier_updates,
            rate=settings.q_lr,
            slowdown=settings.q_lr * (1.0 - gamma),
            epsilon=settings.epsilon,
            epsilon_decay=settings.epsilon_decay,
            episode_steps=settings.learning_episode_slots,
            rollouts=settings.rollouts,
            rollout_steps=settings.rollout_slots,
            multiplier_lr=settings.multiplier_lr,
            multiplier_max=settings.multiplier_max,
            multiplier_exponent=settings.multiplier_exponent,
            adaptive=settings.multiplier_step == "adaptive",
            mix=settings.randomize,
            gamma=gamma,
        )


class Tables(NamedTuple):
    """What Q-learning knows, of N devices."""

    q: Floats  # [N, S, A, 2] local cost and usage from here on
    visits: Ints  # [N, S, A] number of updates

    @classmethod
    def empty(cls, devices: Devices) -> Self:
        """Tables of zeros, which are optimistic, as costs are positive."""
        shape = (len(devices.harvest), devices.num_states, NUM_ACTIONS)
        q = np.zeros((*shape, 2))
        q[:, ~legal_actions(devices), COST] = np.inf
        return cls(q, np.zeros(shape, np.int64))


@jit
def learn(
    table: Outcomes,
    price: float,
    schedule: Schedule,
    epsilon: float,
    never: bool,
    key: int,
    first: int,
    steps: int,
    q: Floats,
    visits: Ints,
) -> None:
    """Q-learning for some steps, in short episodes that begin anywhere.

    Args:
        table: The device.
        price: What usage costs, the multiplier included.
        schedule: How to learn.
        epsilon: Probability of a random legal action.
        never: Whether only random actions offload.
        key: Stream of the random numbers.
        first: Counter of the first one; a step takes at most `DRAWS`.
        steps: How many.
        q: Cost and usage [S, A, 2], changed in place, as the following.
        visits: Number of updates of each entry, [S, A].
    """
    state, greedy, left = 0, 0, 0
    for t in range(steps):
        counter = first + DRAWS * t
        if left == 0:
            state = int(stream_uniform(key, counter + 2) * len(q))
            greedy = _best(q, price, state, never)
            left = schedule.episode_steps
        left -= 1
        action, u = greedy, stream_uniform(key, counter)
        if u < epsilon:
            action = explore(q, state, u / epsilon)
        outcome = pick_outcome(table, stream_uniform(key, counter + 1))
        following = table.following[state, action, outcome]
        # It is taken at the next step, unless that explores; where a slot changes nothing, it may be one update old.
        greedy = _best(q, price, following, never)
        rate = schedule.rate / (1.0 + schedule.slowdown * visits[state, action])
        visits[state, action] += 1
        paid, used = table.paid[state, action, outcome], 1.0 if action == OFFLOAD else 0.0
        q[state, action, COST] += rate * (paid + schedule.gamma * q[following, greedy, COST] - q[state, action, COST])
        q[state, action, USAGE] += rate * (
            used + schedule.gamma * q[following, greedy, USAGE] - q[state, action, USAGE]
        )
        state = following


@jit
def explore(q: Floats, state: int, u: float) -> int:
    """A legal action, all alike, by a uniform number."""
    if q[state, PROCESS, COST] < np.inf:
        return int(3.0 * u)
    return OFFLOAD if u < 0.5 else WAIT


@jit
def _best(q: Floats, price: float, state: int, never: bool) -> int:
    """The action of least cost + price * usage; the first of equals."""
    best, least = 0, q[state, 0, COST] + price * q[state, 0, USAGE]
    value = q[state, PROCESS, COST] + price * q[state, PROCESS, USAGE]
    if value < least:
        best, least = PROCESS, value
    value = q[state, OFFLOAD, COST] + price * q[state, OFFLOAD, USAGE]
    if value < least and not never:
        best = OFFLOAD
    return best


@jit
def greedy_policy(price: float, q: Floats, never: bool, actions: Ints) -> None:
    """The greedy action of each state, [S]; without offloading if `never`."""
    for state in range(len(actions)):
        actions[state] = _best(q, price, state, never)


@jit
def roll_out(
    devices: Devices, table: Outcomes, actions: Ints, schedule: Schedule, key: int, mass: Floats
) -> tuple[float, float]:
    """Local cost and usage per slot, discounted, of a deterministic policy in episodes of the device's own.

    The episodes go on side by side: a slot waits for the one before it, and meanwhile the processor takes those of others.

    Args:
        devices: The devices, for the law of the first state.
        table: The device.
        actions: Action of each state, [S].
        schedule: How many episodes, and how long.
        key: Stream of the random numbers.
        mass: Filled with the discounted share of slots in each state, [S].
    """
    levels = devices.capacity - devices.lowest + 1
    episodes = schedule.rollouts
    states = np.empty(episodes, np.int64)
    for e in range(episodes):
        age, battery = start_state(devices, stream_uniform(key, 2 * e), stream_uniform(key, 2 * e + 1))
        states[e] = (age - 1) * levels + battery - devices.lowest
    mass[:] = 0.0
    value, used, total, weight = 0.0, 0.0, 0.0, 1.0
    for t in range(schedule.rollout_steps):
        counter = (t + 2) * episodes
        for e in range(episodes):
            state = states[e]
            action = actions[state]
            outcome = pick_outcome(table, stream_uniform(key, counter + e))
            mass[state] += weight
            value += weight * table.paid[state, action, outcome]
            used += weight if action == OFFLOAD else 0.0
            states[e] = table.following[state, action, outcome]
        total += weight * episodes
        weight *= schedule.gamma
    mass /= total
    return value / total, used / total


@jit
def set_levels(devices: Devices, q: Floats, actions: Ints, cost: float, usage: float) -> None:
    """Shift the whole table, which changes no decision, so that its means over the start law are what rollouts measured."""
    levels = devices.capacity - devices.lowest + 1
    mean_cost = mean_usage = 0.0
    for k in range(_STARTS):
        age, battery = start_state(devices, (k + 0.5) / _STARTS, (k * _GOLDEN) % 1.0)
        state = (age - 1) * levels + battery - devices.lowest
        mean_cost += q[state, actions[state], COST] / _STARTS
        mean_usage += q[state, actions[state], USAGE] / _STARTS
    q[..., COST] += cost - mean_cost
    q[..., USAGE] += usage - mean_usage
