"""BatchedEnvRunner: many copies of an environment and any Policy inside one RLlib EnvRunner."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import gymnasium
import ray
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import (
    NUM_AGENT_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    WEIGHTS_SEQ_NO,
)

from rllib_wireless.algorithms.actors import ManagedActor
from rllib_wireless.data.fragments import Fragment
from rllib_wireless.data.recorder import Recorder
from rllib_wireless.envs import EnvStep, Policy, Statistics, StepRandom, env_spec, make_env
from rllib_wireless.envs.base import IntArray
from rllib_wireless.policies.evaluation import Rollout, run

MODULE_ID = "agents"
"""The one RLModule that holds all agents; RLlib takes a module named default_policy for a single agent's."""

POLICY = "policy"
"""Where the state of a BatchedEnvRunner holds its Policy."""


@dataclass(frozen=True)
class BatchedSample:
    """What `sample` brings home: raw sums, and how much was stepped.

    Attributes:
        statistics: {name: [E, ...]}, a row per copy or episode.
    """

    statistics: Statistics
    num_env_steps: int
    num_agent_steps: int

    def env_steps(self) -> int:
        """Joint steps over all copies."""
        return self.num_env_steps

    def agent_steps(self) -> int:
        """Decisions of agents over all copies."""
        return self.num_agent_steps


class BatchedEnvRunner(ManagedActor, EnvRunner, Checkpointable):  # type: ignore[misc]
    """Runs a Policy in `num_envs_per_env_runner` copies of `config.env`, about a hundred times as fast as RLlib's runner.

    No episodes are kept and no connectors run: the policy maps the arrays [B, N, D] of all copies at once.

    Args:
        config: An AlgorithmConfig whose `env` is the name of an environment of this package.
        **kwargs: As RLlib passes them, `worker_index` and `num_workers` among them.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.policy: Policy | None = None
        self._policy_seq_no = 0
        self.make_env()

    def make_env(self) -> None:
        """Build the copies."""
        self.env = make_env(self.config.env, self.config.num_envs_per_env_runner, **self.config.env_config)

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        seed: int | None = None,
        policy: Policy | ray.ObjectRef | None = None,
        **_: Any,
    ) -> list[BatchedSample]:
        """Run the policy in fresh episodes.

        Args:
            num_timesteps: Joint steps over all copies, rounded up to the same number in each.
            num_episodes: Episodes over all copies, rounded up likewise: the first to end would favour short ones.
            seed: Seed of environment and policy; the runner's own if None.
            policy: Acts from now on, if given.

        Returns:
            One object that holds the raw sums.
        """
        if policy is not None:
            self.set_state({POLICY: policy})
        if self.policy is None:
            raise RuntimeError(f"the runner has no policy yet: call set_state({{{POLICY!r}: policy}}) first")
        copies = self.env.num_envs
        steps = None if num_timesteps is None else -(-num_timesteps // copies)
        seed = (self._seed or 0) if seed is None else seed
        counted = _Counted(self.policy)
        statistics = run(self.env, counted, steps=steps, episodes=num_episodes, seed=seed)
        self._log(statistics, counted, 0 if num_episodes is None else len(next(iter(statistics.values()))))
        return [BatchedSample(statistics, counted.env_steps, counted.agent_steps)]

    def record(
        self,
        policy: Policy,
        num_timesteps: int,
        *,
        seed: int | None = None,
        first_episode: int = 0,
        state: bool = False,
    ) -> list[Fragment]:
        """Run a policy and record every step, with a row for every agent.

        Args:
            policy: Acts in these steps.
            num_timesteps: Joint steps over all copies, rounded up to the same number in each.
            seed: Begin new episodes with it; go on with the running ones if None.
            first_episode: Number of the first of them, if new ones begin.
            state: Whether to record the joint state, likewise.

        Returns:
            Pieces of episodes.
        """
        if seed is not None:
            self._rollout = Rollout(self.env, policy, seed)
            self._recorder = Recorder(self.env, rows="all", state=state, first_episode=first_episode)
            self._recorder.begin(self._rollout.step)
        rollout, recorder = self._rollout, self._recorder
        rollout.policy = policy
        for _ in range(-(-num_timesteps // self.env.num_envs)):
            step = rollout.advance()
            recorder.record(rollout.actions, None, step)
        return recorder.drain()

    def get_metrics(self) -> Any:
        """What was logged since the last call: counts, and the environment's metrics over the last sample."""
        return self.metrics.reduce()

    def get_spaces(self) -> dict[str, tuple[gymnasium.Space[Any], ...]]:
        """Spaces by module, and of the environment as RLlib's connectors expect them."""
        per_agent = (self.env.observation_space, self.env.action_space)
        joint: tuple[gymnasium.Space[Any], ...] = tuple(
            gymnasium.spaces.Dict(dict.fromkeys(self.env.agents, space)) for space in per_agent
        )
        return {INPUT_ENV_SPACES: joint, INPUT_ENV_SINGLE_SPACES: joint, MODULE_ID: per_agent}

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """The policy and its sequence number."""
        state: dict[str, Any] = {WEIGHTS_SEQ_NO: self._policy_seq_no}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[POLICY] = self.policy
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a policy, or a reference to one, unless its sequence number says that it is here already."""
        seq_no = state.get(WEIGHTS_SEQ_NO, 0)
        if POLICY in state and (seq_no == 0 or seq_no != self._policy_seq_no):
            policy = state[POLICY]
            self.policy = ray.get(policy) if isinstance(policy, ray.ObjectRef) else policy
            self._policy_seq_no = seq_no

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """How to build the runner again."""
        return (), {"config": self.config, "worker_index": self.worker_index, "num_workers": self.num_workers}

    def assert_healthy(self) -> None:
        """Check that the environment is there."""
        assert self.env is not None

    def _log(self, statistics: Statistics, counted: "_Counted", num_episodes: int) -> None:
        for key, count in (
            (NUM_ENV_STEPS_SAMPLED, counted.env_steps),
            (NUM_AGENT_STEPS_SAMPLED, counted.agent_steps),
            (NUM_EPISODES, num_episodes),
        ):
            self.metrics.log_value(key, count, reduce="sum")
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, counted.env_steps, reduce="lifetime_sum")
        self.metrics.log_value(WEIGHTS_SEQ_NO, self._policy_seq_no, window=1)
        for metric in env_spec(self.env.name).metrics:
            self.metrics.log_value(metric.name, metric.reduce(statistics), window=1)


class _Counted(Policy):
    """A policy that counts the decisions it is asked for."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.env_steps = self.agent_steps = 0

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        self.env_steps += len(step.acting)
        self.agent_steps += int(step.acting.sum())
        return self._policy.act(step, random)

    def reset(self, copies: IntArray) -> None:
        self._policy.reset(copies)
