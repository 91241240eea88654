"""Rules of offloading: never, at random, and by thresholds that are the same for all devices."""

import dataclasses
from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration, field
from rllib_wireless.envs.base import EnvStep, IntArray
from rllib_wireless.envs.policy import Policy
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.envs.task_offloading.device import (
    NUM_ACTIONS,
    OFFLOAD,
    PROCESS,
    WAIT,
    Devices,
    Floats,
    legal_actions,
)
from rllib_wireless.envs.task_offloading.joint import evaluate_jointly
from rllib_wireless.envs.task_offloading.simulator import TaskOffloading


@dataclass(frozen=True, config=CONFIG)
class ProcessConfig(Configuration):
    """When devices process locally."""

    owner: ClassVar[str] = "never_offload"

    process_age: int = field(1, "Smallest age at which a device processes.", unit="slots", ge=1)
    process_battery: int = field(2, "Smallest battery level at which it processes.", unit="units", ge=0)


@dataclass(frozen=True, config=CONFIG)
class ThresholdConfig(ProcessConfig):
    """When devices process locally, and when they offload."""

    owner: ClassVar[str] = "threshold"

    offload_age: int = field(4, "Smallest age at which a device that does not process offloads.", unit="slots", ge=1)


@dataclass(frozen=True, config=CONFIG)
class RandomConfig(Configuration):
    """Devices that act at random."""

    owner: ClassVar[str] = "random"

    offload_probability: float = field(
        1 / 3, "Probability of offloading; other legal actions share the rest.", ge=0, le=1
    )


class NeverOffload(Policy):
    """Process at thresholds of age and battery, else wait: the server stays idle."""

    def __init__(self, env: TaskOffloading, config: ProcessConfig) -> None:
        self._config = config
        self._scale = np.array([env.config.max_age, env.config.battery_capacity])

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        age, battery = np.moveaxis(np.rint(step.obs * self._scale), -1, 0)
        process = (age >= self._config.process_age) & (battery >= self._config.process_battery)
        self.action_prob = np.ones(age.shape, np.float32)
        return np.where(process & step.action_mask[..., PROCESS], PROCESS, self._otherwise(age))

    def _otherwise(self, age: IntArray) -> IntArray:
        """What devices that do not process do."""
        return np.full(age.shape, WAIT)


class Threshold(NeverOffload):
    """Process if the battery allows, else offload what is old enough, else wait; the same thresholds for all devices."""

    _config: ThresholdConfig

    def _otherwise(self, age: IntArray) -> IntArray:
        return np.where(age >= self._config.offload_age, OFFLOAD, WAIT)


class Random(Policy):
    """Offload with some probability, else another legal action, all alike."""

    def __init__(self, env: TaskOffloading, config: RandomConfig) -> None:
        self._offload = config.offload_probability

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        u, share = random.uniform(), self._offload
        legal = step.action_mask[..., :OFFLOAD].sum(-1)  # legal actions other than offloading are the lowest ones
        offloads = u < share
        others = (np.maximum(u - share, 0.0) / max(1.0 - share, 1e-300) * legal).astype(np.int64)
        self.action_prob = np.where(offloads, share, (1.0 - share) / legal).astype(np.float32)
        return np.where(offloads, OFFLOAD, np.minimum(others, legal - 1))


def threshold_table(devices: Devices, config: ThresholdConfig) -> Floats:
    """What `threshold` does in each state, as probabilities [S, A]."""
    age = np.repeat(np.arange(1, devices.max_age + 1), devices.num_levels)
    battery = np.tile(np.arange(devices.lowest, devices.capacity + 1), devices.max_age)
    process = (age >= config.process_age) & (battery >= config.process_battery) & legal_actions(devices)[:, PROCESS]
    action = np.where(process, PROCESS, np.where(age >= config.offload_age, OFFLOAD, WAIT))
    return np.eye(NUM_ACTIONS)[action]


def best_threshold(env: TaskOffloading) -> tuple[ThresholdConfig, float]:
    """The thresholds, alike for all devices, of least discounted cost, and that cost per slot.

    One threshold after the other is moved to its best value, until none moves; costs are exact. Offloading from an age above the
    cap on is never offloading.
    """
    capacity, oldest = env.config.battery_capacity, env.config.max_age
    values = {
        "offload_age": range(1, oldest + 2),
        "process_age": range(1, oldest + 1),
        "process_battery": range(capacity + 1),
    }
    known: dict[ThresholdConfig, float] = {}

    def cost(config: ThresholdConfig) -> float:
        if config not in known:
            policies = np.broadcast_to(threshold_table(env.devices, config), (len(env.agents), *legal.shape))
            known[config] = evaluate_jointly(env, policies).discounted
        return known[config]

    legal = legal_actions(env.devices)
    best, before = ThresholdConfig(), None
    while best != before:
        before = best
        for name, candidates in values.items():
            best = min((dataclasses.replace(best, **{name: value}) for value in candidates), key=cost)
    return best, cost(best)
