"""The fast time scale: tabular Q-learning of one device at a price of offloading, compiled.

Q-learning keeps two tables, of the local cost and of the usage, both for the policy that is greedy in cost + price * usage. The
congestion price and the multiplier are one number there, so the tables stay right when it moves.
"""

from typing import NamedTuple, Self

import numpy as np

from rllib_wireless.algorithms.dcc.settings import DCCSettings
from rllib_wireless.envs.random import jit, stream_uniform
from rllib_wireless.envs.task_offloading.device import (
    NUM_ACTIONS,
    OFFLOAD,
    PROCESS,
    Devices,
    Floats,
    Ints,
    may_process,
    pick_energy,
    slot,
    start_state,
)

_MOST_VISITS = 100_000

# Points, equally spread, at which the mean over the start law is taken.
_STARTS, _GOLDEN = 256, 0.6180339887498949


class Schedule(NamedTuple):
    """The numbers of `DCCSettings` that the kernel needs."""

    steps: int
    updates: int
    rates: Floats  # learning rate by number of visits of the pair
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
        visits = np.arange(float(_MOST_VISITS))
        return cls(
            steps=settings.steps,
            updates=settings.multiplier_updates,
            rates=settings.q_lr / (1.0 + settings.q_lr * (1.0 - gamma) * visits),
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
    """What Q-learning knows, of N devices: [N, S, A] each."""

    cost: Floats
    usage: Floats
    visits: Ints

    @classmethod
    def empty(cls, devices: Devices) -> Self:
        """Tables of zeros, which are optimistic, as costs are positive."""
        shape = (len(devices.harvest), devices.num_states, NUM_ACTIONS)
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64))


@jit
def learn(
    devices: Devices,
    i: int,
    price: float,
    schedule: Schedule,
    epsilon: float,
    never: bool,
    key: int,
    first: int,
    steps: int,
    cost: Floats,
    usage: Floats,
    visits: Ints,
) -> None:
    """Q-learning for some steps, in short episodes that begin anywhere.

    Args:
        devices: The devices.
        i: Index of the device.
        price: What usage costs, the multiplier included.
        schedule: How to learn.
        epsilon: Probability of a random legal action.
        never: Whether only random actions offload.
        key: Stream of the random numbers.
        first: Counter of the first one; a step takes at most four.
        steps: How many.
        cost: Table [S, A] of the local cost, changed in place, as the following.
        usage: Table of the usage.
        visits: Number of updates of each entry.
    """
    levels = devices.capacity - devices.lowest + 1
    state, left, last_rate = 0, 0, len(schedule.rates) - 1
    for t in range(steps):
        counter = first + 4 * t
        if left == 0:
            state = int(stream_uniform(key, counter) * len(cost))
            left = schedule.episode_steps
        left -= 1
        age, battery = state // levels + 1, state % levels + devices.lowest
        processes = may_process(devices, battery)
        u = stream_uniform(key, counter + 1)
        if u < epsilon:
            action = int(u / epsilon * (3 if processes else 2))
            if not processes and action == PROCESS:
                action = OFFLOAD
        else:
            action = _best(cost, usage, price, state, processes, never)
        harvested = 1 if stream_uniform(key, counter + 2) < devices.harvest[i] else 0
        energy = pick_energy(devices, i, stream_uniform(key, counter + 3)) if action == PROCESS else 0
        age, battery, paid = slot(devices, i, age, battery, action, harvested, energy)
        following = (age - 1) * levels + battery - devices.lowest
        then = _best(cost, usage, price, following, may_process(devices, battery), never)
        rate = schedule.rates[min(visits[state, action], last_rate)]
        visits[state, action] += 1
        used = 1.0 if action == OFFLOAD else 0.0
        cost[state, action] += rate * (paid + schedule.gamma * cost[following, then] - cost[state, action])
        usage[state, action] += rate * (used + schedule.gamma * usage[following, then] - usage[state, action])
        state = following


@jit
def _best(cost: Floats, usage: Floats, price: float, state: int, processes: bool, never: bool) -> int:
    """The legal action of least cost + price * usage; the first of equals."""
    best = 0
    least = cost[state, 0] + price * usage[state, 0]
    if processes:
        value = cost[state, PROCESS] + price * usage[state, PROCESS]
        if value < least:
            best, least = PROCESS, value
    if not never and cost[state, OFFLOAD] + price * usage[state, OFFLOAD] < least:
        best = OFFLOAD
    return best


@jit
def greedy_policy(devices: Devices, price: float, cost: Floats, usage: Floats, never: bool, actions: Ints) -> None:
    """The greedy action of each state, [S]; without offloading if `never`."""
    levels = devices.capacity - devices.lowest + 1
    for state in range(len(actions)):
        processes = may_process(devices, state % levels + devices.lowest)
        actions[state] = _best(cost, usage, price, state, processes, never)


@jit
def roll_out(
    devices: Devices, i: int, actions: Ints, schedule: Schedule, key: int, mass: Floats
) -> tuple[float, float]:
    """Local cost and usage per slot, discounted, of a deterministic policy in episodes of the device's own.

    Args:
        devices: The devices.
        i: Index of the device.
        actions: Action of each state, [S].
        schedule: How many episodes, and how long.
        key: Stream of the random numbers.
        mass: Filled with the discounted share of slots in each state, [S].
    """
    levels = devices.capacity - devices.lowest + 1
    mass[:] = 0.0
    value, used, total = 0.0, 0.0, 0.0
    for episode in range(schedule.rollouts):
        counter = 2 * episode * (schedule.rollout_steps + 1)
        age, battery = start_state(devices, stream_uniform(key, counter), stream_uniform(key, counter + 1))
        weight = 1.0
        for _ in range(schedule.rollout_steps):
            counter += 2
            state = (age - 1) * levels + battery - devices.lowest
            action = actions[state]
            harvested = 1 if stream_uniform(key, counter) < devices.harvest[i] else 0
            energy = pick_energy(devices, i, stream_uniform(key, counter + 1)) if action == PROCESS else 0
            age, battery, paid = slot(devices, i, age, battery, action, harvested, energy)
            mass[state] += weight
            value += weight * paid
            used += weight if action == OFFLOAD else 0.0
            total += weight
            weight *= schedule.gamma
    mass /= total
    return value / total, used / total


@jit
def set_level(devices: Devices, table: Floats, actions: Ints, value: float) -> None:
    """Shift a whole table, which changes no decision, so that its mean over the start law is what rollouts measured."""
    levels = devices.capacity - devices.lowest + 1
    total = 0.0
    for k in range(_STARTS):
        age, battery = start_state(devices, (k + 0.5) / _STARTS, (k * _GOLDEN) % 1.0)
        state = (age - 1) * levels + battery - devices.lowest
        total += table[state, actions[state]]
    table += value - total / _STARTS
