"""BatchedEnvRunner as RLlib uses an EnvRunner, against the evaluation loop it is built on."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from rllib_wireless.algorithms.baselines.bc import BCConfig
from rllib_wireless.algorithms.env_runner import MODULE_ID, POLICY, BatchedEnvRunner
from rllib_wireless.envs import make_env
from rllib_wireless.policies import NetworkPolicy, StackedMLP
from rllib_wireless.policies.evaluation import run

ENV: dict[str, Any] = {"num_stations": 3, "episode_slots": 4000}


@pytest.fixture
def config() -> BCConfig:
    config = BCConfig().environment("channel_access", env_config=ENV)
    config.num_envs_per_env_runner = 4
    return config


@pytest.fixture
def policy() -> NetworkPolicy:
    import torch

    env = make_env("channel_access", **ENV)
    sizes = (env.observation_space.shape[0], 8, 2)
    return NetworkPolicy(StackedMLP(3, sizes, torch.Generator().manual_seed(0)), env.agents)


def test_a_runner_without_a_policy_says_so(config: BCConfig) -> None:
    with pytest.raises(RuntimeError, match="no policy yet"):
        BatchedEnvRunner(config=config).sample(num_timesteps=4)


def test_time_steps_are_rounded_up_to_whole_copies(config: BCConfig, policy: NetworkPolicy) -> None:
    (sample,) = BatchedEnvRunner(config=config).sample(num_timesteps=10, policy=policy)
    assert sample.env_steps() == 12 and sample.agent_steps() == 36
    assert all(len(rows) == 4 for rows in sample.statistics.values())


def test_every_copy_runs_as_many_episodes(config: BCConfig, policy: NetworkPolicy) -> None:
    runner = BatchedEnvRunner(config=config)
    (sample,) = runner.sample(num_episodes=6, policy=policy)
    assert all(len(rows) == 8 for rows in sample.statistics.values())
    assert runner.get_metrics()["num_episodes"].peek() == 8


def test_only_agents_that_act_are_counted(policy: NetworkPolicy) -> None:
    config = BCConfig().environment("channel_access", env_config={**ENV, "saturated": False, "arrival_rate": 0.0005})
    config.num_envs_per_env_runner = 4
    (sample,) = BatchedEnvRunner(config=config).sample(num_timesteps=400, policy=policy)
    assert 0 < sample.agent_steps() < 3 * sample.env_steps()


def test_a_sample_is_the_evaluation_loops(config: BCConfig, policy: NetworkPolicy) -> None:
    (sample,) = BatchedEnvRunner(config=config).sample(num_timesteps=400, policy=policy, seed=7)
    expected = run(make_env("channel_access", 4, **ENV), policy, steps=100, seed=7)
    for name, rows in expected.items():
        np.testing.assert_array_equal(sample.statistics[name], rows)


def test_state_holds_the_policy_and_its_number(config: BCConfig, policy: NetworkPolicy) -> None:
    runner = BatchedEnvRunner(config=config)
    runner.set_state({POLICY: policy, "weights_seq_no": 3})
    assert runner.get_state() == {POLICY: policy, "weights_seq_no": 3}
    runner.set_state({POLICY: None, "weights_seq_no": 3})
    assert runner.policy is policy, "the same number means that the policy is here already"
    assert POLICY not in runner.get_state(not_components="rl_module")


def test_a_runner_is_saved_and_restored_as_a_component(config: BCConfig, policy: NetworkPolicy, tmp_path: Path) -> None:
    runner, other = BatchedEnvRunner(config=config), BatchedEnvRunner(config=config)
    runner.set_state({POLICY: policy})
    runner.save_to_path(tmp_path / "runner")
    other.restore_from_path(tmp_path / "runner")
    a, b = (r.sample(num_timesteps=40, seed=1)[0].statistics for r in (runner, other))
    np.testing.assert_array_equal(a["slots"], b["slots"])


def test_spaces_are_told_by_module_and_by_agent(config: BCConfig) -> None:
    spaces = BatchedEnvRunner(config=config).get_spaces()
    env = make_env("channel_access", **ENV)
    assert spaces[MODULE_ID] == (env.observation_space, env.action_space)
    joint = spaces["__env__"][0]
    assert isinstance(joint, gymnasium.spaces.Dict) and tuple(joint.spaces) == env.agents


def test_rllibs_own_group_runs_it_on_actors(config: BCConfig, policy: NetworkPolicy, ray_session: None) -> None:
    import ray
    from ray.rllib.env.env_runner_group import EnvRunnerGroup

    group = EnvRunnerGroup(config=config, num_env_runners=1, local_env_runner=False)
    reference = ray.put(policy)
    (steps,) = group.foreach_env_runner(
        lambda runner: (runner.set_state({"policy": reference}), runner.sample(num_timesteps=40))[1][0].env_steps()
    )
    assert steps == 40
    group.stop()
