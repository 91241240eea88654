"""What happens in a slot, compiled: transmission under interference, proportional-fair weights, traffic, observation."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs import random
from rllib_wireless.envs.base import BoolArray, FloatArray, IntArray
from rllib_wireless.envs.radio_resource.draws import Purpose
from rllib_wireless.envs.random import jit, jit_inline

Floats = npt.NDArray[np.float64]

LOW_DB, HIGH_DB, SCALE_DB = -20.0, 60.0, 40.0
"""An observed SINR is clipped to these bounds and divided by this."""

HIGH_POWER_DB = 90.0
"""Upper bound of an observed power over noise; the lower one and the scale are those of the SINR."""

LOW_WEIGHT = -2.0
"""Lower bound of an observed weight's logarithm."""

FULL_QUEUE = 10.0
"""Packets in a queue that is observed as 1."""

USER_COUNTS = (
    "rate",  # bit/s/Hz, summed over slots
    "user_slots",  # in which the user was there
    "arrived_bits",
    "queued_bits",  # summed over slots
)
ACCESS_POINT_COUNTS = ("silent_slots", "illegal_actions")
COPY_COUNTS = ("episodes", "slots", "reward")

RATE, PRESENT, ARRIVED, QUEUED = range(len(USER_COUNTS))
SILENT, ILLEGAL = range(len(ACCESS_POINT_COUNTS))
EPISODES, SLOTS, REWARD = range(len(COPY_COUNTS))

_ARRIVAL = int(Purpose.ARRIVAL)


class Params(NamedTuple):
    """The configuration, as the kernels read it."""

    averaging: float
    fairness_exponent: float
    max_weight: float
    max_log_weight: float
    max_rate: float
    bits_per_rate: float  # bits in a slot at 1 bit/s/Hz
    arrivals_per_slot: float  # 0: buffers are always full
    packet_bits: float
    reports_powers: bool


class Network(NamedTuple):
    """B networks of I access points and J users, and what was counted of them."""

    received: Floats  # [B, I, J] power over noise at each user from each access point, in the coming slot
    measured: Floats  # [B, I, J] the same in the slot before
    serving: IntArray  # [B, J]
    average: Floats  # [B, J] average rate, bit/s/Hz
    queue: Floats  # [B, J] bits; infinite where buffers are always full
    next_arrival: Floats  # [B, J] slot
    packets: IntArray  # [B, J] arrivals drawn
    there: BoolArray  # [B, J] users that have come and not left
    ranked: IntArray  # [B, I, N] users by PF ratio, -1 where there are no more
    ratio: Floats  # [B, I, N] their PF ratios
    user_counts: Floats  # [B, USER_COUNTS, J]
    access_point_counts: Floats  # [B, ACCESS_POINT_COUNTS, I]
    copy_counts: Floats  # [B, COPY_COUNTS]


def allocate(num_envs: int, access_points: int, users: int, top: int) -> Network:
    """B networks whose state is zero."""
    return Network(
        received=np.zeros((num_envs, access_points, users)),
        measured=np.zeros((num_envs, access_points, users)),
        serving=np.zeros((num_envs, users), np.int64),
        average=np.zeros((num_envs, users)),
        queue=np.zeros((num_envs, users)),
        next_arrival=np.zeros((num_envs, users)),
        packets=np.zeros((num_envs, users), np.int64),
        there=np.ones((num_envs, users), np.bool_),
        ranked=np.zeros((num_envs, access_points, top), np.int64),
        ratio=np.zeros((num_envs, access_points, top)),
        user_counts=np.zeros((num_envs, len(USER_COUNTS), users)),
        access_point_counts=np.zeros((num_envs, len(ACCESS_POINT_COUNTS), access_points)),
        copy_counts=np.zeros((num_envs, len(COPY_COUNTS))),
    )


@jit_inline
def weight(p: Params, average: float) -> float:
    """A user's weight 1 / average rate, clipped."""
    return min(1.0 / average, p.max_weight)


@jit_inline
def link_rate(p: Params, sinr: float, queue: float) -> float:
    """Rate in bit/s/Hz: Shannon's, below the cap, and no more than what is in the queue."""
    return min(np.log2(1.0 + sinr), p.max_rate, queue / p.bits_per_rate)  # type: ignore[no-any-return]


@jit_inline
def sinr_all_on(received: Floats, i: int, j: int) -> float:
    """SINR of user j at access point i if all transmit; received is [I, J]."""
    interference = 0.0
    for k in range(received.shape[0]):
        if k != i:
            interference += received[k, j]
    return received[i, j] / (1.0 + interference)  # type: ignore[no-any-return]


@jit
def begin(p: Params, n: Network, gain: Floats, seed: int, counter: IntArray) -> None:
    """Set averages to what round robin with all access points on brings in the long run, and empty the rest."""
    num_envs, users = n.serving.shape
    for b in range(num_envs):
        for j in range(users):
            i = n.serving[b, j]
            sharing = 0
            for k in range(users):
                sharing += n.serving[b, k] == i
            n.average[b, j] = link_rate(p, sinr_all_on(gain[b], i, j), np.inf) / sharing
            n.queue[b, j] = 0.0 if p.arrivals_per_slot > 0.0 else np.inf
            n.packets[b, j] = 0
            n.next_arrival[b, j] = 0.0
            if p.arrivals_per_slot > 0.0:
                n.next_arrival[b, j] = _interval(p, n, b, j, seed, counter[b])


@jit
def measure(n: Network, gain: Floats, fading: Floats, slot: int) -> None:
    """Go on to the next slot of fading [B, slots, I * J]; what was received is what users have measured."""
    num_envs, access_points, users = gain.shape
    for b in range(num_envs):
        for i in range(access_points):
            for j in range(users):
                n.measured[b, i, j] = n.received[b, i, j]
                n.received[b, i, j] = gain[b, i, j] * fading[b, slot, i * users + j]


@jit
def arrive(p: Params, n: Network, slot: int, count: bool, seed: int, counter: IntArray) -> None:
    """Put the packets of this slot into the queues."""
    for b in range(n.queue.shape[0]):
        for j in range(n.queue.shape[1]):
            while n.next_arrival[b, j] < slot + 1:
                if n.there[b, j]:
                    n.queue[b, j] += p.packet_bits
                    if count:
                        n.user_counts[b, ARRIVED, j] += p.packet_bits
                n.next_arrival[b, j] += _interval(p, n, b, j, seed, counter[b])


@jit
def choose(n: Network, actions: IntArray, chosen: IntArray) -> None:
    """Turn actions into users, -1 for silence; actions that the mask forbids are counted and not executed."""
    num_envs, access_points, top = n.ranked.shape
    for b in range(num_envs):
        for i in range(access_points):
            a = actions[b, i]
            legal = a == 0 or (1 <= a <= top and n.ranked[b, i, a - 1] >= 0)
            chosen[b, i] = n.ranked[b, i, a - 1] if legal and a > 0 else -1
            n.access_point_counts[b, ILLEGAL, i] += not legal


@jit
def choose_in_turn(n: Network, slot: int, chosen: IntArray) -> None:
    """Round robin: in each slot every access point takes the next of its users."""
    num_envs, access_points, _ = n.ranked.shape
    users = n.serving.shape[1]
    for b in range(num_envs):
        for i in range(access_points):
            waiting = 0
            for j in range(users):
                waiting += n.serving[b, j] == i and n.there[b, j] and n.queue[b, j] > 0.0
            chosen[b, i] = -1
            turn = slot % waiting if waiting > 0 else 0
            for j in range(users):
                if n.serving[b, j] == i and n.there[b, j] and n.queue[b, j] > 0.0:
                    if turn == 0:
                        chosen[b, i] = j
                        break
                    turn -= 1


@jit
def transmit(p: Params, n: Network, chosen: IntArray, count: bool, reward: FloatArray) -> None:
    """Let access points transmit to the chosen users [B, I]; fills reward [B, I], which all share."""
    num_envs, access_points, users = n.received.shape
    rate = np.empty(users)
    for b in range(num_envs):
        rate[:] = 0.0
        total = 0.0
        for i in range(access_points):
            j = chosen[b, i]
            if j >= 0:
                interference = 0.0
                for k in range(access_points):
                    if k != i and chosen[b, k] >= 0:
                        interference += n.received[b, k, j]
                rate[j] = link_rate(p, n.received[b, i, j] / (1.0 + interference), n.queue[b, j])
                total += weight(p, n.average[b, j]) ** p.fairness_exponent * rate[j]
            elif count:
                n.access_point_counts[b, SILENT, i] += 1.0
        for j in range(users):
            if n.there[b, j]:
                n.average[b, j] += p.averaging * (rate[j] - n.average[b, j])
                if p.arrivals_per_slot > 0.0:
                    if count:
                        n.user_counts[b, QUEUED, j] += n.queue[b, j]
                    n.queue[b, j] = max(n.queue[b, j] - rate[j] * p.bits_per_rate, 0.0)
                if count:
                    n.user_counts[b, RATE, j] += rate[j]
                    n.user_counts[b, PRESENT, j] += 1.0
        if count:
            n.copy_counts[b, EPISODES] = 1.0
            n.copy_counts[b, SLOTS] += 1.0
            n.copy_counts[b, REWARD] += total
        for i in range(access_points):
            reward[b, i] = total


@jit
def observe(p: Params, n: Network, obs: FloatArray, mask: BoolArray, acting: BoolArray) -> None:
    """Rank users by weight x rate as measured; write observations [B, I, D], masks [B, I, N + 1] and who acts [B, I]."""
    num_envs, access_points, top = n.ranked.shape
    for b in range(num_envs):
        measured, ranked, ratio = n.measured[b], n.ranked[b], n.ratio[b]
        for i in range(access_points):
            for k in range(top):
                ranked[i, k] = -1
                ratio[i, k] = 0.0
        for j in range(n.serving.shape[1]):
            if n.there[b, j] and n.queue[b, j] > 0.0:
                i = n.serving[b, j]
                rate = link_rate(p, sinr_all_on(measured, i, j), np.inf)
                _insert(ranked, ratio, i, j, weight(p, n.average[b, j]) * rate)
        for i in range(access_points):
            mask[b, i, 0] = True
            acting[b, i] = ranked[i, 0] >= 0
            for k in range(top):
                j = ranked[i, k]
                mask[b, i, k + 1] = j >= 0
                for column in range(k, obs.shape[2], top):
                    obs[b, i, column] = 0.0
                if j >= 0:
                    sinr_db = 10.0 * np.log10(max(sinr_all_on(measured, i, j), 1e-9))
                    log_weight = np.log10(weight(p, n.average[b, j]))
                    obs[b, i, k] = min(max(sinr_db, LOW_DB), HIGH_DB) / SCALE_DB
                    obs[b, i, top + k] = min(max(log_weight, LOW_WEIGHT), p.max_log_weight)
                    if p.arrivals_per_slot > 0.0:
                        obs[b, i, 2 * top + k] = min(n.queue[b, j] / (FULL_QUEUE * p.packet_bits), 1.0)
                    if p.reports_powers:
                        first = obs.shape[2] - access_points * top
                        for source in range(access_points):
                            power_db = 10.0 * np.log10(max(measured[source, j], 1e-9))
                            column = first + source * top + k
                            obs[b, i, column] = min(max(power_db, LOW_DB), HIGH_POWER_DB) / SCALE_DB


@jit_inline
def _insert(ranked: IntArray, ratio: Floats, i: int, j: int, value: float) -> None:
    """Put user j into access point i's list of the best; among equals the one with the lower number is first."""
    k = ranked.shape[1]
    while k > 0 and (ranked[i, k - 1] < 0 or value > ratio[i, k - 1]):
        k -= 1
        if k + 1 < ranked.shape[1]:
            ranked[i, k + 1], ratio[i, k + 1] = ranked[i, k], ratio[i, k]
    if k < ranked.shape[1]:
        ranked[i, k], ratio[i, k] = j, value


@jit
def _interval(p: Params, n: Network, b: int, j: int, seed: int, counter: int) -> float:
    """Draw the slots between two arrivals of a user."""
    n.packets[b, j] += 1
    return random.exponential(seed, b, j, _ARRIVAL + n.packets[b, j], counter) / p.arrivals_per_slot
