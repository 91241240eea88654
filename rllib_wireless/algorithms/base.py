"""What all algorithms share: settings declared once, RLlib's offline defects repaired once, evaluation and export."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core import COMPONENT_METRICS_LOGGER
from ray.rllib.utils.debug import update_global_seed_if_necessary
from ray.rllib.utils.from_config import NotProvided
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.result import STDERR_FILE, STDOUT_FILE, TRAINING_ITERATION, TRIAL_INFO
from ray.util.debug import log_once
from typing_extensions import override

from rllib_wireless import storage
from rllib_wireless.algorithms.env_runner import MODULE_ID, BatchedEnvRunner
from rllib_wireless.algorithms.evaluation import EvaluationRunners
from rllib_wireless.algorithms.requirements import Requirements
from rllib_wireless.configuration import Configuration
from rllib_wireless.data.recorded import RecordedEnv, recorded_env
from rllib_wireless.envs import BatchedEnv, env_names, make_env
from rllib_wireless.errors import ConfigError, UserError
from rllib_wireless.policies import PortablePolicy, save_policy

# What dictionaries of configurations hold beside attributes, and attributes that only RLlib's old stack reads.
_TUNES_OWN = (TRIAL_INFO, STDOUT_FILE, STDERR_FILE, "class", "multiagent")
_OLD_API_STACK = ("model", "optimizer", "replay_buffer_config")


def map_to_agents(*_: Any, **__: Any) -> str:
    """RLlib's mapping from agents to modules: all live in one."""
    return MODULE_ID


class OfflineMultiAgentConfig(AlgorithmConfig):  # type: ignore[misc]
    """Configuration of an algorithm that learns from recorded multi-agent data.

    A subclass names its hyper-parameters in one `Configuration`; every field of it becomes an attribute of the config, so
    that Ray Tune can set it, and `validate` parses them all, so that a wrong value is a ConfigError.

    Attributes:
        settings: The hyper-parameters.
        requirements: What the algorithm needs of data and environment.
    """

    settings: ClassVar[type[Configuration]]
    requirements: ClassVar[Requirements]

    env: str
    env_config: dict[str, Any]
    evaluation_num_env_runners: int

    def __init__(self, algo_class: type["OfflineMultiAgentAlgorithm"] | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self._is_online = False
        self.seed = 0
        # RLlib's view of the agents: one module, mapped to by all.
        self.policies = {MODULE_ID}
        self.policy_mapping_fn = map_to_agents
        self.add_default_connectors_to_learner_pipeline = False
        # Evaluation: enough copies that the network's fixed costs vanish; a broken runner is replaced at once.
        self.env_runner_cls = BatchedEnvRunner
        self.num_envs_per_env_runner = 64
        self.evaluation_duration = 64 * 2000
        self.evaluation_duration_unit = "timesteps"
        self.delay_between_env_runner_restarts_s = 0.0
        # A thread that watches the machine, and puts what it sees into every result.
        self.log_sys_usage = False
        for f in self.settings.documentation():
            setattr(self, f.name, f.default)

    @override
    def environment(
        self, env: str = NotProvided, *, env_config: Mapping[str, Any] = NotProvided, **kwargs: Any
    ) -> Self:
        """Name the environment.

        Args:
            env: Its name in this package's registry.
            env_config: Its configuration.
            **kwargs: As RLlib's.
        """
        return cast(Self, super().environment(env, env_config=env_config, **kwargs))

    @override
    def offline_data(self, *, input_: str | Path = NotProvided, **kwargs: Any) -> Self:
        """Name the data set.

        Args:
            input_: Its folder or URI; a folder is made absolute, since Ray Tune runs trials in folders of their own.
            **kwargs: As RLlib's.
        """
        if input_ is not NotProvided:
            kwargs["input_"] = storage.absolute(input_)
        return cast(Self, super().offline_data(**kwargs))

    @override
    def training(self, **settings: Any) -> Self:
        """Set hyper-parameters, the fields of `settings`.

        Raises:
            ConfigError: At a name that is not among them; values are checked by `validate`.
        """
        names = {f.name for f in self.settings.documentation()}
        for name, value in settings.items():
            if name not in names:
                raise self._unknown(name, value)
            setattr(self, name, value)
        return self

    @override
    def update_from_dict(self, config_dict: Mapping[str, Any]) -> Self:
        """Set attributes, as Ray Tune does.

        Raises:
            ConfigError: At an unknown one, which RLlib would silently accept.
        """
        for name, value in config_dict.items():
            if name not in (*_TUNES_OWN, *_OLD_API_STACK) and name not in self:
                raise self._unknown(name, value)
        known = {name: value for name, value in config_dict.items() if name not in _OLD_API_STACK}
        return cast(Self, super().update_from_dict(known))

    def parsed(self) -> Configuration:
        """The hyper-parameters as a typed object.

        Raises:
            ConfigError: Naming field, value and what is allowed.
        """
        return self.settings.parse({f.name: getattr(self, f.name) for f in self.settings.documentation()})

    def set_output(self, out: Path) -> None:
        """Name the folder of a training run, where an algorithm keeps what does not belong in the driver's checkpoint."""

    def caution(self) -> str | None:
        """The setting that holds policies to the data, the more so the larger it is; None where there is none."""
        return None

    def build_env(self, num_envs: int = 1) -> BatchedEnv:
        """The environment; one that is not ours is known by its data alone.

        Raises:
            UserError: At a name, field or value that is unknown or wrong.
        """
        if not isinstance(self.env, str):
            names = ", ".join(env_names())
            raise ConfigError(self.settings.owner, "env", self.env, f"it should be the name of an environment: {names}")
        if self.env not in env_names() and self.is_offline and not self.env_config:
            return recorded_env(str(self.input_), self.env, num_envs)
        return make_env(self.env, num_envs, **self.env_config)

    @override
    def validate(self) -> None:
        """Check everything that can be checked without opening the data.

        Raises:
            ConfigError: Naming field, value and what is allowed.
        """
        parsed = self.parsed()
        for f in self.settings.documentation():
            # What a command line or a search space gives as text has become a number.
            setattr(self, f.name, getattr(parsed, f.name))
        env = self.build_env()
        self.requirements.check_environment(self.settings.owner, env.name)
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self.requirements.check_input(self.settings.owner, self.input_ if self.is_offline else None)
        self._validate_evaluation()
        if self.evaluation_interval and isinstance(env, RecordedEnv):
            problem = f"{env.name} is known by its data alone and cannot be run; leave it out, and use `estimate`"
            raise ConfigError(self.settings.owner, "evaluation_interval", self.evaluation_interval, problem)
        # RLlib's warning that an algorithm is on the new API stack, which is the point here.
        log_once(f"{self.algo_class.__name__}_on_new_api_stack")
        super().validate()

    def _unknown(self, name: str, value: Any) -> ConfigError:
        names = ", ".join(f.name for f in self.settings.documentation())
        return ConfigError(self.settings.owner, name, value, f"there is no such field; fields are {names}")

    def _validate_evaluation(self) -> None:
        owner = self.settings.owner
        if self.num_envs_per_env_runner < 1:
            raise ConfigError(owner, "num_envs_per_env_runner", self.num_envs_per_env_runner, "it should be at least 1")
        if self.evaluation_parallel_to_training:
            raise ConfigError(
                owner, "evaluation_parallel_to_training", True, "a policy is evaluated between iterations"
            )
        if not isinstance(self.evaluation_duration, int) or self.evaluation_duration < 1:
            raise ConfigError(owner, "evaluation_duration", self.evaluation_duration, "it should be a positive integer")


class OfflineMultiAgentAlgorithm(Algorithm):  # type: ignore[misc]
    """An algorithm without online sampling; subclasses implement `prepare`, `training_step` and `policy`.

    RLlib 2.60 sets up, restores and evaluates every algorithm through EnvRunners and a LearnerGroup that an offline one
    lacks; the methods overridden here do without.
    """

    config: OfflineMultiAgentConfig
    evaluation_config: OfflineMultiAgentConfig

    @abstractmethod
    def prepare(self, env: BatchedEnv) -> None:
        """Open the data and build what learns.

        Args:
            env: The environment, one copy.
        """

    @property
    def share_done(self) -> float | None:
        """Share of the training that is done; None for an algorithm that goes on as long as it is told to."""
        return None

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to learn."""
        return self.share_done == 1.0

    def is_whole(self) -> bool:
        """Whether all processes that the algorithm cannot replace by itself still answer."""
        return True

    @abstractmethod
    def policy(self) -> PortablePolicy | None:
        """The policy learned so far, a copy; None as long as there is none."""

    def export_policy(self, path: Path | str) -> None:
        """Save the policy in the portable form, which loads without Ray.

        Args:
            path: The folder, replaced as a whole.

        Raises:
            UserError: Where there is no policy yet.
        """
        policy = self.policy()
        if policy is None:
            raise UserError(f"{self.config.settings.owner} has learned no policy yet; train on")
        save_policy(policy, path, env=self.config.build_env(), env_config=dict(self.config.env_config))

    @override
    def setup(self, config: OfflineMultiAgentConfig) -> None:
        update_global_seed_if_necessary("torch", config.seed)
        # As Ray does in its actors: more threads than cores in use collapse small networks' speed.
        torch.set_num_threads(max(int(config.num_cpus_for_main_process), 1))
        callbacks = config.callbacks_class
        self.callbacks = [c() for c in (callbacks if isinstance(callbacks, list | tuple) else [callbacks])]
        # What RLlib's own methods look for and an offline algorithm has none of.
        self.env_runner_group = self.offline_data = self.offline_eval_runner_group = None
        self.evaluation_dataset = self._aggregator_actor_manager = None
        self.env_to_module_connector = self.module_to_env_connector = None
        self.evaluation_config = config.get_evaluation_config_object()
        self.evaluation_config.freeze()
        self._evaluation_runners: EvaluationRunners | None = None
        self._set_up_metrics()
        self.prepare(config.build_env())
        self._callback("on_algorithm_init", config.callbacks_on_algorithm_init)

    @override
    def evaluate(self, parallel_train_future: Any = None) -> dict[str, Any]:
        """Run the policy in the environment for `evaluation_duration`, on `evaluation_num_env_runners` actors or here.

        Two evaluations of one policy are equal: they draw the same random numbers.

        Returns:
            The environment's metrics under `env_runners`; nothing there while there is no policy.
        """
        self._callback("on_evaluate_start", self.config.callbacks_on_evaluate_start)
        policy = self.policy()
        results: dict[str, Any] = {ENV_RUNNER_RESULTS: {}}
        if policy is not None:
            if self._evaluation_runners is None:
                self._evaluation_runners = EvaluationRunners(self.evaluation_config)
            results[ENV_RUNNER_RESULTS] = self._evaluation_runners.evaluate(policy)
            results["num_healthy_workers"] = self._evaluation_runners.num_healthy
        self._callback("on_evaluate_end", self.config.callbacks_on_evaluate_end, evaluation_metrics=results)
        return results

    @override
    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        # There are none for training; those for evaluation are brought back by their pool.
        return []

    @override
    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        return {COMPONENT_METRICS_LOGGER: self.metrics.get_state(), TRAINING_ITERATION: self.training_iteration}

    @override
    def set_state(self, state: dict[str, Any]) -> None:
        if COMPONENT_METRICS_LOGGER in state:
            self.metrics.set_state(state[COMPONENT_METRICS_LOGGER])
        if TRAINING_ITERATION in state:
            self._iteration = state[TRAINING_ITERATION]

    @override
    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        return []

    @override
    def restore_from_path(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        # RLlib's own method would go on to send weights to EnvRunners that do not exist.
        super(Algorithm, self).restore_from_path(path, *args, **kwargs)

    @override
    def cleanup(self) -> None:
        runners: EvaluationRunners | None = getattr(self, "_evaluation_runners", None)
        if runners is not None:
            runners.stop()
        super().cleanup()

    @classmethod
    def own_bundles(cls, config: OfflineMultiAgentConfig) -> list[dict[str, float]]:
        """Resources of the actors that the algorithm makes itself; without them Ray Tune would never schedule these."""
        return []

    @classmethod
    @override
    def default_resource_request(cls, config: Any) -> PlacementGroupFactory:
        request = super().default_resource_request(config)
        parsed = cls.get_default_config().update_from_dict(config)
        parsed.validate()
        return PlacementGroupFactory([*request.bundles, *cls.own_bundles(parsed)], strategy=parsed.placement_strategy)

    @staticmethod
    @override
    def _get_env_id_and_creator(env_specifier: str, config: OfflineMultiAgentConfig) -> tuple[str, Any]:
        return env_specifier, lambda env_config: make_env(env_specifier, **env_config)

    def _callback(self, name: str, functions: Any, **arguments: Any) -> None:
        make_callback(
            name,
            self.callbacks,
            functions,
            kwargs={"algorithm": self, "metrics_logger": self.metrics, **arguments},
        )
