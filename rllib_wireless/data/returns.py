"""Returns of recorded decisions."""

import numpy as np
import numpy.typing as npt

from rllib_wireless.data.format import Columns
from rllib_wireless.envs.base import BoolArray, IntArray
from rllib_wireless.envs.random import jit

Floats = npt.NDArray[np.float64]


def later_returns(rows: Columns, rewards: Floats, discount: Floats) -> Floats:
    """The discounted return from the next decision in the same stream on.

    Args:
        rows: One agent's rows.
        rewards: [T].
        discount: What a row's next decision counts, [T]; 0 at an end.

    Returns:
        [T]; after the last decision of a sequence that was cut off, the mean of all returns.
    """
    stream = rows.get("stream", np.zeros(len(rewards), np.int64))
    order = np.lexsort((rows["t"], stream, rows["eps_id"]))
    episode, stream = rows["eps_id"][order], stream[order]
    goes_on = np.zeros(len(order), np.bool_)
    goes_on[:-1] = (episode[1:] == episode[:-1]) & (stream[1:] == stream[:-1])
    later = np.zeros(len(rewards))
    for _ in range(2):  # what follows a sequence that was cut off is as good as the mean, once that is known
        _accumulate(
            order, goes_on, rewards, discount, float((rewards + discount * later).mean()) if len(order) else 0.0, later
        )
    return later


@jit
def _accumulate(
    order: IntArray, goes_on: BoolArray, rewards: Floats, discount: Floats, cut_off: float, later: Floats
) -> None:
    for k in range(len(order) - 1, -1, -1):
        after = order[min(k + 1, len(order) - 1)]
        later[order[k]] = rewards[after] + discount[after] * later[after] if goes_on[k] else cut_off
