"""How often others offload in the very slots in which a device does, against what their constraints say."""

import numpy as np

from rllib_wireless.envs.random import jit, stream, stream_uniform
from rllib_wireless.envs.task_offloading.device import OFFLOAD, Devices, Floats, outcomes, pick_outcome, start_state

_PROFILE = 202
"""Purpose of the random numbers."""


def overlaps(profiles: Floats, gamma: float) -> Floats:
    """Congestion that a device meets over what it would be if all offloaded equally often in every slot, [N].

        r_i = sum_t w_t P_i(t) sum_{j != i} P_j(t) / (C_i sum_{j != i} C_j),   w_t = gamma^t / sum gamma^t,  C_i = sum_t w_t P_i(t)

    For linear penalties the true expected congestion is then exactly that of r_i K_-i. Where nothing is known it is 1.

    Args:
        profiles: P_i(t), how likely device i offloads in slot t of an episode, [N, T].
        gamma: Discount per slot.
    """
    weights = gamma ** np.arange(profiles.shape[1])
    weights /= weights.sum()
    usages = profiles @ weights
    met = (profiles * (profiles.sum(0) - profiles)) @ weights
    alike = usages * (usages.sum() - usages)
    return np.where(alike > 0.0, met / np.where(alike > 0.0, alike, 1.0), 1.0)


@jit
def offload_profiles(devices: Devices, policies: Floats, rollouts: int, slots: int, seed: int) -> Floats:
    """P_i(t) by rollouts of each device on its own.

    Args:
        devices: The devices.
        policies: Probabilities of actions, [N, S, A].
        rollouts: Episodes.
        slots: T.
        seed: Seed of the run.

    Returns:
        Shares of episodes, [N, T].
    """
    levels = devices.capacity - devices.lowest + 1
    profiles = np.zeros((len(policies), slots))
    for i in range(len(policies)):
        table, key = outcomes(devices, i), stream(seed, 0, i, _PROFILE)
        for episode in range(rollouts):
            counter = 2 * episode * (slots + 1)
            age, battery = start_state(devices, stream_uniform(key, counter), stream_uniform(key, counter + 1))
            state = (age - 1) * levels + battery - devices.lowest
            for t in range(slots):
                counter += 2
                u, action = stream_uniform(key, counter), 0
                while action < OFFLOAD and u >= policies[i, state, action]:
                    u -= policies[i, state, action]
                    action += 1
                if action == OFFLOAD:
                    profiles[i, t] += 1.0 / rollouts
                outcome = pick_outcome(table.keep, table.parts, stream_uniform(key, counter + 1))
                state = table.following[state, action, outcome]
    return profiles
