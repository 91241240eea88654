"""What happens on the plant's floor, compiled: products are moved, worked on and removed, on a parallel or a serial clock.

A product is somewhere and busy until some time: on its way in, in an operation, or deferred. When it is free, it is removed
if nothing remains to be done; else its next operation begins if the unit can do that; else the unit decides.
"""

import numpy as np

from rllib_wireless.envs import random
from rllib_wireless.envs.production_scheduling.tables import (
    BUSY_TICKS,
    CHANGES,
    CONFLICTS,
    DECISIONS,
    DEFERS,
    DONE,
    FINISH_TICKS,
    FINISHED,
    ILLEGAL,
    MADE,
    NOBODY,
    NUM_FINISHED,
    START,
    STEPS,
    SUPPLIES,
    TICKS,
    TIME,
    TURN,
    UNTIL,
    WAITING,
    WHERE,
    Floor,
    Ints,
    Rules,
    decides,
    jit_tables,
)
from rllib_wireless.envs.random import jit_inline

_PREVENTED = -2  # a target j that another product gets is kept as _PREVENTED - j

_SUPPLY, _CONFLICT = range(2)  # purposes of the random numbers


@jit_tables
def begin(r: Rules, f: Floor, copies: Ints) -> None:
    """Begin an episode in these copies, and go on to its first decision."""
    for b in copies:
        f.copies[b, TIME] = f.copies[b, START] = f.copies[b, TURN] = f.copies[b, MADE] = 0
        f.products[b, WHERE] = WAITING
        f.products[b, UNTIL] = f.products[b, DONE] = 0
        f.holds[b] = NOBODY
        for i in range(f.holds.shape[1]):
            _mark(f, b, i)
        f.open[b] = False
        f.counts[b] = 0.0
        f.unit_counts[b] = 0.0
        _go_on(r, f, b)
        f.counts[b, TICKS] = f.copies[b, TIME]


@jit_tables
def advance(r: Rules, f: Floor, actions: Ints) -> None:
    """Execute actions [B, N] in all copies, and go on to the next decision or the end of the episode."""
    for b in range(actions.shape[0]):
        f.copies[b, START] = f.copies[b, TIME]
        f.stream_reward[b] = 0.0
        f.stream_done[b] = False
        _execute(r, f, b, actions)
        _go_on(r, f, b)
        _account(f, b)


@jit_inline
def _execute(r: Rules, f: Floor, b: int, actions: Ints) -> None:
    """Let every unit that decides do so, all at once; illegal actions are counted and executed as 0."""
    now = f.copies[b, TIME]
    num_actions, num_products = r.neighbours.shape[1], f.products.shape[2]
    f.target[b] = -1
    for i in range(actions.shape[1]):
        a, p = actions[b, i], f.holds[b, i]
        if a == 0:
            continue
        if 0 < a < num_actions and p != NOBODY and decides(r, f, b, p):
            j = r.neighbours[i, a]
            if j >= 0 and f.holds[b, j] == NOBODY:
                f.target[b, p] = j
                continue
        f.unit_counts[b, ILLEGAL, i] += 1
    for p in range(num_products):
        if not decides(r, f, b, p):
            continue
        i = f.products[b, WHERE, p]
        f.open[b, i, p] = True
        f.copies[b, MADE] += 1
        f.unit_counts[b, DECISIONS, i] += 1
        if f.target[b, p] < 0:
            f.unit_counts[b, DEFERS, i] += 1
            f.stream_reward[b, i, p] -= r.penalty
        elif _prevented(r, f, b, p):
            f.unit_counts[b, CONFLICTS, i] += 1
            f.target[b, p] = _PREVENTED - f.target[b, p]  # as a rival it still counts
    for p in range(num_products):
        i, j = f.products[b, WHERE, p], f.target[b, p]
        if j >= 0:
            f.holds[b, i] = NOBODY
            f.holds[b, j] = p
            _mark(f, b, i)
            _mark(f, b, j)
            f.products[b, WHERE, p] = j
            f.products[b, UNTIL, p] = now + r.move_ticks
        elif decides(r, f, b, p):
            f.products[b, UNTIL, p] = now + r.defer_ticks
    f.copies[b, STEPS] += 1
    if r.serial:
        _end_turn(r, f, b, 1)


@jit_inline
def _prevented(r: Rules, f: Floor, b: int, p: int) -> bool:
    """Whether another product goes to the unit that p is to go to: of several one does, drawn at random."""
    step = f.copies[b, STEPS]
    for q in range(f.target.shape[1]):
        if q != p and max(f.target[b, q], _PREVENTED - f.target[b, q]) == f.target[b, p]:
            own = random.uniform(r.seed, b, p, _CONFLICT, step)
            if random.uniform(r.seed, b, q, _CONFLICT, step) > own:
                return True
    return False


@jit_tables
def _go_on(r: Rules, f: Floor, b: int) -> None:
    """Let time pass until a unit decides or all products are finished."""
    if r.serial:
        while f.counts[b, NUM_FINISHED] < f.products.shape[2]:
            ticks = _take_turn(r, f, b)
            if ticks < 0:
                return
            _end_turn(r, f, b, ticks)
        return
    for i in r.suppliers:
        _supply(r, f, b, i)
    while f.counts[b, NUM_FINISHED] < f.products.shape[2]:
        now = np.int64(2**62)
        for p in range(f.products.shape[2]):
            if f.products[b, WHERE, p] >= 0:
                now = min(now, f.products[b, UNTIL, p])
        f.copies[b, TIME] = now
        _remove_finished(r, f, b)
        decision = False
        for p in range(f.products.shape[2]):
            if f.products[b, WHERE, p] >= 0 and f.products[b, UNTIL, p] <= now and not _begin_operation(r, f, b, p):
                decision = True
        if decision:
            return


@jit_inline
def _take_turn(r: Rules, f: Floor, b: int) -> int:
    """Serial clock: what a unit does without deciding, and the ticks that this takes; -1 if the unit decides."""
    i = f.copies[b, TURN]
    p = f.holds[b, i]
    if p == NOBODY:
        return 1 if r.ticks[i, r.sequences[0, 0]] > 0 and _supply(r, f, b, i) else 0
    if f.products[b, UNTIL, p] > f.copies[b, TIME] or _begin_operation(r, f, b, p):
        return 1
    return -1


@jit_inline
def _end_turn(r: Rules, f: Floor, b: int, ticks: int) -> None:
    """Serial clock: the next unit's turn."""
    f.copies[b, TURN] = (f.copies[b, TURN] + 1) % r.ticks.shape[0]
    if ticks:
        f.copies[b, TIME] += ticks
        _remove_finished(r, f, b)


@jit_inline
def _supply(r: Rules, f: Floor, b: int, i: int) -> bool:
    """Begin the supply of a waiting product, drawn at random, in an empty unit; whether there was one."""
    waiting = 0
    for p in range(f.products.shape[2]):
        waiting += f.products[b, WHERE, p] == WAITING
    if waiting == 0 or f.holds[b, i] != NOBODY:
        return False
    nth = random.randint(waiting, r.seed, b, i, _SUPPLY, f.copies[b, SUPPLIES])
    f.copies[b, SUPPLIES] += 1
    for p in range(f.products.shape[2]):
        if f.products[b, WHERE, p] == WAITING:
            if nth == 0:
                f.holds[b, i] = p
                f.products[b, WHERE, p] = i
                _work(r, f, b, p)
                return True
            nth -= 1
    return False


@jit_inline
def _begin_operation(r: Rules, f: Floor, b: int, p: int) -> bool:
    """Product p is free: its next operation begins if the unit can do it. Returns whether; if not, the unit decides."""
    i = f.products[b, WHERE, p]
    _close(f, b, i, p)
    if r.ticks[i, r.sequences[p, f.products[b, DONE, p]]] == 0:
        return False
    _work(r, f, b, p)
    for j in range(f.holds.shape[1]):
        if f.open[b, j, p]:
            f.stream_reward[b, j, p] += r.bonus
    return True


@jit_inline
def _work(r: Rules, f: Floor, b: int, p: int) -> None:
    """Product p's next operation begins where it is."""
    i = f.products[b, WHERE, p]
    ticks = r.ticks[i, r.sequences[p, f.products[b, DONE, p]]]
    f.products[b, UNTIL, p] = f.copies[b, TIME] + ticks
    f.products[b, DONE, p] += 1
    _mark(f, b, i)
    f.unit_counts[b, BUSY_TICKS, i] += ticks


@jit_inline
def _remove_finished(r: Rules, f: Floor, b: int) -> None:
    """Products whose last operation is over leave the plant, and nobody waits for them any more."""
    now = f.copies[b, TIME]
    num_products = f.products.shape[2]
    for p in range(num_products):
        if f.products[b, WHERE, p] >= 0 and f.products[b, DONE, p] == r.lengths[p] and f.products[b, UNTIL, p] <= now:
            f.holds[b, f.products[b, WHERE, p]] = NOBODY
            _mark(f, b, f.products[b, WHERE, p])
            f.products[b, WHERE, p] = FINISHED
            f.counts[b, NUM_FINISHED] += 1
            f.counts[b, FINISH_TICKS] += now
            if not r.until_episode:
                _close_all(f, b, p)
    if r.until_episode and f.counts[b, NUM_FINISHED] == num_products:
        for p in range(num_products):
            _close_all(f, b, p)


@jit_inline
def _close_all(f: Floor, b: int, p: int) -> None:
    """Product p will not be seen again."""
    for i in range(f.holds.shape[1]):
        _close(f, b, i, p)
        f.stream_done[b, i, p] = True


@jit_inline
def _close(f: Floor, b: int, i: int, p: int) -> None:
    """Unit i does not wait for product p any more; it pays for the part of this step in which it did."""
    if f.open[b, i, p]:
        f.open[b, i, p] = False
        f.stream_reward[b, i, p] -= f.copies[b, TIME] - f.copies[b, START]


@jit_inline
def _account(f: Floor, b: int) -> None:
    """Rewards, duration and sums of the step."""
    passed = f.copies[b, TIME] - f.copies[b, START]
    f.duration[b] = passed
    f.counts[b, TICKS] = f.copies[b, TIME]
    for i in range(f.holds.shape[1]):
        total = np.float32(0.0)
        for p in range(f.open.shape[2]):
            if f.open[b, i, p]:
                f.stream_reward[b, i, p] -= passed
            total += f.stream_reward[b, i, p]
        f.reward[b, i] = total


@jit_inline
def _mark(f: Floor, b: int, i: int) -> None:
    """Note that unit i's local state has changed."""
    if not f.changed[b, i]:
        f.changed[b, i] = True
        f.changes[b, f.copies[b, CHANGES]] = i
        f.copies[b, CHANGES] += 1
