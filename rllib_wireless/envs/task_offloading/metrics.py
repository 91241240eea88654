"""Metrics of task offloading: every one is made of ratios of sums over the pooled episodes."""

import numpy as np

from rllib_wireless.envs.base import Statistics
from rllib_wireless.envs.registry import Metric, ratio


def discounted_cost(s: Statistics) -> float:
    """Cost of all devices per slot, the slots of an episode weighted by gamma^t."""
    return ratio(s["discounted_cost"].sum(), s["discount"].sum())


def offload_frequency(s: Statistics) -> float:
    """Share of its slots in which a device offloads, mean over the devices."""
    return ratio(s["offloads"].mean(1).sum(), s["slots"].sum())


def mean_aoi(s: Statistics) -> float:
    """Age of information at the end of a slot, mean over slots and devices."""
    return ratio(s["age"].mean(1).sum(), s["slots"].sum())


def constraint_violation(s: Statistics) -> float:
    """By how much a device's discounted offload frequency is above its limit K_i, mean over the devices."""
    excess = (s["discounted_offloads"] - s["discounted_limit"]).sum(0)
    return ratio(np.maximum(excess, 0.0).mean(), s["discount"].sum())


METRICS = (
    Metric(
        "discounted_cost",
        "cost/slot",
        "lower",
        discounted_cost,
        "(1 - gamma) times the discounted cost of all devices together: the objective of the paper, eq. (3)",
    ),
    Metric("offload_frequency", "", "lower", offload_frequency, "share of its slots in which a device offloads"),
    Metric("mean_aoi", "slots", "lower", mean_aoi, "age of information at the end of a slot"),
    Metric(
        "constraint_violation",
        "",
        "lower",
        constraint_violation,
        "by how much a device's discounted offload frequency is above offload_limit, mean over the devices",
    ),
)
