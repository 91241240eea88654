"""What a device's policy costs and how often it offloads: rollouts in a simulator of the device's own, compiled."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rllib_wireless.algorithms.dcc.q_learning import COST, USAGE, Schedule
from rllib_wireless.envs.random import fill_uniforms, jit, stream_uniform
from rllib_wireless.envs.task_offloading.device import (
    NUM_ACTIONS,
    OFFLOAD,
    Devices,
    Floats,
    Outcomes,
    Unsigned,
    pick_outcome,
    start_state,
)

# Points, equally spread, at which the mean over the start law is taken.
_STARTS, _GOLDEN = 256, 0.6180339887498949


class Rollouts(NamedTuple):
    """What chance does in the episodes in which all policies of a device are judged: differences are then the policies'."""

    states: Unsigned  # [E] in which they begin
    outcomes: npt.NDArray[np.uint8]  # [T, E] of their slots


@jit
def draw_rollouts(devices: Devices, table: Outcomes, schedule: Schedule, key: int) -> Rollouts:
    """Episodes of a device.

    Args:
        devices: The devices, for the law of the first state.
        table: The device.
        schedule: How many episodes, and how long.
        key: Stream of the random numbers.
    """
    episodes, slots = schedule.rollouts, schedule.rollout_steps
    states, drawn = np.empty(episodes, np.uint64), np.empty((slots, episodes), np.uint8)
    for e in range(episodes):
        states[e] = _start(devices, stream_uniform(key, 2 * e), stream_uniform(key, 2 * e + 1))
    uniforms = np.empty(episodes)
    for t in range(slots):
        fill_uniforms(key, (t + 2) * episodes, 1, uniforms)
        for e in range(episodes):
            drawn[t, e] = pick_outcome(table.keep, table.parts, uniforms[e])
    return Rollouts(states, drawn)


@jit
def roll_out(
    table: Outcomes, rollouts: Rollouts, actions: Unsigned, schedule: Schedule, mass: Floats
) -> tuple[float, float]:
    """Local cost and usage per slot, discounted, of a deterministic policy.

    The episodes go on side by side: a slot waits for the one before it, and meanwhile the processor takes those of others.

    Args:
        table: The device.
        rollouts: The episodes.
        actions: Action of each state, [S].
        schedule: For the discount.
        mass: Filled with the discounted share of slots in each state, [S].
    """
    states = rollouts.states.copy()
    mass[:] = 0.0
    value, used, total, weight = 0.0, 0.0, 0.0, 1.0
    for t in range(len(rollouts.outcomes)):
        for e in range(len(states)):
            state, outcome = states[e], rollouts.outcomes[t, e]
            action = actions[state]
            mass[state] += weight
            value += weight * table.paid[state, action, outcome]
            used += weight if action == OFFLOAD else 0.0
            states[e] = table.following[state, action, outcome]
        total += weight * len(states)
        weight *= schedule.gamma
    mass /= total
    return value / total, used / total


@jit
def set_levels(devices: Devices, q: Floats, actions: Unsigned, cost: float, usage: float) -> None:
    """Shift the whole table, which changes no decision, so that its means over the start law are what rollouts measured."""
    mean_cost = mean_usage = 0.0
    for k in range(_STARTS):
        state = _start(devices, (k + 0.5) / _STARTS, (k * _GOLDEN) % 1.0)
        pair = NUM_ACTIONS * state + int(actions[state])
        mean_cost += q[pair, COST] / _STARTS
        mean_usage += q[pair, USAGE] / _STARTS
    q[:, COST] += cost - mean_cost
    q[:, USAGE] += usage - mean_usage


@jit
def _start(devices: Devices, of_age: float, of_battery: float) -> int:
    age, battery = start_state(devices, of_age, of_battery)
    return (age - 1) * (devices.capacity - devices.lowest + 1) + battery - devices.lowest
