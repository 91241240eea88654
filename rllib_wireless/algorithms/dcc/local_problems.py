"""The local problems of devices: what they answer when told their constraint and the congestion that others make."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_wireless.algorithms.actors import ActorPool, ManagedActor
from rllib_wireless.algorithms.dcc.multiplier import solve_all
from rllib_wireless.algorithms.dcc.q_learning import Schedule, Tables
from rllib_wireless.algorithms.dcc.settings import DCCSettings
from rllib_wireless.envs.task_offloading.cmdp import ConstrainedMDP, solve
from rllib_wireless.envs.task_offloading.device import NUM_ACTIONS, Devices, Floats, Ints


@dataclass(frozen=True)
class Answers:
    """What n devices found, and what they go on from next time.

    Attributes:
        values: V_i, cost per slot, congestion included, [n].
        usages: C_i, offload frequency, [n].
        multipliers: lambda_i, [n].
        policies: Probabilities of actions, [n, S, A].
        memory: Arrays [n, ...] that the next solution begins with.
    """

    values: Floats
    usages: Floats
    multipliers: Floats
    policies: Floats
    memory: dict[str, Any]

    def at(self, indices: Ints) -> "Answers":
        """The answers of some of them."""
        return self._map(lambda array: array[indices])

    def replaced(self, indices: Ints, new: "Answers") -> "Answers":
        """These answers, with new ones in some places."""

        def put(old: Any, fresh: Any) -> Any:
            old = old.copy()
            old[indices] = fresh
            return old

        return self._map(put, new)

    @classmethod
    def join(cls, parts: Sequence["Answers"]) -> "Answers":
        """Answers of several blocks of devices, one after the other."""
        return parts[0]._map(lambda *arrays: np.concatenate(arrays), *parts[1:])

    def _map(self, function: Callable[..., Any], *others: "Answers") -> "Answers":
        """Answers made of a function of each array."""
        every = (self, *others)
        return Answers(
            values=function(*(a.values for a in every)),
            usages=function(*(a.usages for a in every)),
            multipliers=function(*(a.multipliers for a in every)),
            policies=function(*(a.policies for a in every)),
            memory={name: function(*(a.memory[name] for a in every)) for name in self.memory},
        )


class LocalProblems(ABC):
    """The local problems of all devices; each is solved without looking at any other."""

    @abstractmethod
    def empty_memory(self) -> dict[str, Any]:
        """Where the first solution begins, arrays [N, ...]."""

    @abstractmethod
    def solve(self, agents: Ints, limits: Floats, prices: Floats, numbers: Ints, memory: dict[str, Any]) -> Answers:
        """Solve some of the problems.

        Args:
            agents: Indices of the devices, [n].
            limits: K_i of each, [n].
            prices: Congestion price f(1 + K_-i) of each, [n].
            numbers: How many solutions each has been through, [n]; what is drawn while learning is new in each.
            memory: What the devices go on from, arrays [n, ...]; left as it is.
        """


class LinearPrograms(LocalProblems):
    """Exact solutions.

    Args:
        processes: The process of each device.
    """

    def __init__(self, processes: Sequence[ConstrainedMDP]) -> None:
        self._processes = processes

    def empty_memory(self) -> dict[str, Any]:
        return {}

    def solve(self, agents: Ints, limits: Floats, prices: Floats, numbers: Ints, memory: dict[str, Any]) -> Answers:
        found = [solve(self._processes[i], k, price) for i, k, price in zip(agents, limits, prices, strict=True)]
        return Answers(
            np.array([f.value for f in found]),
            np.array([f.usage for f in found]),
            np.array([f.multiplier for f in found]),
            np.stack([f.policy for f in found]),
            {},
        )


class QLearning(LocalProblems):
    """Tabular Q-learning under a multiplier, one kernel over the devices.

    Args:
        devices: The devices.
        settings: Hyper-parameters.
        gamma: Discount per slot.
        seed: Seed of the run.
    """

    def __init__(self, devices: Devices, settings: DCCSettings, gamma: float, seed: int) -> None:
        self._devices, self._seed = devices, seed
        self._schedule = Schedule.of(settings, gamma)

    def empty_memory(self) -> dict[str, Any]:
        tables = Tables.empty(self._devices)
        return {**tables._asdict(), "multipliers": np.zeros(len(self._devices.harvest))}

    def solve(self, agents: Ints, limits: Floats, prices: Floats, numbers: Ints, memory: dict[str, Any]) -> Answers:
        own = {name: array.copy() for name, array in memory.items()}
        n = len(agents)
        policies = np.zeros((n, self._devices.num_states, NUM_ACTIONS))
        values, usages = np.zeros(n), np.zeros(n)
        solve_all(
            self._devices.part(agents), agents, limits, prices, self._schedule, self._seed, numbers, own["q"],
            own["visits"], own["multipliers"], policies, values, usages,
        )  # fmt: skip
        return Answers(values, usages, own["multipliers"].copy(), policies, own)


class DeviceHost(ManagedActor):
    """One process that solves local problems."""

    def __init__(self, problems: LocalProblems) -> None:
        self._problems = problems

    def solve(self, **arguments: Any) -> Answers:
        """As `LocalProblems.solve`."""
        return self._problems.solve(**arguments)


class SharedProblems(LocalProblems):
    """Local problems spread over Ray actors; a block whose actor dies is solved by another.

    A device's answer depends on what it is asked alone, so it is the same for any number of actors.

    Args:
        problems: The problems; every actor gets a copy.
        num_actors: How many.
        timeout_s: How long to wait for an answer.
    """

    def __init__(self, problems: LocalProblems, num_actors: int, timeout_s: float) -> None:
        self._problems, self._timeout_s = problems, timeout_s
        self.pool = ActorPool(DeviceHost, [{"problems": problems}] * num_actors)

    def empty_memory(self) -> dict[str, Any]:
        return self._problems.empty_memory()

    def solve(self, agents: Ints, limits: Floats, prices: Floats, numbers: Ints, memory: dict[str, Any]) -> Answers:
        blocks = [block for block in np.array_split(np.arange(len(agents)), len(self.pool)) if len(block)]
        pieces = [
            {
                "agents": agents[block],
                "limits": limits[block],
                "prices": prices[block],
                "numbers": numbers[block],
                "memory": {name: array[block] for name, array in memory.items()},
            }
            for block in blocks
        ]
        return Answers.join(self.pool.map("solve", pieces, timeout_s=self._timeout_s))

    def stop(self) -> None:
        """End the actors."""
        self.pool.stop()
