"""Metrics of channel access: every one is a ratio of sums over the pooled episodes."""

from rllib_wireless.envs.base import Statistics
from rllib_wireless.envs.channel_access.config import SLOT_US
from rllib_wireless.envs.registry import Metric, ratio


def throughput_ratio(s: Statistics) -> float:
    """Share of time that successful packets fill."""
    return ratio(s["success_slots"].sum(), s["slots"].sum())


def collision_rate(s: Statistics) -> float:
    """Share of busy periods that are collisions."""
    return ratio(s["collisions"].sum(), s["busy_periods"].sum())


def collision_probability(s: Statistics) -> float:
    """Share of transmissions that collide."""
    return ratio(s["collided_transmissions"].sum(), s["transmissions"].sum())


def mean_delay_ms(s: Statistics) -> float:
    """Arrival to success, over delivered packets."""
    return ratio(s["delay_slots"].sum(), s["successes"].sum()) * SLOT_US / 1000


def jain_fairness(s: Statistics) -> float:
    """Jain's index of the stations' successes within an episode, averaged over episodes weighted by their time."""
    successes = s["successes"].astype(float)
    total = successes.sum(1)
    index = total**2 / (successes.shape[1] * (successes**2).sum(1).clip(min=1.0))
    return ratio((index * s["slots"]).sum(), (s["slots"] * (total > 0)).sum())


def short_term_fairness(s: Statistics) -> float:
    """Jain's index over windows of 10 N successes, averaged over the windows."""
    return ratio(s["fairness_sum"].sum(), s["fairness_windows"].sum())


METRICS = (
    Metric("throughput_ratio", "", "higher", throughput_ratio, "share of time that successful packets fill"),
    Metric("collision_rate", "", "lower", collision_rate, "share of busy periods that are collisions"),
    Metric("collision_probability", "", "lower", collision_probability, "share of transmissions that collide"),
    Metric("mean_delay_ms", "ms", "lower", mean_delay_ms, "arrival to success, over delivered packets"),
    Metric("jain_fairness", "", "higher", jain_fairness, "Jain's index of successes over the whole episode"),
    Metric("short_term_fairness", "", "higher", short_term_fairness, "Jain's index over windows of 10 N successes"),
)
