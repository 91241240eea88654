"""PPO for several agents, online: MAPPO, IPPO, and one central agent; with other settings A2C."""

from typing import cast

import numpy as np
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from typing_extensions import override

from rllib_wireless.algorithms.baselines.ppo_learner import PPOLearner
from rllib_wireless.algorithms.baselines.ppo_module import PPOModule
from rllib_wireless.algorithms.baselines.ppo_settings import PPOSettings
from rllib_wireless.algorithms.baselines.ppo_steps import OnPolicyRows, collect
from rllib_wireless.algorithms.gradient import GradientAlgorithm, GradientConfig, layer_sizes
from rllib_wireless.algorithms.requirements import Requirements
from rllib_wireless.data.sampling import TensorIterator
from rllib_wireless.envs import BatchedEnv
from rllib_wireless.errors import ConfigError
from rllib_wireless.policies import FactoredNetworkPolicy, NetworkPolicy, PortablePolicy, Rollout
from rllib_wireless.policies.choice import Mode


class PPOConfig(GradientConfig):
    r"""Configuration of PPO (Schulman et al., 2017) for several agents (de Witt et al., 2020; Yu et al., 2022).

    The policy of each agent i minimises, on the steps since the last update,

    .. math:: L_i = -E[\min(\rho_i A_i, \mathrm{clip}(\rho_i, 1 - \epsilon, 1 + \epsilon) A_i)] - \eta H(\pi_i(. | o_i)),
              \quad \rho_i = \pi_i(a_i | o_i) / \pi_i^{old}(a_i | o_i)

    over legal actions and the rows in which it acts, with generalized advantage estimates A standardised over the update,

    .. math:: A_t = \sum_k \lambda^k \gamma^{d_t + ... + d_{t+k-1}} \delta_{t+k}, \quad
              \delta_t = r_t + \gamma^{d_t} V(o_{t+1}) - V(o_t)

    where d is the time that a step takes. Where the game terminated V(o') is 0; where it was merely cut off, V goes on. Critics
    minimise half the squared error of the standardised return A + V. With `reward="common"`, r is the mean over all agents.

    With `paradigm="centralized"` rho is the ratio of the joint probabilities. There, with `num_epochs=1`, `clip_param=None`,
    `lambda_=1` and `train_batch_size_per_learner` not below the rows of an update, it is A2C.

    .. code-block:: python

        config = (
            PPOConfig()
            .environment("task_offloading", env_config={"num_devices": 10})
            .training(paradigm="ctde", reward="common")
        )
        algo = config.build_algo()
        algo.train()
        algo.export_policy("out/policy")

    Its fields are those of `PPOSettings`.
    """

    settings = PPOSettings
    requirements = Requirements(data="none")

    def __init__(self, algo_class: type["PPO"] | None = None) -> None:
        super().__init__(algo_class=algo_class or PPO)

    @override
    def validate(self) -> None:
        super().validate()
        for name in ("num_learners", "num_env_runners"):
            if getattr(self, name) != 0:
                raise ConfigError(
                    self.settings.owner, name, getattr(self, name), "it acts and learns here: it should be 0"
                )

    @override
    def parsed(self) -> PPOSettings:
        return cast(PPOSettings, super().parsed())

    @override
    def get_default_learner_class(self) -> type[PPOLearner]:
        return PPOLearner


class PPO(GradientAlgorithm):
    """MAPPO, IPPO, or PPO of one agent that acts for all."""

    config: PPOConfig

    @classmethod
    @override
    def get_default_config(cls) -> PPOConfig:
        return PPOConfig()

    @property
    @override
    def share_done(self) -> float:
        share: float = self.iteration / self.config.num_iterations
        return min(share, 1.0)

    @override
    def open_data(self, env: BatchedEnv) -> list[TensorIterator]:
        config = self.config
        self._env = config.build_env(config.num_envs_per_env_runner)
        self._rows = OnPolicyRows(config.seed, config.last_minibatch_only)
        return [self._rows]

    @override
    def module_spec(self, env: BatchedEnv) -> RLModuleSpec:
        config, n, sizes = self.config, len(env.agents), layer_sizes(env, self.config.fcnet_hiddens)
        independent = config.paradigm == "independent"
        return RLModuleSpec(
            module_class=PPOModule,
            observation_space=env.observation_space,
            action_space=env.action_space,
            model_config={
                "num_agents": n,
                "sizes": sizes,
                "paradigm": config.paradigm,
                "num_critics": n if independent or config.reward == "own" else 1,
                "critic_inputs": sizes[0] if independent else self._env.state().shape[1],
                "gamma": env.gamma if config.gamma is None else config.gamma,
            },
        )

    @override
    def training_step(self) -> None:
        config, settings = self.config, self.config.parsed()
        seed = int(np.random.SeedSequence([config.seed, self.iteration + 1]).generate_state(1)[0])
        rollout = Rollout(self._env, self._policy("sample"), seed)
        rows = config.rollout_fragment_length * self._env.num_envs
        minibatches = 1 if config.last_minibatch_only else -(-rows // config.train_batch_size_per_learner)
        for _ in range(settings.updates_per_iteration):
            rollout.policy = self._policy("sample")
            steps = collect(rollout, config.rollout_fragment_length, with_state=config.paradigm != "independent")
            self._rows.replace(steps)
            self.update(config.num_epochs * minibatches)
        total = (self.iteration + 1) * settings.updates_per_iteration * rows
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, total, window=1)

    @override
    def policy(self) -> PortablePolicy:
        return self._policy(self.config.mode)

    def _policy(self, mode: Mode) -> PortablePolicy:
        network = self.network("actor")
        if self.config.paradigm == "centralized":
            return FactoredNetworkPolicy(network, self.agents, int(self.config.action_space.n), mode)
        return NetworkPolicy(network, self.agents, mode)
