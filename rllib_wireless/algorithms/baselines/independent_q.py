"""Independent tabular Q-learning: each device learns for itself in the environment that all share."""

from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

import numpy as np
from pydantic.dataclasses import dataclass
from typing_extensions import override

from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm, OfflineMultiAgentConfig
from rllib_wireless.algorithms.dcc.settings import QLearningSettings
from rllib_wireless.algorithms.requirements import Requirements
from rllib_wireless.configuration import CONFIG, field
from rllib_wireless.envs import BatchedEnv
from rllib_wireless.envs.random import jit, stream, stream_uniform
from rllib_wireless.envs.task_offloading import TaskOffloading
from rllib_wireless.envs.task_offloading.device import (
    NUM_ACTIONS,
    OFFLOAD,
    PROCESS,
    WAIT,
    Devices,
    Floats,
    Unsigned,
    legal_actions,
    observation_grid,
    outcomes,
    pick_outcome,
    start_state,
)
from rllib_wireless.policies import TablePolicy

_LEARN = 300
"""Purpose of the random numbers."""

_DRAWS = 4
"""Random numbers that a device's step may take."""


@dataclass(frozen=True, config=CONFIG)
class IndependentQSettings(QLearningSettings):
    """Hyper-parameters of independent Q-learning."""

    owner: ClassVar[str] = "independent_q"

    steps: int = field(100_000, "Slots of an iteration.", source="as DCC in a solution of its local problems", ge=1)
    learning_iterations: int = field(
        16, "Iterations, so that all slots are as many as those in which DCC learns.", source="section 5.1", ge=1
    )
    reward: Literal["own", "common"] = field(
        "own", "What a device minimises: its own cost, or the mean cost of all.", source="section 5.1, app. C.4"
    )
    q_lr: float = field(0.05, "Learning rate.", source="app. F", gt=0.0, le=1.0)
    epsilon: float = field(0.05, "Probability of a random action at first.", source="app. F", gt=0.0, le=1.0)
    epsilon_decay: float = field(
        0.95, "Factor of epsilon at each iteration.", source="app. F; per what is not given", gt=0.0, le=1.0
    )
    learning_start: Literal["anywhere", "environment"] = field(
        "anywhere",
        "A learning episode begins in any state, as DCC's do, or as the environment's episodes.",
        source="not given in the paper",
    )


class IndependentQConfig(OfflineMultiAgentConfig):
    r"""Configuration of independent Q-learning.

    All devices act in the same slots, each by a table of its own, and pay for the congestion that there really is:

    .. math:: Q_i(s, a) \leftarrow Q_i(s, a) + \eta (c_i + \gamma \min_{a'} Q_i(s', a') - Q_i(s, a))

    with c_i the device's own cost, or the mean over all devices. To a device the others are part of an environment that changes
    while they learn.

    .. code-block:: python

        config = IndependentQConfig().environment("task_offloading", env_config={"num_devices": 10}).training(reward="own")

    Its fields are those of `IndependentQSettings`.
    """

    settings = IndependentQSettings
    requirements = Requirements(data="none", environments=("task_offloading",))

    def __init__(self, algo_class: type["IndependentQ"] | None = None) -> None:
        super().__init__(algo_class=algo_class or IndependentQ)


class IndependentQ(OfflineMultiAgentAlgorithm):
    """Independent Q-learning of all devices.

    Attributes:
        q: Cost from here on, [N, S, A]; inf where an action is illegal.
        update: Number of iterations so far.
    """

    config: IndependentQConfig

    @classmethod
    @override
    def get_default_config(cls) -> IndependentQConfig:
        return IndependentQConfig()

    @override
    def prepare(self, env: BatchedEnv) -> None:
        assert isinstance(env, TaskOffloading)
        self.settings = cast(IndependentQSettings, self.config.parsed())
        self._env, n = env, len(env.agents)
        self._network = _Network.of(env)
        self.q = np.zeros((n, env.devices.num_states, NUM_ACTIONS))
        self.q[:, ~legal_actions(env.devices)] = np.inf
        self.update = 0

    @property
    @override
    def share_done(self) -> float:
        return min(self.update / self.settings.learning_iterations, 1.0)

    @override
    def training_step(self) -> None:
        s, n = self.settings, len(self._env.agents)
        keys = np.array([stream(self.config.seed, self.update, i, _LEARN) for i in range(n)], np.uint64)
        cost, offloads = learn_together(
            self._env.devices, self._network, s.reward == "common", s.learning_start == "anywhere", s.q_lr,
            s.epsilon * s.epsilon_decay**self.update, s.learning_episode_slots, self._env.gamma, keys, s.steps, self.q,
        )  # fmt: skip
        self.update += 1
        self._result = {"cost": cost, "offload_frequency": offloads / n}

    @override
    def step(self) -> dict[str, Any]:
        result: dict[str, Any] = super().step()
        return {**result, "learners": {"devices": self._result}}

    @override
    def policy(self) -> TablePolicy | None:
        if self.update == 0:
            return None
        greedy = np.eye(NUM_ACTIONS)[self.q.argmin(-1)]
        return TablePolicy(greedy, observation_grid(self._env.devices), self._env.agents)

    @override
    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        own = {"q": self.q.copy(), "update": self.update}
        return {**super().get_state(components, not_components=not_components, **kwargs), "independent_q": own}

    @override
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.q, self.update = state["independent_q"]["q"].copy(), state["independent_q"]["update"]


class _Network(NamedTuple):
    """All devices as tables, for the kernel."""

    following: Any  # uint32 [S, A, O] next state, the same for all
    paid: Floats  # [N, S, A, O] local cost
    keep: Floats  # [N, O] of Walker's alias method
    parts: Unsigned  # [N, O, 2]
    penalty: Floats  # [N + 1] congestion f(n)

    @classmethod
    def of(cls, env: TaskOffloading) -> Self:
        tables = [outcomes(env.devices, i) for i in range(len(env.agents))]
        return cls(
            tables[0].following,
            np.stack([table.paid for table in tables]),
            np.stack([table.keep for table in tables]),
            np.stack([table.parts for table in tables]),
            env.penalty,
        )


@jit
def learn_together(
    devices: Devices,
    network: _Network,
    common: bool,
    anywhere: bool,
    rate: float,
    epsilon: float,
    episode_slots: int,
    gamma: float,
    keys: Any,
    steps: int,
    q: Floats,
) -> tuple[float, float]:
    """Q-learning of all devices at once for some slots, in episodes that begin together.

    Args:
        devices: The devices, for the law of the first state.
        network: The same as tables.
        common: Whether each learns from the mean cost.
        anywhere: Whether episodes begin in any state.
        rate: Learning rate.
        epsilon: Probability of a random legal action.
        episode_slots: Length of an episode.
        gamma: Discount per slot.
        keys: Stream of random numbers of each device, uint64 [N].
        steps: How many slots.
        q: Tables [N, S, A], changed in place.

    Returns:
        Cost of all devices, and how many offloaded, per slot.
    """
    n, states, _ = q.shape
    levels = devices.capacity - devices.lowest + 1
    state, action, following = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    cost = np.zeros(n)
    total = offloads = 0.0
    for t in range(steps):
        counter = _DRAWS * t
        offloading = 0
        for i in range(n):
            if t % episode_slots == 0:
                of_age, of_battery = stream_uniform(keys[i], counter + 2), stream_uniform(keys[i], counter + 3)
                if anywhere:
                    state[i] = int(of_age * states)
                else:
                    age, battery = start_state(devices, of_age, of_battery)
                    state[i] = (age - 1) * levels + battery - devices.lowest
                action[i] = _greedy(q, i, state[i])
            u = stream_uniform(keys[i], counter)
            if u < epsilon:
                action[i] = _explore(q, i, state[i], u / epsilon)
            offloading += action[i] == OFFLOAD
        slot_cost = 0.0
        for i in range(n):
            outcome = pick_outcome(network.keep[i], network.parts[i], stream_uniform(keys[i], counter + 1))
            following[i] = network.following[state[i], action[i], outcome]
            cost[i] = network.paid[i, state[i], action[i], outcome]
            if action[i] == OFFLOAD:
                cost[i] += network.penalty[offloading]
            slot_cost += cost[i]
        for i in range(n):
            paid = slot_cost / n if common else cost[i]
            then = _greedy(q, i, following[i])
            q[i, state[i], action[i]] += rate * (paid + gamma * q[i, following[i], then] - q[i, state[i], action[i]])
            state[i], action[i] = following[i], then
        total += slot_cost
        offloads += offloading
    return total / steps, offloads / steps


@jit
def _greedy(q: Floats, i: int, state: int) -> int:
    best, least = WAIT, q[i, state, WAIT]
    if q[i, state, PROCESS] < least:
        best, least = PROCESS, q[i, state, PROCESS]
    return OFFLOAD if q[i, state, OFFLOAD] < least else best


@jit
def _explore(q: Floats, i: int, state: int, u: float) -> int:
    """A legal action, all alike."""
    if q[i, state, PROCESS] < np.inf:
        return int(3.0 * u)
    return OFFLOAD if u < 0.5 else WAIT
