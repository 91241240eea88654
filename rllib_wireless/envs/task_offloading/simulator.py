"""Task offloading as a BatchedEnv: B copies of N devices that wait, process locally, or offload to one edge server."""

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import (
    BoolArray,
    EnvStep,
    FinalStep,
    FloatArray,
    IntArray,
    ObsField,
    Statistics,
)
from rllib_wireless.envs.random import jit
from rllib_wireless.envs.sharing import SharingEnv
from rllib_wireless.envs.task_offloading.cmdp import assumption_1, device_cmdp
from rllib_wireless.envs.task_offloading.config import TaskOffloadingConfig
from rllib_wireless.envs.task_offloading.device import (
    NUM_ACTIONS,
    OFFLOAD,
    PROCESS,
    Devices,
    Floats,
    congestion,
    draw_devices,
    draw_slot,
    draw_start,
    may_process,
    slot,
)

DEVICE_COUNTS = (
    "reward",
    "discounted_cost",  # sum of gamma^t times the cost, -reward
    "offloads",
    "discounted_offloads",  # sum of gamma^t over slots in which it offloads
    "processed",  # slots in which it processes locally
    "age",  # sum of the ages at the ends of the slots
    "illegal_actions",
)
_REWARD, _DISCOUNTED_COST, _OFFLOADS, _DISCOUNTED_OFFLOADS, _PROCESSED, _AGE, _ILLEGAL = range(len(DEVICE_COUNTS))


class TaskOffloading(SharingEnv):
    """B copies of N devices; action 0 waits, 1 processes locally, 2 offloads.

    The paper minimises a cost, the reward is minus that cost: the local cost u of eq. (20), and for a device that offloads the
    congestion penalty f(n), n being the number of devices that offload in the same slot. The step's cost is the
    constrained one of eq. (22), 1 where a device offloads.

    Attributes:
        devices: The devices that were drawn.
        penalty: f(n) for n = 0, ..., N.
    """

    name = "task_offloading"
    duration_unit = "slots"
    gamma = 0.95
    has_cost = True

    config: TaskOffloadingConfig

    def __init__(self, config: TaskOffloadingConfig, num_envs: int = 1, strict: bool = False) -> None:
        super().__init__(config, num_envs, strict)
        b, n = num_envs, config.num_devices
        self.agents = tuple(f"device_{i}" for i in range(n))
        self.devices = draw_devices(config)
        self.penalty = congestion(np.arange(n + 1), config.penalty_exponent, config.penalty_scale)
        own = _obs_fields(self.devices)
        self._set_fields(own, own)
        self.action_space = gymnasium.spaces.Discrete(NUM_ACTIONS)
        self._limits = np.array(config.offload_limits)
        self._age, self._battery = np.ones((b, n), np.int64), np.zeros((b, n), np.int64)
        self._time = np.zeros(b, np.int64)
        self._offloading = np.zeros(b, np.int64)  # devices that offloaded in the last slot
        self._discount, self._discounts = np.ones(b), np.zeros(b)  # gamma^t, and its sum over the episode
        self._counts = np.zeros((b, len(DEVICE_COUNTS), n))
        self._obs = np.zeros((b, n, 2), np.float32)
        self._mask = np.ones((b, n, NUM_ACTIONS), np.bool_)
        self._acting = np.ones((b, n), np.bool_)
        self._reward, self._cost = np.zeros((b, n), np.float32), np.zeros((b, n), np.float32)
        self._duration = np.zeros(b, np.float32)
        self._never = np.zeros(b, np.bool_)
        self._seed = self._draws = 0

    @property
    def assumption_1(self) -> Floats:
        """By how much offloading alone is cheaper than the best other action, in the worst state of each device, [N].

        Assumption 1 of the paper holds for the devices where this is not negative.
        """
        return np.array([assumption_1(device_cmdp(self.devices, i, self.gamma)) for i in range(len(self.agents))])

    def reset(self, seed: int = 0) -> EnvStep:
        self._seed, self._draws = seed, 0
        self._reward[:] = self._cost[:] = 0.0
        self._duration[:] = 0.0
        self._begin(np.arange(self.num_envs))
        return self._show(self._never, None)

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        chosen = np.array(actions, np.int64)
        if self.strict:
            self.refuse_illegal(chosen, self._mask)
        _advance(
            self.devices, self.penalty, self._seed, self._draws, self._age, self._battery, chosen, self._discount,
            self._offloading, self._reward, self._cost, self._counts,
        )  # fmt: skip
        self._draws += 1
        self._time += 1
        self._discounts += self._discount
        self._discount *= self.gamma
        self._duration[:] = 1.0
        truncated, final = self._never, None
        if self.config.episode_slots is not None and (over := self._time >= self.config.episode_slots).any():
            truncated, final = over, self._final(np.flatnonzero(over))
            self._begin(final.copies)
        return self._show(truncated, final)

    def local_state(self) -> FloatArray:
        """The observation: age and battery."""
        return self._obs.copy()

    def state(self) -> FloatArray:
        """The blocks of local state, then the share of devices that offloaded in the last slot."""
        share = (self._offloading / len(self.agents)).astype(np.float32)
        return np.concatenate([self._obs.reshape(self.num_envs, -1), share[:, None]], axis=1)

    def statistics(self) -> Statistics:
        return {name: value.copy() for name, value in self._sums().items()}

    def _sums(self) -> Statistics:
        per_device = {name: self._counts[:, k] for k, name in enumerate(DEVICE_COUNTS)}
        return {
            "slots": self._time,
            "discount": self._discounts,
            "discounted_limit": self._discounts[:, None] * self._limits,
            **per_device,
        }

    def _begin(self, copies: IntArray) -> None:
        """Begin new episodes in these copies."""
        _start(self.devices, self._seed, self._draws, copies, self._age, self._battery)
        self._time[copies] = self._offloading[copies] = 0
        self._discount[copies], self._discounts[copies] = 1.0, 0.0
        self._counts[copies] = 0.0

    def _observe(self) -> None:
        self._obs[..., 0] = self._age / self.config.max_age
        self._obs[..., 1] = self._battery / self.config.battery_capacity
        self._mask[..., PROCESS] = (self._battery >= 0) | (not self.devices.debt)

    def _show(self, truncated: BoolArray, final: FinalStep | None) -> EnvStep:
        self._observe()
        return EnvStep(
            obs=self._with_neighbours(self._obs),
            action_mask=self._mask,
            acting=self._acting,
            reward=self._reward,
            cost=self._cost,
            terminated=self._never,
            truncated=truncated,
            duration=self._duration,
            final=final,
        )

    def _final(self, copies: IntArray) -> FinalStep:
        self._observe()
        return self.ended(copies, self._with_neighbours(self._obs), self._mask, self._acting)


def _obs_fields(devices: Devices) -> tuple[ObsField, ...]:
    lowest = devices.lowest / devices.capacity
    return (
        ObsField("age", "continuous", shared="compressed", description="age of information / its cap M"),
        ObsField("battery", "continuous", low=lowest, shared="full", description="battery level / its capacity B"),
    )


@jit
def _advance(
    devices: Devices,
    penalty: Floats,
    seed: int,
    counter: int,
    age: IntArray,
    battery: IntArray,
    actions: IntArray,
    discount: Floats,
    offloading: IntArray,
    reward: FloatArray,
    cost: FloatArray,
    counts: Floats,
) -> None:
    """Execute actions [B, N] in all copies; illegal ones become 0 and are counted."""
    for b in range(actions.shape[0]):
        offloading[b] = 0
        for i in range(actions.shape[1]):
            action = actions[b, i]
            if action < 0 or action > OFFLOAD or (action == PROCESS and not may_process(devices, battery[b, i])):
                counts[b, _ILLEGAL, i] += 1
                actions[b, i] = 0
            offloading[b] += actions[b, i] == OFFLOAD
        for i in range(actions.shape[1]):
            action = actions[b, i]
            harvested, energy = draw_slot(devices, i, seed, b, i, counter)
            age[b, i], battery[b, i], paid = slot(devices, i, age[b, i], battery[b, i], action, harvested, energy)
            offloads = action == OFFLOAD
            if offloads:
                paid += penalty[offloading[b]]
            reward[b, i], cost[b, i] = -paid, offloads
            counts[b, _REWARD, i] -= paid
            counts[b, _DISCOUNTED_COST, i] += discount[b] * paid
            counts[b, _OFFLOADS, i] += offloads
            counts[b, _DISCOUNTED_OFFLOADS, i] += discount[b] * offloads
            counts[b, _PROCESSED, i] += action == PROCESS
            counts[b, _AGE, i] += age[b, i]


@jit
def _start(devices: Devices, seed: int, counter: int, copies: IntArray, age: IntArray, battery: IntArray) -> None:
    for b in copies:
        for i in range(age.shape[1]):
            age[b, i], battery[b, i] = draw_start(devices, seed, b, i, counter)
