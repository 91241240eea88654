"""Metrics of production scheduling: ratios of sums over the pooled episodes."""

from rllib_wireless.envs.base import Statistics
from rllib_wireless.envs.registry import Metric, ratio


def makespan(s: Statistics) -> float:
    """Length of an episode; of a truncated one it is what had passed by then."""
    return ratio(s["end_ticks"].sum(), s["ended"].sum())


def mean_completion_time(s: Statistics) -> float:
    """When a product was finished, mean over the finished ones."""
    return ratio(s["finish_ticks"].sum(), s["finished"].sum())


def completed(s: Statistics) -> float:
    """Share of the products of ended episodes that were finished."""
    return ratio(s["end_finished"].sum(), s["end_products"].sum())


def livelock(s: Statistics) -> float:
    """Share of episodes that ran into the limit of decisions."""
    return ratio(s["livelocks"].sum(), s["ended"].sum())


def decisions(s: Statistics) -> float:
    """Decisions of all units in an episode."""
    return ratio(s["end_decisions"].sum(), s["ended"].sum())


def deferral_rate(s: Statistics) -> float:
    """Share of decisions that are defers."""
    return ratio(s["defers"].sum(), s["decisions"].sum())


def conflict_rate(s: Statistics) -> float:
    """Share of chosen moves that another unit's move prevented."""
    return ratio(s["conflicts"].sum(), s["decisions"].sum() - s["defers"].sum())


METRICS = (
    Metric("makespan", "ticks", "lower", makespan, "time until all products are finished, or the episode is truncated"),
    Metric("mean_completion_time", "ticks", "lower", mean_completion_time, "when a product is finished"),
    Metric("completed", "", "higher", completed, "share of the products that are finished"),
    Metric("livelock", "", "lower", livelock, "share of episodes that are truncated at max_decisions"),
    Metric("decisions", "decisions/episode", "lower", decisions, "decisions of all units in an episode"),
    Metric("deferral_rate", "", "lower", deferral_rate, "share of decisions that are defers, forced ones among them"),
    Metric(
        "conflict_rate", "", "lower", conflict_rate, "share of chosen moves that another move to the same unit prevents"
    ),
)
