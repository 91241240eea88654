"""Backoff rules on a saturated channel without a BatchedEnv: from busy period to busy period, with nothing in between.

Only who counts down and how far matters, so the kernel jumps over idle slots by the minimum of the counters. It draws the
same random numbers as the rules do in the simulator, and ends with exactly the same statistics; observations, rewards,
arrivals and learned policies need the simulator.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import Statistics
from rllib_wireless.envs.channel_access import channel
from rllib_wireless.envs.channel_access.config import ChannelAccessConfig
from rllib_wireless.envs.channel_access.rules import BackoffConfig, CsmaEca, draw_backoff, windows
from rllib_wireless.envs.channel_access.simulator import ChannelAccess
from rllib_wireless.envs.random import StepRandom, jit
from rllib_wireless.envs.registry import env_spec
from rllib_wireless.errors import ConfigError, UserError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def simulate(
    rule: str,
    env_config: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    *,
    busy_periods: int,
    warmup: int = 0,
    num_envs: int = 1,
    seed: int = 0,
) -> Statistics:
    """Run a backoff rule.

    Args:
        rule: `csma_ca`, `csma_eca`, `ac_vo`, `ac_vi` or `ac_be`.
        env_config: Configuration of `channel_access`; observation, reward and episode length mean nothing here.
        params: The rule's parameters.
        busy_periods: Busy periods that each copy counts.
        warmup: Busy periods before those.
        num_envs: Copies B, one after the other on one core.
        seed: Seed; copy b of the simulator under the same rule and seed goes through the same events.

    Returns:
        The simulator's statistics {name: [B] or [B, N]} but for rewards; the metrics of `channel_access` take them.

    Raises:
        UserError: At a rule without a backoff, traffic that is not saturated, or a wrong configuration.
    """
    spec = env_spec(ChannelAccess.name)
    config = ChannelAccessConfig.parse(dict(env_config or {}))
    known = spec.rules.get(rule)
    if known is None or known.config is not BackoffConfig:
        rules = [name for name, r in spec.rules.items() if r.config is BackoffConfig]
        raise UserError(f"{rule} is no backoff rule; backoff rules are {', '.join(rules)}")
    if not config.saturated:
        raise ConfigError(config.owner, "saturated", False, "the event kernel has no queues that run empty")
    if busy_periods < 1 or warmup < 0 or num_envs < 1:
        raise UserError("busy_periods and num_envs should be at least 1, warmup at least 0")
    backoff = BackoffConfig.parse({**(known.defaults or {}), **(params or {})})
    n = config.num_stations
    cw_min, cw_max = windows(backoff, n)
    counts = np.zeros((num_envs, len(channel.COPY_COUNTS)))
    station_counts = np.zeros((num_envs, len(channel.STATION_COUNTS), n))
    _run(
        counts,
        station_counts,
        cw_min,
        cw_max,
        config.lowest_backoff,
        config.countdown == "bianchi",
        known.policy is CsmaEca,
        config.packet_slots,
        config.packet_slots if config.collision_slots is None else config.collision_slots,
        config.difs_slots,
        -1 if config.retry_limit is None else config.retry_limit,
        config.queue_capacity,
        warmup,
        busy_periods,
        StepRandom(seed, num_envs, n).seed,
    )
    per_copy = {name: counts[:, k] for k, name in enumerate(channel.COPY_COUNTS)}
    per_station = {name: station_counts[:, k] for k, name in enumerate(channel.STATION_COUNTS) if name != "reward"}
    return per_copy | per_station


@jit
def _run(
    counts: Floats,
    station_counts: Floats,
    cw_min: Ints,
    cw_max: Ints,
    lowest: int,
    bianchi: bool,
    eca: bool,
    packet_slots: int,
    collision_slots: int,
    difs_slots: int,
    retry_limit: int,
    capacity: int,
    warmup: int,
    busy_periods: int,
    seed: int,
) -> None:
    n = cw_min.size
    for b in range(counts.shape[0]):
        c, s = counts[b], station_counts[b]
        time = 0
        clock = 0  # what backoffs count: idle slots, and in Bianchi's chain busy periods
        expiry = np.zeros(n, np.int64)  # by that clock
        draws = np.zeros(n, np.int64)
        retries = np.zeros(n, np.int64)
        arrived = np.zeros((n, capacity), np.int64)  # a ring of the queued packets' arrivals
        head = np.zeros(n, np.int64)
        window = np.zeros(n, np.int64)
        in_window = 0
        for i in range(n):
            expiry[i] = draw_backoff(0, cw_min[i], cw_max[i], lowest, seed, b, i, 0)
            draws[i] = 1
        for period in range(warmup + busy_periods):
            if period == warmup:
                c[:] = 0.0
                s[:] = 0.0
            first = expiry[0]
            for i in range(1, n):
                first = min(first, expiry[i])
            senders = 0
            for i in range(n):
                senders += expiry[i] == first
            idle = first - clock
            held = packet_slots if senders == 1 else collision_slots
            time += idle + held
            clock = first + bianchi
            c[channel.SLOTS] += idle + held + difs_slots
            c[channel.DECISIONS] += idle + 1
            c[channel.BUSY_PERIODS] += 1
            if senders == 1:
                c[channel.SUCCESS_SLOTS] += packet_slots
            else:
                c[channel.COLLISIONS] += 1
            for i in range(n):
                if expiry[i] != first:
                    continue
                s[channel.TRANSMISSIONS, i] += 1
                served = senders == 1
                if served:
                    s[channel.SUCCESSES, i] += 1
                    s[channel.DELAY, i] += time - arrived[i, head[i]]
                    window[i] += 1
                    in_window += 1
                else:
                    s[channel.COLLIDED, i] += 1
                    retries[i] += 1
                dropped = not served and retry_limit >= 0 and retries[i] > retry_limit
                s[channel.DROPPED, i] += dropped
                if served or dropped:
                    retries[i] = 0
                    arrived[i, head[i]] = time
                    head[i] = (head[i] + 1) % capacity
                if served and eca:
                    backoff = cw_min[i] // 2
                else:
                    backoff = draw_backoff(retries[i], cw_min[i], cw_max[i], lowest, seed, b, i, draws[i])
                    draws[i] += 1
                expiry[i] = clock + backoff
            time += difs_slots
            if in_window == channel.FAIRNESS_ROUNDS * n:
                c[channel.FAIRNESS_WINDOWS] += 1
                c[channel.FAIRNESS_SUM] += in_window**2 / (n * (window**2).sum())
                window[:] = 0
                in_window = 0
