"""A rule that only this experiment needs: what each access point can do by itself with one number."""

import numpy as np

from rllib_wireless.envs.base import EnvStep, IntArray
from rllib_wireless.envs.policy import Policy
from rllib_wireless.envs.radio_resource.simulator import RadioResource
from rllib_wireless.envs.random import StepRandom


class LocalThreshold(Policy):
    """Each access point serves its best user where that one's PF ratio is above a threshold, and is silent else.

    Args:
        env: The environment.
        threshold: The least PF ratio; 5 is the best of 3, 4, ..., 8 on 100 validation drops of the default area, 6 of
            4, 6, 8, 10 in an area of 100 m.
    """

    def __init__(self, env: RadioResource, threshold: float) -> None:
        self._env, self._threshold = env, threshold

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        return (self._env.network.ratio[..., 0] > self._threshold).astype(np.int64)
