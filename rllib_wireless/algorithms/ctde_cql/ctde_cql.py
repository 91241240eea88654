"""CTDE-CQL: access points, stations or other agents learn a joint task offline, each from what it observes itself."""

from pathlib import Path
from typing import Any, cast

import numpy as np
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from typing_extensions import override

from rllib_wireless.algorithms.ctde_cql.ctde_cql_learner import CTDECQLLearner
from rllib_wireless.algorithms.ctde_cql.ctde_cql_module import CTDECQLModule
from rllib_wireless.algorithms.ctde_cql.kept_steps import KeptSteps
from rllib_wireless.algorithms.ctde_cql.replay import Replay
from rllib_wireless.algorithms.ctde_cql.scaling import measure
from rllib_wireless.algorithms.ctde_cql.settings import CTDECQLSettings
from rllib_wireless.algorithms.env_runner import BatchedEnvRunner
from rllib_wireless.algorithms.gradient import GradientAlgorithm, GradientConfig, layer_sizes
from rllib_wireless.algorithms.requirements import Requirements
from rllib_wireless.data.fragments import Fragment
from rllib_wireless.data.sampling import TensorIterator
from rllib_wireless.envs import BatchedEnv
from rllib_wireless.errors import ConfigError
from rllib_wireless.policies import JointNetworkPolicy, NetworkPolicy, PortablePolicy, StackedMLP
from rllib_wireless.policies.choice import Mode

_COLUMNS = (
    *("obs", "actions", "action_mask", "rewards", "duration", "terminateds", "acting"),
    *("new_obs", "new_action_mask"),
)

_REPLAY = "replay"

# Numbers of episodes that each iteration has to itself.
_EPISODES = 1_000_000


class CTDECQLConfig(GradientConfig):
    r"""Configuration of CTDE-CQL (Eldeeb and Alves, 2025) and of what it is compared with.

    K critics of each agent i learn from rows (o, a, r, d, o') that hold all agents side by side,

    .. math:: L = \sum_k E[\tfrac{1}{2} (Q_{tot,k} - y)^2 + \alpha \sum_i (\log \sum_a e^{Q_{i,k}(o_i, a)} - Q_{i,k}(o_i, a_i))]

    .. math:: Q_{tot,k} = f_k(Q_{1,k}(o_1, a_1), ..., Q_{N,k}(o_N, a_N)),  y = r + \gamma^d \min_k \bar f_k(V_1, ..., V_N)

    where f is the sum (VDN, the paper's) or a function that rises with each value (QMIX), bars mark slowly moving copies, d is
    the time until the next decision, and y = r where the game terminated; where it was merely cut off, values go on. With SAC,

    .. math:: V_i = \sum_a \pi_i(a | o'_i) [\min_k \bar Q_{i,k}(o'_i, a) - \tau \log \pi_i(a | o'_i)]

    and policies maximise the same expression of the learned critics at o; with double DQN,

    .. math:: V_i = \bar Q_i(o'_i, \arg\max_a Q_i(o'_i, a)).

    Sums and maxima are over legal actions. With `independent` every agent has a TD error of its own, with `centralized` one
    agent plays for all: it sees all observations and chooses the joint action. An agent that does not act counts in the team's
    value, and has neither a policy nor a conservative term.

    .. code-block:: python

        config = (
            CTDECQLConfig()
            .environment("radio_resource")
            .offline_data(input_="data/sac")
            .training(paradigm="ctde", backbone="sac", cql_alpha=1.0)
        )
        algo = config.build_algo()
        algo.train()
        algo.export_policy("out/policy")

    Without data, and with `cql_alpha=0`, it is online SAC or DQN: it fills a replay buffer by acting, explores by the policy's
    own randomness or by random actions, and so makes behaviour data.

    Its fields are those of `CTDECQLSettings`.
    """

    settings = CTDECQLSettings
    requirements = Requirements(data="optional", aligned=True)
    columns = _COLUMNS

    def __init__(self, algo_class: type["CTDECQL"] | None = None) -> None:
        super().__init__(algo_class=algo_class or CTDECQL)
        self.replay_dir: str | None = None

    @override
    def set_output(self, out: Path) -> None:
        self.replay_dir = str(out / "replay")

    @override
    def caution(self) -> str:
        return "cql_alpha"

    @override
    def columns_to_load(self) -> tuple[str, ...]:
        return (*self.columns, "state", "new_state") if self.mixer == "monotonic" else self.columns

    @property
    @override
    def rows_align(self) -> bool:
        return bool(self.paradigm != "independent")

    @override
    def validate(self) -> None:
        super().validate()
        if self.paradigm == "centralized":
            self._check_joint_actions(self.build_env())
        if not self.is_offline:
            self._check_online()
        elif self.keep_replay is not None:
            raise ConfigError(
                self.settings.owner, "keep_replay", self.keep_replay, "with a data set there is no replay"
            )

    @override
    def parsed(self) -> CTDECQLSettings:
        return cast(CTDECQLSettings, super().parsed())

    @override
    def get_default_learner_class(self) -> type[CTDECQLLearner]:
        return CTDECQLLearner

    def _check_joint_actions(self, env: BatchedEnv) -> None:
        actions, agents = int(env.action_space.n), len(env.agents)
        if actions**agents > self.max_joint_actions:
            raise ConfigError(
                self.settings.owner,
                "paradigm",
                self.paradigm,
                f"{agents} agents with {actions} actions each have {actions**agents} joint actions, more than "
                f"max_joint_actions = {self.max_joint_actions}; 'ctde' needs no joint actions",
            )

    def _check_online(self) -> None:
        owner = self.settings.owner
        why = "without a data set, which .offline_data(input_=...) or --data names, it should be 0"
        for name in ("cql_alpha", "num_learners", "num_env_runners"):
            if getattr(self, name) != 0:
                raise ConfigError(owner, name, getattr(self, name), why)
        if self.keep_replay is not None and self.replay_dir is None:
            raise ConfigError(owner, "keep_replay", self.keep_replay, "set_output(folder) has not said where to")


class CTDECQL(GradientAlgorithm):
    """Conservative discrete SAC or DQN with value decomposition, centralized or independent."""

    config: CTDECQLConfig

    @classmethod
    @override
    def get_default_config(cls) -> CTDECQLConfig:
        return CTDECQLConfig()

    @override
    def open_data(self, env: BatchedEnv) -> list[TensorIterator]:
        self._replay: Replay | None = None
        if self.config.is_offline:
            return super().open_data(env)
        config = self.config
        self._runner = BatchedEnvRunner(config=config, worker_index=0, num_workers=0)
        self._replay = Replay(config.replay_capacity, config.columns_to_load(), config.seed)
        self._replay.add(
            self._runner.record(_uniform(env), config.learning_starts, seed=self._seed(0), state=self._with_state)
        )
        if config.keep_replay is not None:
            assert config.replay_dir is not None  # as `validate` has made sure of
            name = f"{config.settings.owner} {config.backbone}, online"
            self._kept = KeptSteps(Path(config.replay_dir), self._runner.env, name, config.seed)
        return [self._replay]

    @override
    def module_spec(self, env: BatchedEnv) -> RLModuleSpec:
        config = self.config
        agents, sizes = len(env.agents), layer_sizes(env, config.fcnet_hiddens)
        if config.paradigm == "centralized":
            agents, sizes = 1, (agents * sizes[0], *sizes[1:-1], sizes[-1] ** agents)
        settings = config.parsed()
        # Every Learner is given the same numbers, so all rows count, not those of one shard.
        measured = ("rewards", "duration", "terminateds", *(("state",) if self._with_state else ()))
        recorded = TensorIterator([config.input_], columns=measured, aligned=config.rows_align)
        rows = recorded if self._replay is None else self._replay
        return RLModuleSpec(
            module_class=CTDECQLModule,
            observation_space=env.observation_space,
            action_space=env.action_space,
            model_config={
                "num_agents": agents,
                "sizes": sizes,
                "settings": settings,
                "scaling": measure(rows.rows(), env.gamma, settings),
            },
        )

    @override
    def training_step(self) -> None:
        if self._replay is None:
            super().training_step()
            return
        config, iteration = self.config, self.iteration + 1
        first, last = config.keep_replay or (0, 0)
        rounds = -(-config.rollout_length // config.rollout_fragment_length)
        kept: list[Fragment] = []
        updates = 0
        for number in range(1, rounds + 1):
            fragments = self._act(iteration, begin=number == 1)
            self._replay.add(fragments)
            if first <= iteration <= last:
                kept += fragments
            due = number * config.dataset_num_iters_per_learner // rounds - updates
            if due:
                self.update(due)
                updates += due
        if kept:
            self._kept.write(iteration, kept)
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, self._replay.total, window=1)

    @override
    def policy(self) -> PortablePolicy:
        return self._policy(self.config.mode)

    @override
    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        state = super().get_state(components, not_components=not_components, **kwargs)
        return state if self._replay is None else {**state, _REPLAY: self._replay.content()}

    @override
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if self._replay is not None and _REPLAY in state:
            self._replay.restore(state[_REPLAY])

    @property
    def _with_state(self) -> bool:
        return bool(self.config.mixer == "monotonic")

    def _act(self, iteration: int, begin: bool) -> list[Fragment]:
        """Steps of all copies between gradient steps."""
        config = self.config
        return self._runner.record(
            self._explorer(),
            config.rollout_fragment_length * config.num_envs_per_env_runner,
            seed=self._seed(iteration) if begin else None,
            first_episode=iteration * _EPISODES,
            state=self._with_state or config.keep_replay is not None,
        )

    def _seed(self, iteration: int) -> int:
        """Seed of the episodes of an iteration; those of another iteration or run differ."""
        return int(np.random.SeedSequence([self.config.seed, iteration]).generate_state(1)[0])

    def _explorer(self) -> PortablePolicy:
        """What acts while learning online."""
        assert self._replay is not None
        if self.config.backbone == "sac":
            return self._policy("sample")
        share = min(self._replay.total / self.config.epsilon_steps, 1.0)
        return self._policy("greedy", 1.0 - share * (1.0 - self.config.final_epsilon))

    def _policy(self, mode: Mode, epsilon: float = 0.0) -> PortablePolicy:
        config = self.config
        if config.backbone == "sac":
            network = self.network("actor")
        else:
            # Of several critics the first one acts.
            critics = self.network("critic")
            network = critics.part(0, critics.num_agents // config.parsed().critics)
        if config.paradigm == "centralized":
            return JointNetworkPolicy(network, self.agents, int(config.action_space.n), mode, epsilon)
        return NetworkPolicy(network, self.agents, mode, epsilon)


def _uniform(env: BatchedEnv) -> NetworkPolicy:
    """Acts uniformly at random, whatever its network says."""
    return NetworkPolicy(StackedMLP(len(env.agents), layer_sizes(env, ())), env.agents, epsilon=1.0)
