"""The physics of one shared channel, slot by slot, compiled: contention, busy periods, queues, delays, reward.

Every copy is a machine with three phases: DECIDE (an idle slot in which stations may send), TRANSMIT and DIFS.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs import random
from rllib_wireless.envs.random import jit, jit_inline

IDLE, BUSY, SUCCESS, COLLISION = range(4)
"""Channel states, as observed."""

DECIDE, TRANSMIT, DIFS = range(3)
"""Phases."""

COPY_STATE = (
    "time",  # slots since the episode began
    "phase",
    "remaining",  # slots left of the phase
    "outcome",  # what the last step brought: IDLE, BUSY, SUCCESS or COLLISION
    "idle_slots",  # slots open to contention that passed idle at the end of the last step
    "heard",  # last event that everyone heard; idle slots in a row are one event
    "heard_slots",  # how long it lasted
    "sent_at",  # when the last busy period began
)
STATION_STATE = (
    "sending",  # occupies the channel in phase TRANSMIT
    "transmitted",  # sent in the event heard last
    "last_success",  # slot in which it ended
    "rank",  # other stations that succeeded since
    "queue",  # packets
    "head",  # of the ring of arrival times
    "draws",  # arrivals drawn; counts on over episodes, as the counter of the random numbers
    "retries",  # collisions of the packet at the head: the backoff stage
    "window",  # successes in the running fairness window
)
COPY_COUNTS = (
    "slots",
    "decisions",
    "busy_periods",
    "collisions",  # busy periods that were collisions
    "success_slots",  # slots of successful packets
    "fairness_windows",
    "fairness_sum",  # of Jain's index over those windows
)
STATION_COUNTS = (
    "transmissions",
    "collided_transmissions",
    "successes",
    "delay_slots",  # arrival to success, over delivered packets
    "arrived_packets",
    "dropped_packets",  # at a full queue or at the retry limit
    "reward",
    "illegal_actions",
)

# The rows of these tables. Few large arrays: every array that a compiled function is handed costs time at each call.
TIME, PHASE, REMAINING, OUTCOME, IDLE_SLOTS, HEARD, HEARD_SLOTS, SENT_AT = range(len(COPY_STATE))
SENDING, TRANSMITTED, LAST_SUCCESS, RANK, QUEUE, HEAD, DRAWS, RETRIES, WINDOW = range(len(STATION_STATE))
SLOTS, DECISIONS, BUSY_PERIODS, COLLISIONS, SUCCESS_SLOTS, FAIRNESS_WINDOWS, FAIRNESS_SUM = range(len(COPY_COUNTS))
TRANSMISSIONS, COLLIDED, SUCCESSES, DELAY, ARRIVED, DROPPED, REWARD, ILLEGAL = range(len(STATION_COUNTS))

FAIRNESS_ROUNDS = 10
"""Short-term fairness is Jain's index over windows of this many successes per station."""

HISTORY_FIELDS = 6
"""Of one event in the history window: idle, success, collision; own transmission; duration; d2lt."""

_ARRIVALS = 1  # purpose of the random numbers

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class Params(NamedTuple):
    """The configuration, as the kernels read it; slots throughout."""

    slot_steps: bool
    saturated: bool
    packet_slots: int
    collision_slots: int
    difs_slots: int
    retry_limit: int  # -1: endless
    global_d2lt: bool
    literal_slots: bool  # channel state and previous action of the last slot, not of the last event
    rank: bool
    alpha: float
    rates: Floats  # [N] packets per slot
    seed: int


class Channel(NamedTuple):
    """B machines of N stations with queues of Q packets and windows of k events, and what was counted of them."""

    copies: Ints  # [B, COPY_STATE]
    stations: Ints  # [B, STATION_STATE, N]
    arrived: Floats  # [B, N, Q] slot of arrival of the queued packets, a ring
    next_arrival: Floats  # [B, N] slot
    history: Singles  # [B, N, k, HISTORY_FIELDS] newest first
    counts: Floats  # [B, COPY_COUNTS]
    station_counts: Floats  # [B, STATION_COUNTS, N]


def allocate(num_envs: int, stations: int, capacity: int, events: int) -> Channel:
    """B machines whose state is zero."""
    return Channel(
        copies=np.zeros((num_envs, len(COPY_STATE)), np.int64),
        stations=np.zeros((num_envs, len(STATION_STATE), stations), np.int64),
        arrived=np.zeros((num_envs, stations, capacity)),
        next_arrival=np.zeros((num_envs, stations)),
        history=np.zeros((num_envs, stations, events, HISTORY_FIELDS), np.float32),
        counts=np.zeros((num_envs, len(COPY_COUNTS))),
        station_counts=np.zeros((num_envs, len(STATION_COUNTS), stations)),
    )


@jit
def begin(p: Params, m: Channel, copies: Ints) -> None:
    """Start episodes: fill the queues, or draw the first arrivals and go on to the first packet."""
    n, capacity = m.arrived.shape[1:]
    for b in copies:
        draws = m.stations[b, DRAWS].copy()
        m.copies[b] = 0
        m.stations[b] = 0
        m.stations[b, DRAWS] = draws
        m.arrived[b] = 0.0
        m.history[b] = 0.0
        m.counts[b] = 0.0
        m.station_counts[b] = 0.0
        for i in range(n):
            if p.saturated:
                m.stations[b, QUEUE, i] = capacity
            else:
                m.next_arrival[b, i] = _interval(p, b, i, m.stations[b])
        _skip_silence(p, m, b)
        m.counts[b, SLOTS] = m.copies[b, TIME]


@jit
def advance(p: Params, m: Channel, actions: Ints, reward: Singles, cost: Singles, duration: Singles) -> None:
    """Execute actions [B, N], go on to each copy's next decision (or slot); fills reward, cost [B, N] and duration [B]."""
    for b in range(actions.shape[0]):
        c = m.copies[b]
        start = c[TIME]
        c[OUTCOME] = IDLE
        c[IDLE_SLOTS] = 0
        for i in range(actions.shape[1]):
            reward[b, i] = 0.0
            cost[b, i] = 0.0
        senders = _start_sending(m, b, actions[b])
        if c[PHASE] == DECIDE:
            m.counts[b, DECISIONS] += 1
            if senders > 0:
                c[PHASE] = TRANSMIT
                c[SENT_AT] = start
                c[REMAINING] = p.packet_slots if senders == 1 else p.collision_slots
            else:
                _elapse(p, m, b, 1, cost[b])
                c[IDLE_SLOTS] = 1
                _hear(p, m, b, IDLE, 1)
        while c[PHASE] != DECIDE:
            slots = 1 if p.slot_steps else c[REMAINING]
            _elapse(p, m, b, slots, cost[b])
            c[REMAINING] -= slots
            if c[PHASE] == TRANSMIT:
                if c[REMAINING] == 0:
                    _end_busy_period(p, m, b, reward[b])
                else:
                    c[OUTCOME] = BUSY
            if c[PHASE] == DIFS and c[REMAINING] == 0:
                c[PHASE] = DECIDE
            if p.slot_steps:
                break
        _skip_silence(p, m, b)
        duration[b] = c[TIME] - start
        m.counts[b, SLOTS] += c[TIME] - start
        for i in range(actions.shape[1]):
            reward[b, i] -= p.alpha * cost[b, i]
            m.station_counts[b, REWARD, i] += reward[b, i]


@jit
def hear(p: Params, m: Channel, actions: Ints, event: Ints, duration: Ints, cost: Singles) -> None:
    """Go on as if events [B] of these durations [B] had followed actions [B, N]; fills cost [B, N]."""
    for b in range(actions.shape[0]):
        c = m.copies[b]
        c[OUTCOME] = event[b]
        c[IDLE_SLOTS] = duration[b] if event[b] == IDLE else 0
        for i in range(actions.shape[1]):
            cost[b, i] = 0.0
        _start_sending(m, b, actions[b])
        difs = 0 if event[b] == IDLE else min(p.difs_slots, duration[b])
        _elapse(p, m, b, duration[b] - difs, cost[b])
        for i in range(actions.shape[1]):
            if m.stations[b, SENDING, i] and event[b] == SUCCESS:
                _succeed(p, m, b, i)
            elif m.stations[b, SENDING, i] and event[b] == COLLISION:
                _collide(p, m, b, i)
        _hear(p, m, b, event[b], duration[b])
        _elapse(p, m, b, difs, cost[b])
        m.counts[b, DECISIONS] += 1
        m.counts[b, SLOTS] += duration[b]


@jit
def observe(p: Params, m: Channel, obs: Singles, mask: Bools, acting: Bools) -> None:
    """Write observations [B, N, D], masks [B, N, 2] and who acts [B, N]."""
    num_envs, n, capacity = m.arrived.shape
    events = m.history.shape[2]
    per_packet = 1.0 / capacity
    for b in range(num_envs):
        c = m.copies[b]
        st = m.stations[b]
        total = n * c[TIME] - _sum(st[LAST_SUCCESS])
        per_slot = 1.0 / total if total > 0 else 0.0
        shown = _shown_state(p, c)
        first_slot = c[PHASE] == TRANSMIT and c[TIME] == c[SENT_AT] + 1
        for i in range(n):
            o = obs[b, i]
            for k in range(6):
                o[k] = 0.0
            o[shown] = 1.0
            if p.literal_slots:
                sent = first_slot and st[SENDING, i] == 1
            else:
                sent = st[SENDING if shown == BUSY else TRANSMITTED, i] == 1
            o[5 if sent else 4] = 1.0
            delay = c[TIME] - st[LAST_SUCCESS, i]
            o[6] = delay * per_slot if p.global_d2lt else _local_share(c[TIME], st[LAST_SUCCESS], i)
            o[7] = st[QUEUE, i] * per_packet
            width = 8
            if p.rank:
                o[8] = st[RANK, i] / max(n - 1, 1)
                width = 9
            for k in range(events):
                for f in range(HISTORY_FIELDS):
                    o[width] = m.history[b, i, k, f]
                    width += 1
            may = c[PHASE] == DECIDE and st[QUEUE, i] > 0
            acting[b, i] = may
            mask[b, i, 0] = True
            mask[b, i, 1] = may


@jit
def share_sum(delay: float, total: float, growth: float, slots: int) -> float:
    """The delay share (delay + s) / (total + growth * s) summed over s = 0, ..., slots - 1; 0 / 0 counts as 0."""
    defined = slots - 1 if total == 0.0 and slots > 0 else slots
    return defined / growth + (delay - total / growth) * _reciprocal_sum(total / growth, slots) / growth


@jit
def _reciprocal_sum(x: float, slots: int) -> float:
    """1 / (x + s) summed over s = 0, ..., slots - 1; a term 1 / 0 counts as 0."""
    total = 0.0
    s = 0
    while s < slots and (x + s < 12.0 or slots - s < 8):  # the expansion below needs a large argument
        if x + s > 0.0:
            total += 1.0 / (x + s)
        s += 1
    if s < slots:
        total += _digamma(x + slots) - _digamma(x + s)
    return total


@jit
def _digamma(x: float) -> float:
    """Asymptotic expansion, error below 1e-12 for x >= 12."""
    square = 1.0 / (x * x)
    return np.log(x) - 0.5 / x - square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))  # type: ignore[no-any-return]


@jit
def _sum(row: Ints) -> int:
    total = 0  # a plain loop: Numba's sum() costs several times as much on a row this short
    for value in row:
        total += value
    return total


@jit
def _local_share(now: int, last_success: Ints, i: int) -> float:
    """Station i's delay / (its delay + slots since the last success of any other)."""
    total = 2 * now - last_success[i] - _last_success_of_others(last_success, i)
    return (now - last_success[i]) / total if total > 0 else 0.0


@jit
def _last_success_of_others(last_success: Ints, i: int) -> int:
    latest = 0
    for j in range(last_success.size):
        if j != i and last_success[j] > latest:
            latest = last_success[j]
    return latest


@jit_inline
def _shown_state(p: Params, c: Ints) -> int:
    if c[OUTCOME] == BUSY:
        return BUSY
    if not p.literal_slots:
        return int(c[HEARD])
    ended_in_last_slot = (p.slot_steps or p.difs_slots == 0) and c[IDLE_SLOTS] == 0
    return int(c[OUTCOME]) if ended_in_last_slot else IDLE


@jit_inline
def _start_sending(m: Channel, b: int, actions: Ints) -> int:
    """Mark who sends; attempts that the mask forbids are counted and not executed. Returns the number of senders."""
    st = m.stations[b]
    deciding = m.copies[b, PHASE] == DECIDE
    senders = 0
    for i in range(actions.size):
        legal = deciding and actions[i] == 1 and st[QUEUE, i] > 0
        if actions[i] != 0 and not legal:
            m.station_counts[b, ILLEGAL, i] += 1
        if deciding:
            st[SENDING, i] = legal
        senders += legal
    return senders


@jit_inline
def _elapse(p: Params, m: Channel, b: int, slots: int, cost: Singles) -> None:
    """Let time pass: the delay cost, -r_local of eq. (3), accrues in every slot, packets arrive."""
    st = m.stations[b]
    n, capacity = m.arrived.shape[1:]
    now = m.copies[b, TIME]
    per_packet = 1.0 / capacity
    mean = now - _sum(st[LAST_SUCCESS]) / n
    reciprocal = _reciprocal_sum(mean, slots) / n if p.global_d2lt else 0.0
    own = (slots - 1 if mean == 0.0 and slots > 0 else slots) / n
    for i in range(n):
        if st[QUEUE, i] > 0:
            if p.global_d2lt:  # _waited() with what all stations have in common taken out of the loop
                waited = own + (now - st[LAST_SUCCESS, i] - mean) * reciprocal
            else:
                waited = _waited(p, st[LAST_SUCCESS], i, now, slots)
            cost[i] += per_packet * waited * st[QUEUE, i]
        while not p.saturated and m.next_arrival[b, i] <= now + slots:
            slot = max(np.int64(np.ceil(m.next_arrival[b, i])), now)
            if _arrive(p, m, b, i):
                cost[i] += per_packet * _waited(p, st[LAST_SUCCESS], i, slot, now + slots - slot)
    m.copies[b, TIME] += slots


@jit
def _waited(p: Params, last_success: Ints, i: int, now: int, slots: int) -> float:
    """Station i's normalised delay summed over slots in which nobody succeeds."""
    if p.global_d2lt:
        n = last_success.size
        return share_sum(now - last_success[i], n * now - _sum(last_success), n, slots)
    total = 2 * now - last_success[i] - _last_success_of_others(last_success, i)
    return share_sum(now - last_success[i], total, 2, slots)


@jit
def _arrive(p: Params, m: Channel, b: int, i: int) -> bool:
    """Put the next packet into station i's queue and draw the one after it; False where the queue is full."""
    st = m.stations[b]
    capacity = m.arrived.shape[2]
    fits = bool(st[QUEUE, i] < capacity)
    m.station_counts[b, ARRIVED, i] += 1
    if fits:
        m.arrived[b, i, (st[HEAD, i] + st[QUEUE, i]) % capacity] = m.next_arrival[b, i]
        st[QUEUE, i] += 1
    else:
        m.station_counts[b, DROPPED, i] += 1
    m.next_arrival[b, i] += _interval(p, b, i, st)
    return fits


@jit
def _interval(p: Params, b: int, i: int, st: Ints) -> float:
    """Draw the time between two arrivals of station i."""
    st[DRAWS, i] += 1
    return random.exponential(p.seed, b, i, _ARRIVALS, st[DRAWS, i]) / p.rates[i]  # type: ignore[no-any-return]


@jit_inline
def _skip_silence(p: Params, m: Channel, b: int) -> None:
    """With all queues empty nobody decides anything: go on to the slot in which the next packet is there."""
    if p.slot_steps or p.saturated or _sum(m.stations[b, QUEUE]) > 0:
        return
    c = m.copies[b]
    slots = max(np.int64(np.ceil(m.next_arrival[b].min())) - c[TIME], 1)
    c[TIME] += slots
    c[IDLE_SLOTS] += slots
    for i in range(m.next_arrival.shape[1]):
        while m.next_arrival[b, i] <= c[TIME]:
            _arrive(p, m, b, i)
    _hear(p, m, b, IDLE, slots)


@jit
def _end_busy_period(p: Params, m: Channel, b: int, reward: Singles) -> None:
    c = m.copies[b]
    sending = m.stations[b, SENDING]
    success = _sum(sending) == 1
    for i in range(sending.size):
        if sending[i]:
            m.station_counts[b, TRANSMISSIONS, i] += 1
            if success:
                _succeed(p, m, b, i)
            else:
                _collide(p, m, b, i)
        reward[i] += np.float32(1.0 if success else -1.0)
    m.counts[b, BUSY_PERIODS] += 1
    if success:
        m.counts[b, SUCCESS_SLOTS] += p.packet_slots
    else:
        m.counts[b, COLLISIONS] += 1
    c[OUTCOME] = SUCCESS if success else COLLISION
    _hear(p, m, b, c[OUTCOME], (p.packet_slots if success else p.collision_slots) + p.difs_slots)
    c[PHASE] = DIFS
    c[REMAINING] = p.difs_slots


@jit
def _succeed(p: Params, m: Channel, b: int, i: int) -> None:
    st = m.stations[b]
    now = m.copies[b, TIME]
    n = st.shape[1]
    m.station_counts[b, SUCCESSES, i] += 1
    m.station_counts[b, DELAY, i] += now - m.arrived[b, i, st[HEAD, i]]
    _pop(p, m, b, i)
    before = st[RANK, i]
    for j in range(n):
        if st[RANK, j] <= before:  # i was not yet among those who succeeded after j
            st[RANK, j] += 1
    st[RANK, i] = 0
    st[LAST_SUCCESS, i] = now
    st[WINDOW, i] += 1
    if _sum(st[WINDOW]) == FAIRNESS_ROUNDS * n:
        squares = 0
        for j in range(n):
            squares += st[WINDOW, j] ** 2
            st[WINDOW, j] = 0
        m.counts[b, FAIRNESS_WINDOWS] += 1
        m.counts[b, FAIRNESS_SUM] += (FAIRNESS_ROUNDS * n) ** 2 / (n * squares)


@jit
def _collide(p: Params, m: Channel, b: int, i: int) -> None:
    m.station_counts[b, COLLIDED, i] += 1
    m.stations[b, RETRIES, i] += 1
    if p.retry_limit >= 0 and m.stations[b, RETRIES, i] > p.retry_limit:
        m.station_counts[b, DROPPED, i] += 1
        _pop(p, m, b, i)


@jit
def _pop(p: Params, m: Channel, b: int, i: int) -> None:
    """Take the packet at the head out of the queue; a saturated station has another at once."""
    st = m.stations[b]
    st[RETRIES, i] = 0
    if p.saturated:
        m.arrived[b, i, st[HEAD, i]] = m.copies[b, TIME]  # the freed place is the tail of a full ring
    else:
        st[QUEUE, i] -= 1
    st[HEAD, i] = (st[HEAD, i] + 1) % m.arrived.shape[2]


@jit_inline
def _hear(p: Params, m: Channel, b: int, event: int, slots: int) -> None:
    """Remember the event that everyone heard just now."""
    c = m.copies[b]
    st = m.stations[b]
    n = st.shape[1]
    again = event == IDLE and c[HEARD] == IDLE
    c[HEARD] = event
    c[HEARD_SLOTS] = slots + (c[HEARD_SLOTS] if again else 0)
    for i in range(n):
        st[TRANSMITTED, i] = event != IDLE and st[SENDING, i]
    events = m.history.shape[2]
    if events == 0:
        return
    total = n * c[TIME] - _sum(st[LAST_SUCCESS])
    for i in range(n):
        history = m.history[b, i]
        if not again:
            for k in range(events - 1, 0, -1):
                history[k] = history[k - 1]
        history[0] = 0.0
        history[0, 0 if event == IDLE else event - 1] = 1.0
        history[0, 3] = st[TRANSMITTED, i]
        history[0, 4] = min(c[HEARD_SLOTS] / (p.packet_slots + p.difs_slots), 1.0)
        if p.global_d2lt:
            history[0, 5] = (c[TIME] - st[LAST_SUCCESS, i]) / total if total > 0 else 0.0
        else:
            history[0, 5] = _local_share(c[TIME], st[LAST_SUCCESS], i)
