"""Evaluation of an algorithm's policy by BatchedEnvRunners, in the driver or on actors."""

from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.rllib.utils.metrics import NUM_AGENT_STEPS_SAMPLED, NUM_ENV_STEPS_SAMPLED, NUM_EPISODES

from rllib_wireless.algorithms.actors import ActorPool
from rllib_wireless.algorithms.env_runner import BatchedEnvRunner, BatchedSample
from rllib_wireless.policies import Policy
from rllib_wireless.policies.evaluation import Evaluation

if TYPE_CHECKING:
    from rllib_wireless.algorithms.base import OfflineMultiAgentConfig

# RLlib's own distance between the seeds of training and of evaluation.
_SEED_OFFSET = 1_000_000


class EvaluationRunners:
    """The runners of an algorithm.

    An evaluation is cut into batches, each with a seed of its own; a batch whose runner dies is done again by another. Its
    result therefore depends neither on failures nor, counted in episodes, on how many runners there are.

    Args:
        config: The algorithm's evaluation configuration; 0 `evaluation_num_env_runners` work in the driver.
    """

    def __init__(self, config: "OfflineMultiAgentConfig") -> None:
        self._config = config
        self._pool: ActorPool | None = None
        self._local: BatchedEnvRunner | None = None
        if count := config.evaluation_num_env_runners:
            arguments = [{"config": config, "worker_index": i + 1, "num_workers": count} for i in range(count)]
            self._pool = ActorPool(BatchedEnvRunner, arguments, num_cpus=config.num_cpus_per_env_runner)
        else:
            self._local = BatchedEnvRunner(config=config, worker_index=0, num_workers=0)

    @property
    def num_healthy(self) -> int:
        """Number of remote runners that answered last time."""
        return 0 if self._pool is None else self._pool.num_healthy

    def evaluate(self, policy: Policy) -> dict[str, Any]:
        """Measure a policy for `evaluation_duration`.

        Returns:
            Every metric of the environment, pooled over all runs, its bootstrap interval under `lower95` and `upper95`, and
            counts.
        """
        samples = self._sample(policy)
        unit = "episode" if self._config.evaluation_duration_unit == "episodes" else "copy"
        statistics = {name: np.concatenate([s.statistics[name] for s in samples]) for name in samples[0].statistics}
        evaluation = Evaluation(self._config.env, self._config.env_config, "", unit, self._seed(), statistics)
        metrics = evaluation.metrics()
        return {
            **{name: value["mean"] for name, value in metrics.items()},
            "lower95": {name: value["ci95"][0] for name, value in metrics.items()},
            "upper95": {name: value["ci95"][1] for name, value in metrics.items()},
            NUM_ENV_STEPS_SAMPLED: sum(s.env_steps() for s in samples),
            NUM_AGENT_STEPS_SAMPLED: sum(s.agent_steps() for s in samples),
            **({NUM_EPISODES: evaluation.num_rows} if unit == "episode" else {}),
        }

    def stop(self) -> None:
        """End the actors."""
        if self._pool is not None:
            self._pool.stop()

    def _sample(self, policy: Policy) -> list[BatchedSample]:
        batches = self._batches()
        if self._local is not None:
            return [self._local.sample(policy=policy, **batch)[0] for batch in batches]
        assert self._pool is not None
        reference = ray.put(policy)
        self._pool.restore(self._config.env_runner_health_probe_timeout_s)
        answers = self._pool.map(
            "sample",
            [{"policy": reference, **batch} for batch in batches],
            timeout_s=self._config.evaluation_sample_timeout_s,
        )
        return [answer[0] for answer in answers]

    def _batches(self) -> list[dict[str, int]]:
        """What each batch runs: episodes one per copy, time steps in as many equal parts as there are runners."""
        config = self._config
        duration, copies = config.evaluation_duration, config.num_envs_per_env_runner
        if config.evaluation_duration_unit == "episodes":
            amount, count = {"num_episodes": copies}, -(-duration // copies)
        else:
            count = max(config.evaluation_num_env_runners, 1)
            amount = {"num_timesteps": -(-duration // count)}
        return [{**amount, "seed": self._seed() + k} for k in range(count)]

    def _seed(self) -> int:
        return int(self._config.seed or 0) + _SEED_OFFSET
