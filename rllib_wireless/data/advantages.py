"""How much better a decision was than others in the same situation: what agents would learn to tell, without most of the noise.

The return of a decision is the sum of hundreds of random events, and who was where at the time is a trifle in it. Its advantage

    Y = r + gamma max_a' Q(s', a') - mean_a Q(s, a)

has little noise but the decision's own: r is what is earned until the next decision in the stream, s and s' are joint states, and Q is
fitted to the log by fitted Q iteration on the own state and all agents' compressed ones. What cannot be acted upon, such as how
many others there are, cancels out.
"""

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from rllib_wireless.data.decisions import Decisions, Floats
from rllib_wireless.data.returns import later_returns
from rllib_wireless.envs.base import BoolArray, FloatArray, IntArray

_TREES, _LEAF = 10, 20


def returns(known: Decisions, gamma: float) -> Floats:
    """Discounted sums of rewards along the streams, [T]."""
    columns = {"eps_id": known.episode, "stream": known.stream, "t": known.t}
    discount = np.where(known.following >= 0, gamma, 0.0)
    sums: Floats = known.rewards + discount * later_returns(columns, known.rewards, discount)
    return sums


def advantages(known: Decisions, half: IntArray, gamma: float, iterations: int, seed: int) -> Floats:
    """Advantages [T]; not a number where what follows is unknown, or there was nothing to choose.

    Args:
        known: The decisions.
        half: Which half of the episodes each is in, [T]. Each half has a critic of its own, so that what one learns by chance is
            news to the other.
        gamma: Discount of a decision.
        iterations: How many decisions ahead the critics look before the returns in the data count.
        seed: Seed of the fits.
    """
    x = np.concatenate([known.own, known.shown], axis=1)
    x = np.ascontiguousarray(x[:, x.min(axis=0, initial=0.0) < x.max(axis=0, initial=0.0)])
    found, later = np.full(len(half), np.nan), returns(known, gamma)
    for number in (0, 1):
        rows = np.flatnonzero(half == number)
        place = np.full(len(half) + 1, -1)  # the last one is that of no row
        place[rows] = np.arange(len(rows))
        after = place[known.following[rows]]
        y, values = later[rows], np.zeros(0)
        for k in range(iterations):
            values = _fitted(known, x, rows, y, [seed, number, k])
            best = values.max(axis=1)
            best = np.where(np.isfinite(best), best, later[rows])
            y = known.rewards[rows] + np.where(after >= 0, gamma * best[after], 0.0)
        found[rows] = y - _mean_of_finite(values)
    choice = known.mask.sum(axis=1) > 1
    return np.where(choice & known.known, found, np.nan)


def _fitted(known: Decisions, x: FloatArray, rows: IntArray, y: Floats, seed: list[int]) -> Floats:
    """Q-values [R, A] of forests fitted to the targets of these rows; minus infinity where illegal or unknown."""
    values = np.full(known.mask[rows].shape, -np.inf)
    state = int(np.random.SeedSequence(seed).generate_state(1)[0])
    for i in np.unique(known.agent[rows]):
        of_agent = np.flatnonzero(known.agent[rows] == i)
        for a in range(known.mask.shape[1]):
            fit = of_agent[(known.actions[rows[of_agent]] == a) & known.known[rows[of_agent]]]
            asked = of_agent[known.mask[rows[of_agent], a]]
            if len(fit) and len(asked):
                forest = ExtraTreesRegressor(_TREES, min_samples_leaf=_LEAF, random_state=state)
                values[asked, a] = forest.fit(x[rows[fit]], y[fit]).predict(x[rows[asked]])
    return values


def _mean_of_finite(values: Floats) -> Floats:
    """Means over actions of which something is known, [R]; not a number where there is none."""
    finite: BoolArray = np.isfinite(values)
    count = finite.sum(axis=1)
    sums = np.where(finite, values, 0.0).sum(axis=1)
    means: Floats = np.divide(sums, count, out=np.full(len(sums), np.nan), where=count > 0)
    return means
