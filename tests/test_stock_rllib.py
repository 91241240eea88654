"""RLlib's own algorithms train on the environments, by name and with legal actions alone."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.ppo import PPOConfig

from rllib_wireless.envs.rllib import MODULE_ID, MultiAgentView, with_action_masks
from rllib_wireless.errors import UserError

OBS_SIZE = gymnasium.spaces.flatdim(MultiAgentView("channel_access").observation_space["observations"])
SATURATED = {"num_stations": 3}
POISSON = {"num_stations": 3, "saturated": False, "arrival_rate": 0.004, "episode_slots": 3000}

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def ppo() -> AlgorithmConfig:
    return PPOConfig().training(train_batch_size_per_learner=100, minibatch_size=32, num_epochs=1)


def dqn() -> AlgorithmConfig:
    return DQNConfig().training(train_batch_size_per_learner=16, num_steps_sampled_before_learning_starts=30)


@pytest.mark.parametrize("make_config", [ppo, dqn])
@pytest.mark.parametrize(
    ("env", "env_config"),
    [
        ("channel_access", SATURATED),
        ("channel_access", POISSON),
        ("radio_resource", {"num_access_points": 2, "num_users": 6, "episode_slots": 30, "warmup_slots": 5}),
        ("task_offloading", {"num_devices": 3}),
    ],
)
def test_an_iteration_of_training(
    make_config: Callable[[], AlgorithmConfig], env: str, env_config: dict[str, Any]
) -> None:
    config = with_action_masks(make_config().environment(env, env_config=env_config).debugging(seed=0))
    config.env_runners(num_env_runners=0)
    if env_config is POISSON:
        config.env_runners(batch_mode="complete_episodes")
    algorithm = config.reporting(min_sample_timesteps_per_iteration=50).build_algo()
    try:
        before = {name: value.clone() for name, value in algorithm.get_module(MODULE_ID).state_dict().items()}
        result = algorithm.train()
        assert np.isfinite(result["learners"][MODULE_ID]["total_loss"])
        after = algorithm.get_module(MODULE_ID).state_dict()
        assert any(not torch.equal(after[name], value) for name, value in before.items())
    finally:
        algorithm.stop()


def test_worker_processes_find_the_environment_by_name() -> None:
    config = with_action_masks(ppo().environment("channel_access", env_config=SATURATED))
    algorithm = config.env_runners(num_env_runners=1).build_algo()
    try:
        assert algorithm.train()["env_runners"]["num_env_steps_sampled"] >= 100
    finally:
        algorithm.stop()


@pytest.mark.parametrize("make_config", [ppo, dqn])
@pytest.mark.parametrize("forward", ["forward_exploration", "forward_inference"])
def test_masked_modules_choose_legal_actions_alone(make_config: Callable[[], AlgorithmConfig], forward: str) -> None:
    view = MultiAgentView("channel_access", SATURATED)
    config = with_action_masks(make_config().environment("channel_access", env_config=SATURATED))
    spec = config.get_multi_rl_module_spec(
        spaces={MODULE_ID: (view.observation_space, view.action_space)}, inference_only=True
    )
    module = spec.build()[MODULE_ID]
    mask = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).repeat(100, 1)
    obs = torch.rand(300, OBS_SIZE, generator=torch.Generator().manual_seed(0))
    batch = {"obs": {"observations": obs, "action_mask": mask}}
    out = getattr(module, forward)(batch, **({"t": 0} if forward == "forward_exploration" else {}))
    logits = out.get("action_dist_inputs")
    actions = out["actions"] if logits is None else torch.multinomial(logits.softmax(-1), 1)[:, 0]
    assert (mask.gather(1, actions[:, None]) == 1).all()
    assert set(batch["obs"]) == {"observations", "action_mask"}


def test_the_target_of_dqn_takes_no_illegal_action() -> None:
    view = MultiAgentView("channel_access", SATURATED)
    config = with_action_masks(dqn().environment("channel_access", env_config=SATURATED))
    spec = config.get_multi_rl_module_spec(spaces={MODULE_ID: (view.observation_space, view.action_space)})
    module = spec.build()[MODULE_ID]
    module.make_target_networks()
    obs = torch.rand(50, OBS_SIZE, generator=torch.Generator().manual_seed(0))
    seen = {"observations": obs, "action_mask": torch.tensor([[1.0, 0.0]]).repeat(50, 1)}
    values = module.forward_target({"obs": seen})["qf_preds"]
    assert torch.isfinite(values[:, 0]).all() and (values[:, 1] == -torch.inf).all()


def test_other_algorithms_are_refused() -> None:
    with pytest.raises(UserError, match="knows PPOConfig and DQNConfig, not IMPALAConfig"):
        with_action_masks(IMPALAConfig())
