"""Shortest times: how long a product still takes from each unit if nothing is in its way."""

import numpy as np

from rllib_wireless.envs.base import IntArray
from rllib_wireless.envs.production_scheduling.tables import NOBODY, Floats, Ints, Rules
from rllib_wireless.envs.random import jit


def times_to_finish(rules: Rules) -> Floats:
    """Ticks until a free product in a unit is finished, alone in the plant, [P, longest + 1, N]: by product, operations begun, unit."""
    num_products, longest = rules.sequences.shape
    n = rules.neighbours.shape[0]
    values = np.zeros((num_products, longest + 1, n))
    nobody = np.full(n, NOBODY, np.int64)
    for p in range(num_products):
        for done in range(rules.lengths[p] - 1, -1, -1):
            values[p, done] = leg(rules, rules.sequences[p, done], values[p, done + 1], nobody, 0.0)
    return values


def shortest_times(rules: Rules) -> IntArray:
    """Ticks that each product takes alone, from the begin of its supply, [P]; with the best of several suppliers."""
    values = times_to_finish(rules)
    supply = rules.ticks[rules.suppliers, rules.sequences[0, 0]]
    times: IntArray = (supply + values[:, 1, rules.suppliers]).min(1).astype(np.int64)
    return times


@jit
def leg(r: Rules, operation: int, after: Floats, holds: Ints, crowding: float) -> Floats:
    """Ticks from each unit to the end, [N]: to where the next operation can be done, the operation, and what comes after.

    Args:
        r: Plant and configuration.
        operation: The next operation.
        after: Ticks to the end from each unit once this operation has been done there, [N].
        holds: The product in each unit, or `NOBODY`, [N].
        crowding: Ticks that entering a unit takes longer where there is a product.
    """
    n = r.neighbours.shape[0]
    values = np.full(n, np.inf)
    for i in range(n):
        if r.ticks[i, operation] > 0:
            values[i] = r.ticks[i, operation] + after[i]
    changed = True
    while changed:
        changed = False
        for i in range(n):
            if r.ticks[i, operation] > 0:
                continue  # a unit that can do the operation does it, whether or not another would be faster
            for a in range(1, r.neighbours.shape[1]):
                j = r.neighbours[i, a]
                if j >= 0:
                    value = r.move_ticks + values[j]
                    if holds[j] != NOBODY:
                        value += crowding
                    if value < values[i]:
                        values[i] = value
                        changed = True
    return values
