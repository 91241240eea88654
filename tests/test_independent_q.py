"""Independent Q-learning: alone it finds the optimum, among others it pays what congestion really costs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_wireless.algorithms.baselines.independent_q import (
    IndependentQ,
    IndependentQConfig,
    IndependentQSettings,
    _Network,
    learn_together,
)
from rllib_wireless.algorithms.training import resume_run, train
from rllib_wireless.envs import make_env
from rllib_wireless.envs.task_offloading import TaskOffloading
from rllib_wireless.envs.task_offloading.cmdp import device_cmdp, evaluate_policy, solve
from rllib_wireless.envs.task_offloading.device import OFFLOAD, PROCESS, WAIT, legal_actions
from rllib_wireless.envs.task_offloading.joint import evaluate_jointly
from rllib_wireless.errors import ConfigError
from rllib_wireless.policies import TablePolicy, load_policy

SMALL: dict[str, Any] = {"max_age": 6, "battery_capacity": 5}


def learned(env: dict[str, Any], **settings: Any) -> tuple[TaskOffloading, TablePolicy]:
    algo = IndependentQConfig().environment("task_offloading", env_config=env).training(**settings).build_algo()
    assert isinstance(algo, IndependentQ)
    while not algo.finished:
        algo.train()
    made, policy = algo.config.build_env(), algo.policy()
    assert isinstance(made, TaskOffloading) and policy is not None
    return made, policy


@pytest.mark.parametrize("start", ["anywhere", "environment"])
def test_a_device_alone_learns_the_optimum_of_its_own_process(start: str) -> None:
    env, policy = learned({**SMALL, "num_devices": 1}, learning_start=start)
    mdp = device_cmdp(env.devices, 0, env.gamma)
    assert evaluate_policy(mdp, policy.table[0]).value == pytest.approx(solve(mdp, 1.0).value, rel=0.02)


def test_an_update_is_that_of_q_learning_with_the_true_congestion() -> None:
    """One slot, everything known: all harvest, processing takes 1, nobody explores, and offloading is all that looks good."""
    config = {**SMALL, "num_devices": 3, "harvest_probability": (1.0, 1.0), "processing_energy": (1,)}
    env = make_env("task_offloading", **config)
    assert isinstance(env, TaskOffloading)
    for common in (False, True):
        q = np.full((3, env.devices.num_states, 3), 10.0)
        q[:, ~legal_actions(env.devices)] = np.inf
        q[:2, :, OFFLOAD] = 1.0
        q[2, :, WAIT] = 1.0
        before = q.copy()
        keys = np.arange(3, dtype=np.uint64)
        learn_together(env.devices, _Network.of(env), common, False, 0.5, 0.0, 30, 0.95, keys, 1, q)
        costs = [1.0 + 1.0, 1.0 + 1.0, 2.0]  # two offload and meet each other; the third waits and ages
        for i, cost in enumerate(costs):
            (place,) = np.argwhere(q[i] != before[i])
            target = (np.mean(costs) if common else cost) + 0.95 * 1.0
            assert place[1] == (OFFLOAD if i < 2 else WAIT)
            assert q[i][tuple(place)] == pytest.approx(1.0 + 0.5 * (target - 1.0))


def test_two_devices_end_between_selfish_and_joint_optimum() -> None:
    env, policy = learned({**SMALL, "num_devices": 2})
    selfish = np.stack([solve(device_cmdp(env.devices, i, env.gamma), 1.0).policy for i in range(2)])
    assert evaluate_jointly(env, policy.table).discounted < evaluate_jointly(env, selfish).discounted


def test_devices_never_process_in_debt_and_explore_what_is_legal() -> None:
    env, policy = learned({**SMALL, "num_devices": 2}, steps=2000, learning_iterations=1, epsilon=1.0)
    assert not policy.table[:, ~legal_actions(env.devices)[:, PROCESS], PROCESS].any()


def test_a_run_that_was_cut_goes_on_bit_for_bit(tmp_path: Path) -> None:
    settings = {"steps": 3000, "learning_iterations": 3}
    env = {**SMALL, "num_devices": 3}
    whole = train("independent_q", "task_offloading", out=tmp_path / "whole", env_config=env, settings=settings)
    train("independent_q", "task_offloading", out=tmp_path / "cut", env_config=env, settings=settings, iterations=1)
    assert resume_run(tmp_path / "cut") == whole
    a, b = (load_policy(tmp_path / name).to_portable()[1]["table"] for name in ("whole", "cut"))
    np.testing.assert_array_equal(a, b)


def test_its_budget_is_that_of_dcc() -> None:
    settings = IndependentQSettings()
    assert settings.steps * settings.learning_iterations == 1_600_000
    assert (settings.q_lr, settings.epsilon, settings.epsilon_decay) == (0.05, 0.05, 0.95)


def test_another_environment_and_a_wrong_setting_are_refused() -> None:
    with pytest.raises(ConfigError, match="it should be task_offloading"):
        IndependentQConfig().environment("channel_access").validate()
    config = IndependentQConfig().environment("task_offloading")
    with pytest.raises(ConfigError, match="reward = 'mine', but it should be 'own' or 'common'"):
        config.training(reward="mine").validate()
