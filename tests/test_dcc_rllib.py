"""RLlib's DQN and PPO as DCC's fast time scale, against linear programs."""

from typing import Any

import numpy as np
import pytest

from rllib_wireless.algorithms.dcc.dcc import DCCConfig
from rllib_wireless.algorithms.dcc.local_problems import Answers
from rllib_wireless.algorithms.dcc.q_learning import Schedule
from rllib_wireless.algorithms.dcc.rllib_local import DeviceEnv, RLlibLearners, conclude, judged
from rllib_wireless.algorithms.dcc.settings import DCCSettings
from rllib_wireless.envs import make_env
from rllib_wireless.envs.task_offloading import TaskOffloading
from rllib_wireless.envs.task_offloading.cmdp import device_cmdp, evaluate_policy, solve
from rllib_wireless.envs.task_offloading.device import NUM_ACTIONS, OFFLOAD, PROCESS, WAIT
from rllib_wireless.errors import ConfigError

SMALL: dict[str, Any] = {"max_age": 6, "battery_capacity": 5, "num_devices": 2}
LEARNERS = ["rllib_dqn", "rllib_ppo"]


def two_devices() -> TaskOffloading:
    env = make_env("task_offloading", **SMALL)
    assert isinstance(env, TaskOffloading)
    return env


def solved(
    env: TaskOffloading, limit: float, price: float, devices: tuple[int, ...] = (0, 1), **settings: Any
) -> Answers:
    problems = RLlibLearners(env.devices, DCCSettings(**settings), env.gamma, seed=0)
    agents, n = np.array(devices), len(devices)
    memory = {name: array[agents] for name, array in problems.empty_memory().items()}
    return problems.solve(agents, np.full(n, limit), np.full(n, price), np.zeros(n, np.int64), memory)


@pytest.mark.parametrize("action", [WAIT, PROCESS, OFFLOAD])
def test_the_environment_is_the_process_of_the_device(action: int) -> None:
    """Mean reward and mean successor of one slot from every state, over 300 draws each."""
    devices = two_devices().devices
    process = device_cmdp(devices, 1, 0.95)
    env = DeviceEnv({"devices": devices.part(np.array([1])), "gamma": 0.95, "episode_slots": 30})
    env.reset(seed=0)
    env.price = 2.5
    states = range(devices.num_states)
    paid, after = np.zeros(len(states)), np.zeros((len(states), 2))
    for state in states:
        for _ in range(300):
            env._age, env._battery = state // devices.num_levels + 1, state % devices.num_levels + devices.lowest
            obs, reward, *_ = env.step(action)
            paid[state] -= reward / (1.0 - 0.95) / 300
            after[state] += obs * (devices.max_age, devices.capacity) / 300
    # Illegal processing is waiting.
    legal = process.legal[:, action]
    pair = [
        np.flatnonzero((process.state == s) & (process.action == (action if legal[s] else WAIT)))[0] for s in states
    ]
    expected = process.cost[pair] + 2.5 * (action == OFFLOAD)
    grid = np.stack([np.arange(devices.num_states) // devices.num_levels + 1.0,
                     np.arange(devices.num_states) % devices.num_levels + devices.lowest], axis=1)  # fmt: skip
    # Four standard errors of a battery level, and of what it costs where a slot is short of energy.
    np.testing.assert_allclose(after, process.transitions[pair] @ grid, atol=0.25)
    np.testing.assert_allclose(paid, expected, atol=1e-5 if devices.debt else 0.5)


def test_episodes_begin_anywhere_and_are_cut_off() -> None:
    devices = two_devices().devices
    env = DeviceEnv({"devices": devices.part(np.array([0])), "gamma": 0.95, "episode_slots": 7})
    first = np.stack([env.reset(seed=k)[0] for k in range(400)])
    assert len(np.unique(first, axis=0)) > 0.9 * devices.num_states
    assert env.observation_space.contains(first[0])
    ends = [env.step(WAIT)[2:4] for _ in range(7)]
    assert ends == [(False, False)] * 6 + [(False, True)]


@pytest.mark.parametrize(("limit", "price"), [(0.0, 0.0), (0.03, 0.4), (0.1, 0.0), (0.2, 1.0), (0.9, 0.3)])
def test_of_all_greedy_policies_the_mixture_is_the_optimum_of_the_linear_program(limit: float, price: float) -> None:
    """Those that are optimal at some price of an offload are the corners on which the program's optimum lies."""
    env = two_devices()
    process = device_cmdp(env.devices, 0, env.gamma)
    tables = [solve(process, 1.0, price + extra).policy for extra in np.linspace(0.0, 20.0, 120)]
    tried = [judged(process, table) for table in tables] + [judged(process, tables[-1], OFFLOAD)]
    schedule = Schedule.of(DCCSettings(), env.gamma)
    policy, value, usage, multiplier = conclude(tried, limit, price, schedule)
    expected, found = solve(process, limit, price), evaluate_policy(process, policy, price)
    assert value == pytest.approx(found.value, rel=1e-6) and usage == pytest.approx(found.usage, abs=1e-6)
    assert usage <= limit + 1e-6
    assert value == pytest.approx(expected.value, rel=2e-3)
    assert multiplier == pytest.approx(expected.multiplier, rel=0.1, abs=0.1)
    # Without mixing it is the cheapest of those that keep the constraint.
    alone, cost, used, _ = conclude(tried, limit, price, Schedule.of(DCCSettings(randomize=False), env.gamma))
    assert ((alone > 0).sum(axis=1) == 1).all() and used <= limit
    assert cost == min(t.value + price * t.used for t in tried if t.used <= limit)


def test_a_policy_is_judged_exactly_and_takes_legal_actions_alone() -> None:
    env = two_devices()
    process = device_cmdp(env.devices, 0, env.gamma)
    scores = np.random.default_rng(0).normal(size=(env.devices.num_states, NUM_ACTIONS))
    found, never = judged(process, scores), judged(process, scores, OFFLOAD)
    assert process.legal[np.arange(len(scores)), found.actions].all()
    assert (found.actions == np.where(process.legal, scores, -np.inf).argmax(1)).all()
    exact = evaluate_policy(process, np.eye(NUM_ACTIONS)[found.actions])
    assert (found.value, found.used) == (exact.value, exact.usage) and found.mass.sum() == pytest.approx(1.0)
    assert never.used == 0.0 and (never.actions != OFFLOAD).all()


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("learner", LEARNERS)
def test_what_is_said_of_a_policy_is_so_and_depends_on_no_other_device(learner: str) -> None:
    env = two_devices()
    settings: dict[str, Any] = {"fast_timescale": learner, "steps": 400, "multiplier_updates": 2}
    answers, alone = solved(env, 0.1, 0.5, **settings), solved(env, 0.1, 0.5, devices=(1,), **settings)
    for i in range(2):
        exact = evaluate_policy(device_cmdp(env.devices, i, env.gamma), answers.policies[i], 0.5)
        assert answers.values[i] == pytest.approx(exact.value, rel=1e-5)
        assert answers.usages[i] == pytest.approx(exact.usage, abs=1e-6) and exact.usage <= 0.1 + 1e-6
    np.testing.assert_array_equal(answers.policies[1], alone.policies[0])
    assert answers.memory["multipliers"][1] == alone.multipliers[0]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(("learner", "steps"), [("rllib_dqn", 6000), ("rllib_ppo", 16_000)])
def test_two_devices_come_within_8_percent_of_the_linear_program(learner: str, steps: int) -> None:
    env = two_devices()
    answers = solved(env, 0.1, 0.5, fast_timescale=learner, steps=steps, multiplier_updates=8)
    best = sum(solve(device_cmdp(env.devices, i, env.gamma), 0.1, 0.5).value for i in range(2))
    assert answers.values.sum() < 1.08 * best


@pytest.mark.usefixtures("ray_session")
def test_they_take_the_place_of_q_learning() -> None:
    config = DCCConfig().environment("task_offloading", env_config=SMALL)
    config.training(fast_timescale="rllib_ppo", steps=200, multiplier_updates=1, gradient="lambda_substitution")
    algo = config.build_algo()
    rows = [algo.train()["learners"]["devices"] for _ in range(2)]
    assert rows[0]["offload_frequency"] == 0.0 and rows[1]["constraint_violation"] < 1e-6
    assert algo.policy() is not None
    algo.stop()


def test_they_are_discounted() -> None:
    config = DCCConfig().environment("task_offloading", env_config=SMALL)
    with pytest.raises(ConfigError, match="as all learning is: use exact or fitted"):
        config.training(fast_timescale="rllib_dqn", criterion="average").validate()
