"""RLlib's own PPO trains on channel access, with legal actions only; its policy is then measured as any other is.

A few thousand decisions show the road, not what PPO can reach. A minute or more.

    python examples/stock_ppo.py
"""

import numpy as np
import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig

from rllib_wireless.envs import EnvStep, Policy, StepRandom
from rllib_wireless.envs.base import IntArray
from rllib_wireless.envs.rllib import MODULE_ID, with_action_masks
from rllib_wireless.policies import evaluate

ENV = {"num_stations": 4, "episode_slots": 50_000}


class SharedModule(Policy):
    """All agents act by one RLModule, sampling from its softmax."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        shape = step.acting.shape
        batch = {
            "observations": step.obs.reshape(-1, step.obs.shape[-1]),
            "action_mask": step.action_mask.reshape(-1, 2),
        }
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(values.astype(np.float32)) for name, values in batch.items()}
            logits = self._module.forward_inference({"obs": tensors})["action_dist_inputs"]  # type: ignore[operator]
        transmit = torch.softmax(logits, -1)[:, 1].numpy().reshape(shape)
        chosen: IntArray = (random.uniform() < transmit).astype(np.int64)
        return chosen


def main(iterations: int = 4, batch: int = 1000) -> None:
    config = PPOConfig().environment("channel_access", env_config=ENV).debugging(seed=0)
    config.training(train_batch_size_per_learner=batch, minibatch_size=512, num_epochs=2, lr=1e-3, gamma=0.99)
    algorithm = with_action_masks(config).env_runners(num_env_runners=0).build_algo()
    for _ in range(iterations):
        result = algorithm.train()
        print(
            f"iteration {result['training_iteration']}: {result['env_runners']['num_env_steps_sampled_lifetime']} steps"
        )
    policies: dict[str, Policy | str] = {"PPO": SharedModule(algorithm.get_module(MODULE_ID)), "ac_be": "ac_be"}
    for name, policy in policies.items():
        metrics = evaluate(policy, "channel_access", ENV, num_envs=32, steps=2000).metrics()
        shown = (f"{key} {metrics[key]['mean']:.3f}" for key in ("throughput_ratio", "short_term_fairness"))
        print(f"{name:6} {'  '.join(shown)}")
    algorithm.stop()


if __name__ == "__main__":
    ray.init(include_dashboard=False, log_to_driver=False)
    main()
    ray.shutdown()
