"""What a device is, how devices are drawn, and what one slot does to one: compiled, and used by all that simulates or solves."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs import random
from rllib_wireless.envs.random import jit
from rllib_wireless.envs.task_offloading.config import TaskOffloadingConfig

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Unsigned = npt.NDArray[np.uint64]
"""Indices in compiled loops: of each signed one Numba asks whether it counts from the end."""

WAIT, PROCESS, OFFLOAD = range(3)
"""Actions."""

NUM_ACTIONS = 3

# Purposes of the random numbers: of a slot, of an episode's begin, and of drawing the devices.
_HARVEST, _ENERGY, _START_AGE, _START_BATTERY = range(4)
_DRAW_HARVEST, _DRAW_PENALTY, _DRAW_WEIGHT = 100, 101, 102

START_FRESH, START_FULL, START_UNIFORM = range(3)


class Devices(NamedTuple):
    """N devices as arrays, for compiled code.

    A state (age, battery) has the number `(age - 1) * num_levels + battery - lowest`.
    """

    max_age: int
    capacity: int
    lowest: int  # battery level, 0 or below
    debt: bool  # energy model: whether batteries go below zero
    ends: bool  # whether a slot costs the age at its end
    energies: Ints  # [E] what processing may take
    battery_exponent: float
    start: int
    harvest: Floats  # [N] probability of harvesting a unit
    energy_probability: Floats  # [N, E]
    battery_penalty: Floats  # [N]

    @property
    def num_levels(self) -> int:
        """Number of battery levels."""
        return self.capacity - self.lowest + 1

    @property
    def num_states(self) -> int:
        """Number S of states of one device."""
        return self.max_age * self.num_levels

    def part(self, indices: Ints) -> "Devices":
        """Some of the devices."""
        return self._replace(
            harvest=self.harvest[indices],
            energy_probability=self.energy_probability[indices],
            battery_penalty=self.battery_penalty[indices],
        )


def draw_devices(config: TaskOffloadingConfig) -> Devices:
    """The devices of a configuration; device i depends on `environment_seed` and i alone."""
    n, seed = config.num_devices, config.environment_seed
    energies = np.array(config.processing_energy, np.int64)

    def uniform(purpose: int) -> Floats:
        return np.array([random.uniform(seed, 0, i, purpose, 0) for i in range(n)])

    low, high = config.harvest_probability
    weights = np.stack(
        [1.0 + config.processing_energy_jitter * (2.0 * uniform(_DRAW_WEIGHT + k) - 1.0) for k in range(len(energies))],
        1,
    )
    penalties = np.array(config.battery_penalty)
    debt = config.energy_model == "debt"
    return Devices(
        max_age=config.max_age,
        capacity=config.battery_capacity,
        lowest=-int(energies.max()) if debt else 0,
        debt=debt,
        ends=config.age_cost == "next",
        energies=energies,
        battery_exponent=config.battery_exponent,
        start={"fresh": START_FRESH, "full": START_FULL, "uniform": START_UNIFORM}[config.start],
        harvest=low + (high - low) * uniform(_DRAW_HARVEST),
        energy_probability=weights / weights.sum(1, keepdims=True),
        battery_penalty=penalties[(uniform(_DRAW_PENALTY) * len(penalties)).astype(np.int64)],
    )


def congestion(offloading: Floats | Ints | float, exponent: float, scale: float) -> Floats:
    """Penalty f(n) = scale (n - 1)^alpha of each of n offloading devices, eq. (21); 0 below n = 1."""
    return scale * np.maximum(np.asarray(offloading, np.float64) - 1.0, 0.0) ** exponent


def congestion_slope(offloading: Floats, exponent: float, scale: float) -> Floats:
    """Derivative f'(n); where it is infinite (alpha < 1 at n = 1) that of a hundredth of a device more."""
    above = np.maximum(offloading - 1.0, 0.01 if exponent < 1.0 else 0.0)
    slope: Floats = scale * exponent * above ** (exponent - 1.0)
    return slope


@jit
def may_process(devices: Devices, battery: int) -> bool:
    """Whether a device with this battery may process."""
    return not devices.debt or battery >= 0


def observation_grid(devices: Devices) -> tuple[Floats, Floats]:
    """The values that the observation takes: ages / M, and battery levels / B."""
    levels = np.arange(devices.lowest, devices.capacity + 1)
    return np.arange(1, devices.max_age + 1) / devices.max_age, levels / devices.capacity


def legal_actions(devices: Devices) -> npt.NDArray[np.bool_]:
    """Which actions are legal in which state, [S, A]."""
    legal = np.ones((devices.max_age, devices.num_levels, NUM_ACTIONS), np.bool_)
    if devices.debt:
        legal[:, : -devices.lowest, PROCESS] = False
    return legal.reshape(-1, NUM_ACTIONS)


@jit
def slot(
    devices: Devices, i: int, age: int, battery: int, action: int, harvested: int, energy: int
) -> tuple[int, int, float]:
    """What a slot makes of device i, whoever else offloads.

    Args:
        devices: The devices.
        i: Index of the device.
        age: Its age of information.
        battery: Its battery level.
        action: Its legal action.
        harvested: Units of energy that it harvests.
        energy: Units that processing takes, if it processes.

    Returns:
        The next age, the next battery level, and the local cost u of eq. (20).
    """
    after = battery + harvested - (energy if action == PROCESS else 0)
    next_age = min(age + 1, devices.max_age) if action == WAIT else 1
    # In debt a device pays as long as it lasts; otherwise once, for what it is short of when it processes.
    short = -battery if devices.debt else -after
    cost = np.float64(next_age if devices.ends else age)
    if short > 0:
        cost += devices.battery_penalty[i] * np.float64(short) ** devices.battery_exponent
    return next_age, max(min(after, devices.capacity), devices.lowest), cost


@jit
def draw_slot(devices: Devices, i: int, seed: int, copy: int, agent: int, counter: int) -> tuple[int, int]:
    """What device i would harvest in a slot, and what processing would take."""
    harvested = 1 if random.uniform(seed, copy, agent, _HARVEST, counter) < devices.harvest[i] else 0
    return harvested, pick_energy(devices, i, random.uniform(seed, copy, agent, _ENERGY, counter))


@jit
def pick_energy(devices: Devices, i: int, u: float) -> int:
    """The energy that processing takes, by a uniform number."""
    last = len(devices.energies) - 1
    for k in range(last):
        u -= devices.energy_probability[i, k]
        if u < 0.0:
            return devices.energies[k]  # type: ignore[no-any-return]
    return devices.energies[last]  # type: ignore[no-any-return]


class Outcomes(NamedTuple):
    """Device i as a table, for kernels that take many slots: what follows each action in each state, by outcome.

    An outcome is what is harvested and what processing would take; there are O = 2 E of them, with equal chances everywhere.
    """

    following: npt.NDArray[np.uint32]  # [S, A, O] next state
    paid: Floats  # [S, A, O] local cost
    chance: Floats  # [O]
    keep: Floats  # [O] Walker's alias method: how much of a column is of the first of its outcomes
    parts: Unsigned  # [O, 2] these two outcomes, its own and another


@jit
def outcomes(devices: Devices, i: int) -> Outcomes:
    """The table of device i; rows of illegal actions are there, and mean nothing."""
    levels = devices.capacity - devices.lowest + 1
    states, count = devices.max_age * levels, 2 * len(devices.energies)
    following = np.empty((states, NUM_ACTIONS, count), np.uint32)
    paid = np.empty((states, NUM_ACTIONS, count))
    chance = np.empty(count)
    for o in range(count):
        harvested, k = o % 2, o // 2
        chance[o] = (devices.harvest[i] if harvested else 1.0 - devices.harvest[i]) * devices.energy_probability[i, k]
        for state in range(states):
            for action in range(NUM_ACTIONS):
                age, battery, cost = slot(
                    devices, i, state // levels + 1, state % levels + devices.lowest, action, harvested,
                    devices.energies[k],
                )  # fmt: skip
                following[state, action, o] = (age - 1) * levels + battery - devices.lowest
                paid[state, action, o] = cost
    keep, parts = _columns(chance)
    return Outcomes(following, paid, chance, keep, parts)


@jit
def _columns(chance: Floats) -> tuple[Floats, Unsigned]:
    """Columns of height 1 / O that hold at most two outcomes each: the lowest is filled up from the highest (Walker 1977)."""
    height, parts = chance * len(chance), np.empty((len(chance), 2), np.uint64)
    for column in range(len(chance)):
        parts[column] = column
    is_open = np.ones(len(chance), np.bool_)
    for _ in range(len(chance) - 1):
        low = np.where(is_open, height, np.inf).argmin()
        high = np.where(is_open, height, -np.inf).argmax()
        parts[low, 1] = high
        height[high] -= 1.0 - height[low]
        is_open[low] = False
    return height, parts


@jit
def pick_outcome(keep: Floats, parts: Unsigned, u: float) -> int:
    """An outcome, by a uniform number and columns of `Outcomes`."""
    place = u * len(keep)
    column = int(place)
    # Looked up rather than decided: a branch that is taken at random costs more than all else here.
    return parts[column, int(place - column >= keep[column])]  # type: ignore[no-any-return]


@jit
def draw_start(devices: Devices, seed: int, copy: int, agent: int, counter: int) -> tuple[int, int]:
    """Age and battery with which an episode begins."""
    of_age = random.uniform(seed, copy, agent, _START_AGE, counter)
    return start_state(devices, of_age, random.uniform(seed, copy, agent, _START_BATTERY, counter))


@jit
def start_state(devices: Devices, of_age: float, of_battery: float) -> tuple[int, int]:
    """Age and battery with which an episode begins, by two uniform numbers."""
    age = 1 + int(of_age * devices.max_age) if devices.start == START_UNIFORM else 1
    battery = devices.capacity if devices.start == START_FULL else int(of_battery * (devices.capacity + 1))
    return age, battery
