"""The compiled Q-learning of devices side by side, beside the same written plainly for one device."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rllib_wireless.algorithms.dcc.q_learning import DRAWS, Schedule, Tables, learn, side_by_side
from rllib_wireless.algorithms.dcc.settings import DCCSettings
from rllib_wireless.envs import make_env
from rllib_wireless.envs.random import stream, stream_uniform
from rllib_wireless.envs.task_offloading import TaskOffloading
from rllib_wireless.envs.task_offloading.device import OFFLOAD, PROCESS, WAIT, Devices, outcomes, slot

STEPS, EPSILON, LENGTH = 1_500, 0.3, 35


def devices_of(**config: Any) -> Devices:
    env = make_env("task_offloading", max_age=6, battery_capacity=5, **config)
    assert isinstance(env, TaskOffloading)
    return env.devices


def plain_q_learning(
    devices: Devices, i: int, price: float, never: bool, schedule: Schedule, key: Any
) -> tuple[dict[Any, list[float]], dict[Any, int]]:
    """Cost and usage of each action in each state, and how often it was updated, for one device."""
    table = outcomes(devices, i)
    states = [
        (x, e) for x in range(1, devices.max_age + 1) for e in range(devices.lowest, devices.capacity + 1)
    ]  # in the order of their numbers
    q = {(state, a): [0.0, 0.0] for state in states for a in range(3)}
    visits = dict.fromkeys(q, 0)

    def legal(state: tuple[int, int]) -> list[int]:
        return [WAIT, PROCESS, OFFLOAD] if state[1] >= 0 or not devices.debt else [WAIT, OFFLOAD]

    def greedy(state: tuple[int, int]) -> int:
        known = [a for a in legal(state) if a != OFFLOAD or not never]
        return min(known, key=lambda a: q[state, a][0] + price * q[state, a][1])

    for t in range(STEPS):
        explore, happens, where = (stream_uniform(key, DRAWS * t + k) for k in range(DRAWS))
        if t % LENGTH == 0:
            state = states[int(where * len(states))]
            action = greedy(state)
        if explore < EPSILON:
            choice = legal(state)
            share = explore / EPSILON
            action = choice[int(3.0 * share)] if len(choice) == 3 else (OFFLOAD if share < 0.5 else WAIT)
        column = int(happens * len(table.keep))
        part = 0 if happens * len(table.keep) - column < table.keep[column] else 1
        outcome = int(table.parts[column, part])
        harvested, energy = outcome % 2, int(devices.energies[outcome // 2])
        age, battery, paid = slot(devices, i, *state, action, harvested, energy)
        after = (age, battery)
        then = greedy(after)
        rate = schedule.rate / (1.0 + schedule.slowdown * visits[state, action])
        for value, reward in enumerate((paid, float(action == OFFLOAD))):
            old, coming = q[state, action][value], q[after, then][value]
            q[state, action][value] = old + rate * (reward + schedule.gamma * coming - old)
        visits[state, action] += 1
        state, action = after, then
    return q, visits


@pytest.mark.parametrize("config", [{}, {"energy_model": "delay", "age_cost": "current"}])
def test_devices_side_by_side_learn_to_the_bit_what_each_learns_in_plain_python(config: dict[str, Any]) -> None:
    devices, count = devices_of(num_devices=5, **config), 5
    schedule = Schedule.of(DCCSettings(learning_episode_slots=LENGTH), 0.95)
    prices, never = np.linspace(0.5, 3.0, count), np.arange(count) == 3
    keys: npt.NDArray[np.uint64] = np.array([stream(9, 0, i, 0) for i in range(count)], np.uint64)
    tables = Tables.empty(devices)
    learn(
        side_by_side(tuple(outcomes(devices, i) for i in range(count))), prices, never, schedule, EPSILON, keys, 0,
        STEPS, tables.q.reshape(-1, 2), tables.visits.reshape(-1),
    )  # fmt: skip
    for i in range(count):
        q, visits = plain_q_learning(devices, i, prices[i], bool(never[i]), schedule, keys[i])
        found = dict(zip(q, tables.q[i].reshape(-1, 2), strict=True))
        assert all(list(found[pair]) == value for pair, value in q.items() if visits[pair])
        np.testing.assert_array_equal(tables.visits[i].reshape(-1), list(visits.values()))
        assert sum(visits.values()) == STEPS
