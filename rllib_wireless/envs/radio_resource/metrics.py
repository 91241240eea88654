"""Metrics of radio resource management: rates of users over an episode, their mean and their lower tail."""

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import Statistics
from rllib_wireless.envs.registry import Metric, ratio

Floats = npt.NDArray[np.float64]

TAIL_PERCENTILE = 5.0
TAIL_WEIGHT = 3.0
"""The score is the mean rate plus this times the tail rate (2311.11423)."""


def sum_rate(s: Statistics) -> float:
    """Rate of all users together, a mean over time."""
    return ratio(s["rate"].sum(), s["slots"].sum())


def mean_rate(s: Statistics) -> float:
    """Mean over users of their rates while they are there."""
    rates = _user_rates(s)
    return ratio(np.nansum(rates), np.isfinite(rates).sum())


def tail_rate(s: Statistics) -> float:
    """5th percentile of the rates of all users of all episodes."""
    rates = _user_rates(s)
    rates = rates[np.isfinite(rates)]
    return float(np.percentile(rates, TAIL_PERCENTILE)) if rates.size else float("nan")


def score(s: Statistics) -> float:
    """Mean rate plus three times the tail rate."""
    return mean_rate(s) + TAIL_WEIGHT * tail_rate(s)


def score_per_episode(s: Statistics) -> float:
    """Mean over episodes of the score of each; one that nobody was in does not count."""
    rates = _user_rates(s)
    total, users = np.nansum(rates, axis=1), np.isfinite(rates).sum(1)
    ordered = np.sort(rates, axis=1)[users > 0]  # NaN last; a percentile of each row that bootstraps can afford
    total, users = total[users > 0], users[users > 0]
    position = TAIL_PERCENTILE / 100 * (users - 1)
    lower = position.astype(np.int64)
    rows = np.arange(len(users))
    low, high = ordered[rows, lower], ordered[rows, np.minimum(lower + 1, users - 1)]
    tail = low + (position - lower) * (high - low)
    return ratio(float((total / users + TAIL_WEIGHT * tail).sum()), len(users))


def silent_share(s: Statistics) -> float:
    """Share of slots in which an access point is silent."""
    return ratio(s["silent_slots"].sum(), s["slots"].sum() * s["silent_slots"].shape[1])


def mean_delay_slots(s: Statistics) -> float:
    """Time of a bit in its queue by Little's law; undefined where buffers are always full."""
    return ratio(s["queued_bits"].sum(), s["arrived_bits"].sum())


METRICS = (
    Metric("sum_rate", "bit/s/Hz", "higher", sum_rate, "rate of all users together"),
    Metric("mean_rate", "bit/s/Hz", "higher", mean_rate, "mean over users of their rates over an episode"),
    Metric("tail_rate", "bit/s/Hz", "higher", tail_rate, "5th percentile of these rates, all episodes pooled"),
    Metric("score", "bit/s/Hz", "higher", score, "mean rate + 3 tail rate"),
    Metric("score_per_episode", "bit/s/Hz", "higher", score_per_episode, "the score of an episode, its mean"),
    Metric("silent_share", "", "lower", silent_share, "share of slots in which an access point is silent"),
    Metric("mean_delay", "slots", "lower", mean_delay_slots, "time of a bit in its queue, by Little's law"),
)


def _user_rates(s: Statistics) -> Floats:
    """Time-mean rate of each user, [E, J]; NaN for users that were never there.

    All are NaN where a row sums several episodes: its users are then others in each, and have no rate of their own.
    """
    rates: Floats = np.full(s["rate"].shape, np.nan)
    there = (s["user_slots"] > 0) & (s["episodes"].max() <= 1)
    np.divide(s["rate"], s["user_slots"], out=rates, where=there)
    return rates
