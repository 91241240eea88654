"""Random numbers of drops: a function of (seed, split, copy, episode), so that every policy meets the same drops."""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs import random
from rllib_wireless.envs.base import IntArray
from rllib_wireless.envs.radio_resource.config import SPLITS
from rllib_wireless.envs.random import jit

Floats = npt.NDArray[np.float64]

MAX_ATTEMPTS = 2**16
"""Drops that are drawn at most before one is accepted."""


class Purpose(IntEnum):
    """What a number is for; the last two are the first of many."""

    LINE_OF_SIGHT = 0
    SHADOWING = 1
    WAVE_LENGTH = 2
    WAVE_DIRECTION = 3
    WAVE_PHASE = 4
    FADING_ANGLE = 5
    FADING_PHASE = 6
    DIRECTION = 7
    SESSION_LENGTH = 8
    SESSION_START = 9
    POSITION = 2**16  # and those after it, for positions drawn after refused ones
    ARRIVAL = 2**24  # and those after it, an interval each


def split_seed(seed: int, split: str) -> int:
    """A seed of its own for each (seed, split): no two pairs have the same, so no two splits share a drop."""
    return len(SPLITS) * seed + SPLITS.index(split)


class Draws:
    """Numbers for one drop in each of B copies.

    Args:
        seed: Of `split_seed`.
        episode: Number of the episode.
        attempt: Of each copy, [B]: how many drops were drawn in this episode and refused.
    """

    def __init__(self, seed: int, episode: int, attempt: IntArray) -> None:
        self.seed = seed
        self.counter: IntArray = episode * MAX_ATTEMPTS + attempt

    def uniform(self, purpose: Purpose, *shape: int) -> Floats:
        """Numbers [B, *shape] in [0, 1)."""
        out = np.empty((len(self.counter), int(np.prod(shape))))
        _fill(out, self.seed, int(purpose), self.counter)
        return out.reshape(len(self.counter), *shape)


@jit
def _fill(out: Floats, seed: int, purpose: int, counter: IntArray) -> None:
    for b in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[b, i] = random.uniform(seed, b, i, purpose, counter[b])
