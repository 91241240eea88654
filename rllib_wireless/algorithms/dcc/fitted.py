"""Local problems fitted on recorded data: transitions and costs as counted, per device."""

from pathlib import Path

import numpy as np
import scipy.sparse

from rllib_wireless.data.store import load_dataset
from rllib_wireless.envs.task_offloading import TaskOffloading
from rllib_wireless.envs.task_offloading.cmdp import ConstrainedMDP
from rllib_wireless.envs.task_offloading.device import NUM_ACTIONS, OFFLOAD, WAIT, Floats, Ints, observation_grid
from rllib_wireless.policies.table import cells


def fit_processes(path: Path, env: TaskOffloading, gamma: float) -> list[ConstrainedMDP]:
    """The process of each device that is most likely given the data; what was never tried is not a choice.

    Congestion is taken out of the recorded costs, as the number of devices that offloaded is in the data.

    Args:
        path: A joint data set of the environment whose rows align.
        env: The environment.
        gamma: Discount per slot; 1 for the average criterion.

    Raises:
        DataError: At data of another environment, or whose rows do not align.
    """
    rows = load_dataset(path, environment=env).aligned()
    grid = observation_grid(env.devices)
    state, following = cells(rows["obs"], grid), cells(rows["new_obs"], grid)
    action = rows["actions"].astype(np.int64)
    offloads = action == OFFLOAD
    cost = -rows["rewards"].astype(np.float64) - offloads * env.penalty[offloads.sum(1)][:, None]
    first = rows["t"][:, 0] == 0
    return [
        _process(state[:, i], action[:, i], following[:, i], cost[:, i], state[first, i], env.devices.num_states, gamma)
        for i in range(len(env.agents))
    ]


def _process(
    state: Ints, action: Ints, following: Ints, cost: Floats, starts: Ints, num_states: int, gamma: float
) -> ConstrainedMDP:
    pair = state * NUM_ACTIONS + action
    # Nothing is known of a state that was never left: it may be waited in, at the largest cost there was.
    unknown = np.setdiff1d(np.arange(num_states), state)
    pair = np.append(pair, unknown * NUM_ACTIONS + WAIT)
    following, cost = np.append(following, unknown), np.append(cost, np.full(len(unknown), cost.max()))
    pairs, number, counts = np.unique(pair, return_inverse=True, return_counts=True)
    transitions = scipy.sparse.csr_array((1.0 / counts[number], (number, following)), shape=(len(pairs), num_states))
    start = np.bincount(starts, minlength=num_states).astype(np.float64)
    return ConstrainedMDP(
        state=pairs // NUM_ACTIONS,
        action=pairs % NUM_ACTIONS,
        num_actions=NUM_ACTIONS,
        transitions=transitions,
        cost=np.bincount(number, cost) / counts,
        usage=(pairs % NUM_ACTIONS == OFFLOAD).astype(np.float64),
        start=start / start.sum(),
        gamma=gamma,
    )
