"""RLlib's own DQN and PPO on the fast time scale: function approximation where DCC's Q-learning has tables.

A device's observations are the points of a grid. What a network makes of them is a table, so what its policy costs is
computed from the device's transitions, not estimated.
"""

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import DEFAULT_MODULE_ID, Columns
from ray.util.debug import log_once

from rllib_wireless.algorithms.dcc.local_problems import Answers, LocalProblems
from rllib_wireless.algorithms.dcc.multiplier import Judged, next_multiplier, write_mixture
from rllib_wireless.algorithms.dcc.q_learning import Schedule
from rllib_wireless.algorithms.dcc.settings import DCCSettings
from rllib_wireless.envs.task_offloading.cmdp import ConstrainedMDP, device_cmdp, evaluate_policy
from rllib_wireless.envs.task_offloading.device import (
    NUM_ACTIONS,
    OFFLOAD,
    PROCESS,
    WAIT,
    Devices,
    Floats,
    Ints,
    legal_actions,
    may_process,
    observation_grid,
    pick_energy,
    slot,
)

# Copies of the device that RLlib steps side by side.
_COPIES = 8


class DeviceEnv(gymnasium.Env[Any, Any]):
    """One device as a gymnasium environment; its reward is minus the local cost, and the price of an offload.

    Rewards are scaled by 1 - gamma, so that values are per slot. An illegal action is executed as waiting, as everywhere.
    Episodes begin in any state and are cut off.

    Args:
        context: `devices`, the device alone; `gamma`; and `episode_slots`.

    Attributes:
        price: What an offload costs, the multiplier included; moved from outside.
    """

    def __init__(self, context: dict[str, Any]) -> None:
        self._devices: Devices = context["devices"]
        self._scale, self._slots = 1.0 - context["gamma"], context["episode_slots"]
        ends = np.array([(levels[0], levels[-1]) for levels in observation_grid(self._devices)], np.float32)
        self.observation_space = gymnasium.spaces.Box(ends[:, 0], ends[:, 1])
        self.action_space = gymnasium.spaces.Discrete(NUM_ACTIONS)
        self.price = 0.0
        self._age = self._battery = self._time = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in a state drawn from all."""
        super().reset(seed=seed)
        devices, self._time = self._devices, 0
        self._age = int(self.np_random.integers(1, devices.max_age + 1))
        self._battery = int(self.np_random.integers(devices.lowest, devices.capacity + 1))
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One slot."""
        devices, action = self._devices, int(action)
        if action == PROCESS and not may_process(devices, self._battery):
            action = WAIT
        harvested = int(self.np_random.random() < devices.harvest[0])
        energy = pick_energy(devices, 0, self.np_random.random())
        self._age, self._battery, paid = slot(devices, 0, self._age, self._battery, action, harvested, energy)
        self._time += 1
        reward = -self._scale * (paid + (self.price if action == OFFLOAD else 0.0))
        return self._observation(), reward, False, self._time >= self._slots, {}

    def _observation(self) -> Any:
        return np.array([self._age / self._devices.max_age, self._battery / self._devices.capacity], np.float32)


class RLlibLearners(LocalProblems):
    """Local problems that RLlib's DQN or PPO solves, with a new Algorithm for each device and solution.

    Args:
        devices: The devices.
        settings: Hyper-parameters; `fast_timescale` says which algorithm.
        gamma: Discount per slot.
        seed: Seed of the run.
    """

    def __init__(self, devices: Devices, settings: DCCSettings, gamma: float, seed: int) -> None:
        self._devices, self._settings, self._gamma, self._seed = devices, settings, gamma, seed
        self._schedule = Schedule.of(settings, gamma)

    def empty_memory(self) -> dict[str, Any]:
        return {"multipliers": np.zeros(len(self._devices.harvest))}

    def solve(self, agents: Ints, limits: Floats, prices: Floats, numbers: Ints, memory: dict[str, Any]) -> Answers:
        found = [
            self._solve(*problem)
            for problem in zip(agents, limits, prices, numbers, memory["multipliers"], strict=True)
        ]
        values, usages, multipliers = (np.array(column) for column in zip(*(f[1:] for f in found), strict=True))
        policies = np.stack([f[0] for f in found])
        return Answers(values, usages, multipliers, policies, {"multipliers": multipliers})

    def _solve(
        self, agent: int, limit: float, price: float, number: int, multiplier: float
    ) -> tuple[Floats, float, float, float]:
        """Policy, value, usage and multiplier of one device."""
        schedule, process = self._schedule, device_cmdp(self._devices, agent, self._gamma)
        learner = _DeviceLearner(
            self._devices.part(np.array([agent])), self._settings, self._gamma, _seed_of(self._seed, agent, number)
        )
        tried: list[Judged] = []
        step, before = schedule.multiplier_lr, 0.0
        try:
            for m in range(schedule.updates):
                learner.learn(price + multiplier)
                scores = learner.scores()
                # The best table without offloading, too: it keeps every constraint.
                tried += [judged(process, scores, OFFLOAD), judged(process, scores)]
                multiplier, step, before = next_multiplier(
                    multiplier, step, before, m, tried[-1].used - limit, schedule
                )
        finally:
            learner.stop()
        return conclude(tried, limit, price, schedule)


def judged(process: ConstrainedMDP, scores: Floats, forbidden: int | None = None) -> Judged:
    """The policy that takes the action of the highest score [S, A], of those that are legal, and what it costs exactly."""
    allowed = process.legal
    if forbidden is not None:
        allowed[:, forbidden] = False
    actions = np.where(allowed, scores, -np.inf).argmax(axis=1)
    found = evaluate_policy(process, np.eye(NUM_ACTIONS)[actions])
    mass = np.bincount(process.state, found.occupation, minlength=len(actions))
    return Judged(actions, np.maximum(mass, 0.0), found.value, found.usage)


def conclude(
    tried: Sequence[Judged], limit: float, price: float, schedule: Schedule
) -> tuple[Floats, float, float, float]:
    """The mixture of two policies that costs least among those that keep the constraint.

    Returns:
        The policy [S, A]; its cost per slot with the price; its usage; and the multiplier at which both cost the same.
    """
    best, least = None, np.inf
    for tight in (p for p in tried if p.used <= limit):
        # What each further offload saves with the partner that saves most, beyond the price.
        saving, loose = 0.0, tight
        for other in (p for p in tried if p.used > limit):
            slope = (tight.value - other.value) / (other.used - tight.used) - price
            if slope > saving:
                saving, loose = slope, other
        weight = (limit - tight.used) / (loose.used - tight.used) if schedule.mix and loose is not tight else 0.0
        used = (1.0 - weight) * tight.used + weight * loose.used
        cost = (1.0 - weight) * tight.value + weight * loose.value + price * used
        if cost < least:
            best, least = (tight, loose, weight, used, saving), cost
    assert best is not None, "never offloading, which keeps every constraint, is among them"
    tight, loose, weight, used, saving = best
    policy = np.zeros((len(tight.actions), NUM_ACTIONS))
    write_mixture(policy, tight, loose, weight)
    return policy, least, used, min(saving, schedule.multiplier_max)


class _DeviceLearner:
    """One RLlib Algorithm on one device, which learns and acts in this process."""

    def __init__(self, device: Devices, settings: DCCSettings, gamma: float, seed: int) -> None:
        self._share = settings.steps // settings.multiplier_updates
        self._shape = legal_actions(device).shape
        ages, levels = observation_grid(device)
        grid = np.stack(np.meshgrid(ages, levels, indexing="ij"), axis=-1).reshape(-1, 2)
        self._grid = torch.from_numpy(grid.astype(np.float32))
        config = _config(settings.fast_timescale, self._share)
        context = {"devices": device, "gamma": gamma, "episode_slots": settings.learning_episode_slots}
        config.environment(DeviceEnv, env_config=context)
        config.env_runners(num_env_runners=0, num_envs_per_env_runner=_COPIES)
        config.reporting(min_sample_timesteps_per_iteration=self._share, min_time_s_per_iteration=0)
        config.rl_module(model_config={"fcnet_hiddens": [64, 64], "fcnet_activation": "relu"})
        config.training(gamma=gamma).debugging(seed=seed, log_sys_usage=False)
        if (
            not ray.is_initialized()
        ):  # RLlib hands its configuration around through Ray, even where all is in one process
            ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        log_once(
            f"{config.algo_class.__name__}_on_new_api_stack"
        )  # RLlib's warning that it is, which is the point here
        self._algorithm: Algorithm = config.build_algo()
        if isinstance(config, DQNConfig):
            self._algorithm.local_replay_buffer.rng = np.random.default_rng(seed)  # which RLlib does not seed

    def learn(self, price: float) -> None:
        """Learn for one update of the multiplier."""
        for env in self._algorithm.env_runner.env.unwrapped.envs:
            env.unwrapped.price = price
        self._algorithm.train()

    def scores(self) -> Floats:
        """Q-values, or logits, of all states, [S, A]."""
        module = self._algorithm.get_module(DEFAULT_MODULE_ID)
        with torch.no_grad():
            batch = {Columns.OBS: self._grid}
            if hasattr(module, "compute_q_values"):
                out = module.compute_q_values(batch)["qf_preds"]
            else:
                out = module.forward_inference(batch)[Columns.ACTION_DIST_INPUTS]
        scores: Floats = out.double().numpy().reshape(self._shape)
        return scores

    def stop(self) -> None:
        """End the algorithm."""
        self._algorithm.stop()
        with contextlib.suppress(OSError):
            Path(self._algorithm.logdir).rmdir()  # an empty folder that RLlib makes for every algorithm


def _config(name: str, share: int) -> AlgorithmConfig:
    """RLlib's algorithm, sized for `share` steps between two updates of the multiplier."""
    if name == "rllib_ppo":
        size = min(share, 1000)
        return PPOConfig().training(
            train_batch_size_per_learner=size, minibatch_size=min(size, 125), num_epochs=12, lr=2e-3, entropy_coeff=1e-3,
            lambda_=0.9, vf_clip_param=float("inf"),
        )  # fmt: skip
    # The buffer forgets what was paid at earlier prices.
    buffer = {"type": "EpisodeReplayBuffer", "capacity": max(share, 500)}
    return DQNConfig().training(
        replay_buffer_config=buffer, train_batch_size_per_learner=64, lr=1e-3, target_network_update_freq=500,
        num_steps_sampled_before_learning_starts=min(share, 500), epsilon=[(0, 1.0), (2 * share, 0.1)],
    )  # fmt: skip


def _seed_of(seed: int, agent: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, int(agent), int(number)]).generate_state(1)[0] >> 1)
