"""The fast time scale: tabular Q-learning of some devices at their prices of offloading, compiled.

Q-learning keeps two values of an action, its local cost and its usage, both for the policy that is greedy in cost + price * usage.
The congestion price and the multiplier are one number there, so the table stays right when it moves. Illegal actions cost inf.

A step waits for the one before it. So devices take their steps in turn, each by random numbers of its own, and the processor
has others to take meanwhile. Action a in state s of the g-th of them has row A (S g + s) + a in all tables.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from rllib_wireless.algorithms.dcc.settings import DCCSettings
from rllib_wireless.envs.random import fill_uniforms, jit, stream_uniform
from rllib_wireless.envs.task_offloading.device import (
    NUM_ACTIONS,
    OFFLOAD,
    PROCESS,
    WAIT,
    Devices,
    Floats,
    Ints,
    Outcomes,
    Unsigned,
    legal_actions,
    pick_outcome,
)

COST, USAGE = range(2)
"""The two values of an action."""

DRAWS = 3
"""Random numbers that a step of learning may take: whether and what to explore, what happens, where an episode begins."""

_AHEAD = 256
"""Steps for which they are drawn at once, or the whole episodes in them."""

_WAIT, _PROCESS, _OFFLOAD = np.uint64(WAIT), np.uint64(PROCESS), np.uint64(OFFLOAD)


class Schedule(NamedTuple):
    """The numbers of `DCCSettings` that the kernel needs."""

    steps: int
    updates: int
    rate: float  # of the first update of a pair; the n-th has rate / (1 + slowdown n)
    slowdown: float
    epsilon: float
    epsilon_decay: float
    episode_steps: int
    rollouts: int
    rollout_steps: int
    multiplier_lr: float
    multiplier_max: float
    multiplier_exponent: float
    adaptive: bool
    mix: bool
    gamma: float

    @classmethod
    def of(cls, settings: DCCSettings, gamma: float) -> Self:
        """The schedule of one solution of all local problems."""
        return cls(
            steps=settings.steps,
            updates=settings.multiplier_updates,
            rate=settings.q_lr,
            slowdown=settings.q_lr * (1.0 - gamma),
            epsilon=settings.epsilon,
            epsilon_decay=settings.epsilon_decay,
            episode_steps=settings.learning_episode_slots,
            rollouts=settings.rollouts,
            rollout_steps=settings.rollout_slots,
            multiplier_lr=settings.multiplier_lr,
            multiplier_max=settings.multiplier_max,
            multiplier_exponent=settings.multiplier_exponent,
            adaptive=settings.multiplier_step == "adaptive",
            mix=settings.randomize,
            gamma=gamma,
        )


class Tables(NamedTuple):
    """What Q-learning knows, of N devices."""

    q: Floats  # [N, S, A, 2] local cost and usage from here on
    visits: Ints  # [N, S, A] number of updates

    @classmethod
    def empty(cls, devices: Devices) -> Self:
        """Tables of zeros, which are optimistic, as costs are positive."""
        shape = (len(devices.harvest), devices.num_states, NUM_ACTIONS)
        q = np.zeros((*shape, 2))
        q[:, ~legal_actions(devices), COST] = np.inf
        return cls(q, np.zeros(shape, np.int64))


class Group(NamedTuple):
    """Tables of G devices that learn side by side."""

    following: npt.NDArray[np.uint32]  # [G S A, O] row of the first action in the next state
    paid: Floats  # [G S A, O] local cost
    keep: Floats  # [G, O] columns of the outcomes
    parts: Unsigned  # [G, O, 2]


@jit
def side_by_side(tables: Sequence[Outcomes]) -> Group:
    """The tables of several devices as one."""
    count, (states, actions, num_outcomes) = len(tables), tables[0].paid.shape
    rows = states * actions
    following, paid = np.empty((count * rows, num_outcomes), np.uint32), np.empty((count * rows, num_outcomes))
    keep, parts = np.empty((count, num_outcomes)), np.empty((count, num_outcomes, 2), np.uint64)
    for g in range(count):
        own = slice(g * rows, (g + 1) * rows)
        following[own] = g * rows + actions * tables[g].following.reshape(rows, num_outcomes)
        paid[own] = tables[g].paid.reshape(rows, num_outcomes)
        keep[g], parts[g] = tables[g].keep, tables[g].parts
    return Group(following, paid, keep, parts)


@jit
def learn(
    group: Group,
    prices: Floats,
    never: Any,
    schedule: Schedule,
    epsilon: float,
    keys: Any,
    first: int,
    steps: int,
    q: Floats,
    visits: Ints,
) -> None:
    """Q-learning for some steps, in short episodes that begin anywhere.

    Args:
        group: The devices.
        prices: What usage costs each, the multiplier included, [G].
        never: Of which only random actions offload, bool [G].
        schedule: How to learn.
        epsilon: Probability of a random legal action.
        keys: Stream of the random numbers of each, uint64 [G].
        first: Counter of the first one; a step takes at most `DRAWS`.
        steps: How many.
        q: Cost and usage [G S A, 2], changed in place, as the following.
        visits: Number of updates of each row, [G S A].
    """
    count, length = len(prices), schedule.episode_steps
    rows = len(q) // count
    bars = np.where(never, np.inf, 0.0)
    ahead = length * max(1, _AHEAD // length)
    of_action, outcome = np.empty((count, ahead)), np.empty((count, ahead), np.uint64)
    states, greedy = np.empty(count, np.uint64), np.empty(count, np.uint64)
    for begin in range(0, steps, ahead):
        for g in range(count):
            _draw(group.keep[g], group.parts[g], keys[g], first + DRAWS * begin, of_action[g], outcome[g])
        for t in range(0, min(ahead, steps - begin), length):
            for g in range(count):
                where = stream_uniform(keys[g], first + DRAWS * (begin + t) + 2)
                states[g] = g * rows + NUM_ACTIONS * int(where * (rows // NUM_ACTIONS))
                greedy[g] = best(q, states[g], prices[g], bars[g])
            end = min(t + length, steps - begin)
            _episode(group, prices, bars, schedule, epsilon, of_action, outcome, t, end, states, greedy, q, visits)


@jit
def _draw(keep: Floats, parts: Unsigned, key: int, first: int, of_action: Floats, outcome: Unsigned) -> None:
    """What chance does in the next steps of a device, [T]."""
    fill_uniforms(key, first + 1, DRAWS, of_action)
    for t in range(len(outcome)):
        outcome[t] = pick_outcome(keep, parts, of_action[t])
    fill_uniforms(key, first, DRAWS, of_action)


@jit
def _episode(
    group: Group,
    prices: Floats,
    bars: Floats,
    schedule: Schedule,
    epsilon: float,
    of_action: Floats,
    outcome: Unsigned,
    first: int,
    end: int,
    states: Unsigned,
    greedy: Unsigned,
    q: Floats,
    visits: Ints,
) -> None:
    for t in range(first, end):
        for g in range(len(states)):
            state, action = states[g], greedy[g]
            u = of_action[g, t]
            if u < epsilon:
                action = _explore(q, state, u / epsilon)
            row, happens = state + action, outcome[g, t]
            following = np.uint64(group.following[row, happens])
            # It is taken at the next step, unless that explores; where a slot changes nothing, it may be one update old.
            then = best(q, following, prices[g], bars[g])
            rate = schedule.rate / (1.0 + schedule.slowdown * visits[row])
            visits[row] += 1
            cost, usage, used = q[row, COST], q[row, USAGE], 1.0 if action == _OFFLOAD else 0.0
            cost += rate * (group.paid[row, happens] + schedule.gamma * q[following + then, COST] - cost)
            usage += rate * (used + schedule.gamma * q[following + then, USAGE] - usage)
            q[row, COST] = cost
            q[row, USAGE] = usage
            states[g], greedy[g] = following, then


@jit
def _explore(q: Floats, state: np.uint64, u: float) -> np.uint64:
    """A legal action, all alike, by a uniform number."""
    if q[state + _PROCESS, COST] < np.inf:
        return np.uint64(3.0 * u)
    return _OFFLOAD if u < 0.5 else _WAIT


@jit
def best(q: Floats, state: np.uint64, price: float, bar: float) -> np.uint64:
    """The action of least cost + price * usage, the first of equals, by the first row of a state; offloading costs `bar` more."""
    wait = q[state, COST] + price * q[state, USAGE]
    process = q[state + _PROCESS, COST] + price * q[state + _PROCESS, USAGE]
    offload = q[state + _OFFLOAD, COST] + price * q[state + _OFFLOAD, USAGE] + bar
    # Without branches, which would be taken at random.
    processes, offloads = np.uint64(process < wait), np.uint64(offload < min(wait, process))
    return processes + offloads + offloads - (processes & offloads)


@jit
def greedy_policy(price: float, q: Floats, never: bool, actions: Unsigned) -> None:
    """The greedy action of each state, [S], by the device's own table [S A, 2]; without offloading if `never`."""
    for state in range(len(actions)):
        actions[state] = best(q, np.uint64(NUM_ACTIONS * state), price, np.inf if never else 0.0)
