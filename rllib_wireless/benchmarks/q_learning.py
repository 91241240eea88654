"""How fast DCC's devices learn: our kernel against tabular Q-learning in plain Python, in CPU time on one thread."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from rllib_wireless.algorithms.dcc.local_problems import QLearning
from rllib_wireless.algorithms.dcc.multiplier import SIDE_BY_SIDE
from rllib_wireless.algorithms.dcc.q_learning import Schedule, Tables, learn, side_by_side
from rllib_wireless.algorithms.dcc.settings import DCCSettings
from rllib_wireless.benchmarks import best, row
from rllib_wireless.envs import make_env
from rllib_wireless.envs.random import stream
from rllib_wireless.envs.task_offloading import TaskOffloading
from rllib_wireless.envs.task_offloading.device import outcomes

_PEER = "plain Python, the same device, Q-learning alone"


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Measure steps of Q-learning per second of CPU time.

    The ratio with a target compares like with like: learning alone, at a fixed price and share of random actions, the devices side by
    side as DCC has them learn. The peer keeps one value of an action where ours keeps two and counts its visits, so it is favoured. A whole
    solution of the local problems, with default settings, also has rollouts, multipliers and the final policy in its time, but not
    in its steps; the peer does nothing of that.

    Args:
        quick: Shorter runs.

    Returns:
        `name`, `value`, `unit`, and for ratios `target` and `peer`.
    """
    repeats = 2 if quick else 5
    learning = best(lambda: _learn(10, 100_000), repeats)
    few, many = (best(_kernel(n), repeats) for n in (10, 100 if quick else 1000))
    plain = best(lambda: plain_q_learning(20_000 if quick else 100_000), repeats)
    return [
        row("learning alone, 10 devices", learning, "steps/s"),
        row("whole solution, 10 devices", few, "steps/s"),
        row(_PEER, plain, "steps/s"),
        row("learning alone, times plain Python", learning / plain, "x", 100.0, _PEER),
        row("whole solution, times plain Python", few / plain, "x", None, _PEER),
        row(f"cost per device, {100 if quick else 1000} devices over 10", few / many, "x", 1.2, "10 devices"),
    ]


def _learn(num_devices: int, steps: int) -> int:
    """What the peer does, by the kernel."""
    env = make_env("task_offloading", num_devices=num_devices)
    assert isinstance(env, TaskOffloading)
    tables, schedule = Tables.empty(env.devices), Schedule.of(DCCSettings(), env.gamma)
    for first in range(0, num_devices, SIDE_BY_SIDE):
        agents = range(first, min(first + SIDE_BY_SIDE, num_devices))
        keys: Any = np.array([stream(0, 0, i, 0) for i in agents], np.uint64)
        group = side_by_side(tuple(outcomes(env.devices, i) for i in agents))
        own = slice(agents.start, agents.stop)
        learn(
            group, np.full(len(agents), 2.0), np.zeros(len(agents), np.bool_), schedule, 0.1, keys, 0, steps,
            tables.q[own].reshape(-1, 2), tables.visits[own].reshape(-1),
        )  # fmt: skip
    return steps * num_devices


def plain_q_learning(steps: int, price: float = 2.0, gamma: float = 0.95, seed: int = 0) -> int:
    """Q-learning of one device of the default configuration as one would write it in plain Python; returns the steps."""
    draw = random.Random(seed)
    table: dict[tuple[int, int], list[float]] = {(x, e): [0.0] * 3 for x in range(1, 16) for e in range(-3, 16)}
    states = list(table)
    age, battery = 1, 0
    for t in range(steps):
        if t % 30 == 0:
            age, battery = draw.choice(states)
        legal = (0, 1, 2) if battery >= 0 else (0, 2)
        values = table[age, battery]
        action = draw.choice(legal) if draw.random() < 0.1 else min(legal, key=values.__getitem__)
        cost = 7.0 * max(-battery, 0)
        harvested, energy = int(draw.random() < 0.5), draw.choice((1, 2, 3)) if action == 1 else 0
        age, battery = min(age + 1, 15) if action == 0 else 1, min(battery + harvested - energy, 15)
        cost += age + (price if action == 2 else 0.0)
        following = table[age, battery]
        best = min(following[a] for a in ((0, 1, 2) if battery >= 0 else (0, 2)))
        values[action] += 0.1 * (cost + gamma * best - values[action])
    return steps


def _kernel(num_devices: int) -> Callable[[], int]:
    env = make_env("task_offloading", num_devices=num_devices)
    assert isinstance(env, TaskOffloading)
    settings = DCCSettings()
    problems = QLearning(env.devices, settings, env.gamma, seed=0)
    agents, memory = np.arange(num_devices), problems.empty_memory()
    limits, prices = np.full(num_devices, 0.1), np.full(num_devices, 0.9)

    def work() -> int:
        problems.solve(agents, limits, prices, np.zeros(num_devices, np.int64), memory)
        return settings.steps * num_devices

    return work
