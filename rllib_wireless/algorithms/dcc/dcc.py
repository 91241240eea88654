"""DCC: decentralized coordination by constraints (Fox, De Pellegrini & Altman, NeurIPS 2025 workshop AI4NextG)."""

from pathlib import Path
from typing import Any, cast

import numpy as np
from typing_extensions import override

from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm, OfflineMultiAgentConfig
from rllib_wireless.algorithms.dcc.broadcast import Broadcast
from rllib_wireless.algorithms.dcc.fitted import fit_processes
from rllib_wireless.algorithms.dcc.gradients import (
    draw_differences,
    finite_differences,
    lambda_substitution,
    share_of_ten,
)
from rllib_wireless.algorithms.dcc.local_problems import (
    Answers,
    LinearPrograms,
    LocalProblems,
    QLearning,
    SharedProblems,
)
from rllib_wireless.algorithms.dcc.overlap import offload_profiles, overlaps
from rllib_wireless.algorithms.dcc.settings import DCCSettings
from rllib_wireless.algorithms.requirements import Requirements
from rllib_wireless.envs import BatchedEnv
from rllib_wireless.envs.task_offloading import TaskOffloading
from rllib_wireless.envs.task_offloading.cmdp import device_cmdp
from rllib_wireless.envs.task_offloading.device import Floats, Ints, congestion, observation_grid
from rllib_wireless.errors import ConfigError
from rllib_wireless.policies import TablePolicy

_PARTICIPATION, _CONSTRAINTS, _COUPLINGS = 1, 2, 3
"""What random draws are for."""


class DCCConfig(OfflineMultiAgentConfig):
    r"""Configuration of DCC.

    Device i is told K_i, how often it may offload, and K_-i, the sum of all others' constraints. It solves

    .. math:: V_i(K_i, K_{-i}) = \min_\pi E[(1 - \gamma) \sum_t \gamma^t (u_t + 1\{offload\} f(1 + K_{-i}))],
              \quad E[(1 - \gamma) \sum_t \gamma^t 1\{offload\}] \le K_i

    by Q-learning on the cost with a multiplier (fast), and steps of the multiplier (intermediate time scale). On the slow one
    the vector K descends on F(K) = sum_i V_i,

    .. math:: K_i \leftarrow [K_i - b_k (dV_i / dK_i + \sum_{j \ne i} dV_j / dK_{-j})]_{[0, 1]}.

    Costs are minimised; rewards of the environment are minus costs. The first iteration of `train()` solves all problems at
    `initial_constraint`, each further one improves K once and solves them again.

    .. code-block:: python

        config = (
            DCCConfig()
            .environment("task_offloading", env_config={"num_devices": 10})
            .training(fast_timescale="q_learning", gradient="lambda_substitution")
        )

    Its fields are those of `DCCSettings`.
    """

    settings = DCCSettings
    requirements = Requirements(data="optional", aligned=True, environments=("task_offloading",))

    def __init__(self, algo_class: type["DCC"] | None = None) -> None:
        super().__init__(algo_class=algo_class or DCC)

    @override
    def validate(self) -> None:
        super().validate()
        settings, owner = cast(DCCSettings, self.parsed()), self.settings.owner
        env = self.build_env()
        limits = settings.initial_constraint
        if isinstance(limits, tuple) and len(limits) != len(env.agents):
            raise ConfigError(owner, "initial_constraint", limits, f"it should be one number or {len(env.agents)}")
        if settings.criterion == "average" and settings.fast_timescale not in ("exact", "fitted"):
            raise ConfigError(
                owner, "criterion", "average", "Q-learning is discounted, as all learning is: use exact or fitted"
            )
        if settings.congestion == "overlap":
            if settings.criterion == "average" or settings.fast_timescale == "fitted":
                why = "it is measured in rollouts from the start law: neither average nor fitted"
                raise ConfigError(owner, "congestion", "overlap", why)
            if settings.gradient == "finite_differences":
                why = "it changes with every solution, so differences need lambda_substitution"
                raise ConfigError(owner, "congestion", "overlap", why)
        if (settings.fast_timescale == "fitted") != bool(self.is_offline):
            raise ConfigError(
                owner, "fast_timescale", settings.fast_timescale, "data are needed for fitted, and of no use otherwise"
            )


class DCC(OfflineMultiAgentAlgorithm):
    """The slow time scale: the vector of constraints, and what devices tell each other of it.

    Attributes:
        constraints: K_i as each device holds it, broadcast to all.
        couplings: dV_i/dK_-i, broadcast likewise.
        answers: The local solutions at these constraints; None before the first iteration.
        update: Number of improvements so far.
    """

    config: DCCConfig

    @classmethod
    @override
    def get_default_config(cls) -> DCCConfig:
        return DCCConfig()

    @classmethod
    @override
    def own_bundles(cls, config: Any) -> list[dict[str, float]]:
        return [{"CPU": 1.0}] * config.num_device_actors

    @override
    def prepare(self, env: BatchedEnv) -> None:
        assert isinstance(env, TaskOffloading)
        self.settings = s = cast(DCCSettings, self.config.parsed())
        self.problems = self._local_problems(env)
        self._env, n = env, len(env.agents)
        initial = np.broadcast_to(np.asarray(s.initial_constraint, np.float64), n).copy()
        seed = self.config.seed
        self.constraints = Broadcast(initial, s.broadcast_delay, s.broadcast_loss, (seed, _CONSTRAINTS))
        self.couplings = Broadcast(np.zeros(n), s.broadcast_delay, s.broadcast_loss, (seed, _COUPLINGS))
        self.answers: Answers | None = None
        self.update = 0
        self._others = np.zeros(n)  # K_-i at which each device has solved its problem
        self._memory = self.problems.empty_memory()  # what it began with
        self._numbers = np.full(n, -1)  # how many solutions it has been through before
        self._overlap = np.ones(n)  # congestion that it meets over that of K_-i
        self._steps = np.full(n, s.constraint_lr * share_of_ten(n))
        self._directions = np.zeros(n)

    @property
    @override
    def share_done(self) -> float:
        return 0.0 if self.answers is None else (1 + self.update) / (1 + self.settings.constraint_updates)

    @override
    def training_step(self) -> None:
        if self.answers is None:
            self.answers = self._solve(np.arange(len(self._env.agents)))
        else:
            self._improve(self.answers)
            self.update += 1
        if self.settings.congestion == "overlap":
            self._overlap = self._measured_overlap(self.answers)
        limits, answers = self.constraints.own, self.answers
        self._result = {
            "value": float(answers.values.sum()),
            "offload_frequency": float(answers.usages.mean()),
            "constraint": float(limits.mean()),
            "constraint_violation": float(np.maximum(answers.usages - limits, 0.0).mean()),
            "multiplier": float(answers.multipliers.mean()),
            "overlap": float(self._overlap.mean()),
            "constraints": limits.tolist(),
        }

    @override
    def step(self) -> dict[str, Any]:
        result: dict[str, Any] = super().step()
        return {**result, "learners": {"devices": self._result}}

    @override
    def policy(self) -> TablePolicy | None:
        if self.answers is None:
            return None
        return TablePolicy(self.answers.policies, observation_grid(self._env.devices), self._env.agents)

    @override
    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in _STATE}
        own |= {"constraints": self.constraints.get_state(), "couplings": self.couplings.get_state()}
        return {**super().get_state(components, not_components=not_components, **kwargs), "dcc": own}

    @override
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        for name in _STATE:
            setattr(self, name, state["dcc"][name])
        self.constraints.set_state(state["dcc"]["constraints"])
        self.couplings.set_state(state["dcc"]["couplings"])

    @override
    def cleanup(self) -> None:
        if isinstance(self.problems, SharedProblems):
            self.problems.stop()
        super().cleanup()

    def _local_problems(self, env: TaskOffloading) -> LocalProblems:
        s = self.settings
        gamma = 1.0 if s.criterion == "average" else env.gamma
        problems: LocalProblems
        if s.fast_timescale == "q_learning":
            problems = QLearning(env.devices, s, gamma, self.config.seed)
        elif s.fast_timescale in ("rllib_dqn", "rllib_ppo"):
            from rllib_wireless.algorithms.dcc.rllib_local import RLlibLearners  # which imports RLlib's DQN and PPO

            problems = RLlibLearners(env.devices, s, gamma, self.config.seed)
        elif s.fast_timescale == "exact":
            problems = LinearPrograms([device_cmdp(env.devices, i, gamma) for i in range(len(env.agents))])
        else:
            problems = LinearPrograms(fit_processes(Path(self.config.input_), env, gamma))
        if s.num_device_actors == 0:
            return problems
        return SharedProblems(problems, s.num_device_actors, s.actor_timeout_s)

    def _solve(self, devices: Ints) -> Answers:
        """Solve the problems of some devices at the constraints that they know of."""
        if self.answers is not None:
            self._memory = {
                name: _put(self._memory[name], devices, new[devices]) for name, new in self.answers.memory.items()
            }
        self._others = _put(self._others, devices, self.constraints.sum_of_others()[devices])
        self._numbers = _put(self._numbers, devices, self._numbers[devices] + 1)
        new = self._answers(devices, self.constraints.own[devices], self._others[devices])
        return new if self.answers is None else self.answers.replaced(devices, new)

    def _answers(self, devices: Ints, limits: Floats, others: Floats) -> Answers:
        """Answers as they would be at other constraints: from the same begin, with the same random numbers."""
        config = self._env.config
        expected = 1.0 + self._overlap[devices] * others
        prices = congestion(expected, config.penalty_exponent, config.penalty_scale)
        begin = {name: array[devices] for name, array in self._memory.items()}
        return self.problems.solve(devices, limits, prices, self._numbers[devices], begin)

    def _measured_overlap(self, answers: Answers) -> Floats:
        """What the server sees of how the devices' offloads coincide, when each begins an episode."""
        s, env = self.settings, self._env
        profiles = offload_profiles(env.devices, answers.policies, s.rollouts, s.rollout_slots, self.config.seed)
        return overlaps(profiles, env.gamma)

    def _improve(self, answers: Answers) -> None:
        """One step of the constraints of the devices that take part, and their new solutions."""
        s, k = self.settings, self.update
        draws = np.random.default_rng([self.config.seed, k, _PARTICIPATION]).random(len(self._env.agents))
        devices = np.flatnonzero(draws < s.participation)
        self.constraints.deliver(k)
        if len(devices) == 0:
            return
        local, coupling = self._gradient(answers, devices)
        self.couplings.send(coupling, devices, k)
        derivative = local + self.couplings.sum_of_others()[devices]
        self.constraints.send(self._step(devices, derivative), devices, k)
        self.answers = self._solve(devices)

    def _gradient(self, answers: Answers, devices: Ints) -> tuple[Floats, Floats]:
        """dV_i/dK_i and dV_i/dK_-i of these devices."""
        s, config = self.settings, self._env.config
        limits, others = self.constraints.own[devices], self._others[devices]
        if s.gradient == "lambda_substitution":
            found, overlap = answers.at(devices), self._overlap[devices]
            return lambda_substitution(found, others, config.penalty_exponent, config.penalty_scale, overlap)
        own, coupled = draw_differences(s, self.config.seed, self.update, len(self._env.agents))
        return finite_differences(
            lambda k, o: self._answers(devices, k, o).values,
            answers.values[devices],
            limits,
            others,
            (own[devices], coupled[devices]),
        )

    def _step(self, devices: Ints, derivative: Floats) -> Floats:
        """The new constraints of these devices."""
        s = self.settings
        if s.constraint_step == "power":
            size = s.constraint_lr * share_of_ten(len(self._steps)) / (self.update + 1) ** s.constraint_exponent
            move = -size * derivative / max(np.abs(derivative).max(initial=0.0), 1e-12)
        else:
            direction = -np.sign(derivative)
            turned = direction * self._directions[devices] < 0.0
            self._steps = _put(self._steps, devices, np.where(turned, 0.5, 1.0) * self._steps[devices])
            self._directions = _put(self._directions, devices, direction)
            move = direction * self._steps[devices]
        moved: Floats = np.clip(self.constraints.own[devices] + move, 0.0, 1.0)
        return moved


_STATE = ("answers", "update", "_others", "_memory", "_numbers", "_overlap", "_steps", "_directions")
"""Attributes that a checkpoint holds beside the broadcasts."""


def _put(old: Any, places: Ints, new: Any) -> Any:
    """A copy with other values in some places."""
    changed = old.copy()
    changed[places] = new
    return changed
