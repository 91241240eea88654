"""Figures, drawn from `results.json` and nothing else."""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # the backend without a screen, before pyplot
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from rllib_wireless.drawing import save

Json = dict[str, Any]

LEARNED, RULE, BOUND = "#c0392b", "#2c6fbb", "#7f8c8d"


def channel_access(content: Json, labels: Mapping[str, str], path: Path) -> None:
    """Throughput against short-term fairness, collision rate, and delay of all policies, with 95 % intervals.

    Args:
        content: Of `results.json`.
        labels: What to call the policies.
        path: The PNG.
    """
    policies: Mapping[str, Json] = content["policies"]
    figure, (plane, collisions, delay) = plt.subplots(
        1, 3, figsize=(13, 4.4), width_ratios=(1.5, 1, 1), layout="constrained"
    )
    learned_names = cycle([(6, 7), (6, -14)])
    for name, metrics in policies.items():
        x, y = metrics["short_term_fairness"], metrics["throughput_ratio"]
        plane.errorbar(x["mean"], y["mean"], _spread(y), _spread(x), fmt="o", color=_color(name), markersize=6)
        # Learned policies, which lie close together, are named above and below in turn, and rules on the left.
        spot, offset = (x["mean"], y["mean"]), next(learned_names) if _color(name) == LEARNED else (-8, -3)
        plane.annotate(labels[name], spot, xytext=offset, textcoords="offset points", ha="right", fontsize=8)
    plane.set(xlabel="short-term fairness (Jain, 10 N successes)", ylabel="throughput ratio", xlim=(0.3, 1.03))
    plane.set_title(f"N = {content['settings']['num_stations']} saturated stations", fontsize=10)
    plane.grid(alpha=0.3)
    _bars(collisions, policies, labels, "collision_rate", "collisions / busy periods")
    _bars(delay, policies, {}, "mean_delay_ms", "mean delay (ms)")
    save(figure, path, dpi=150)


def _bars(axes: Axes, policies: Mapping[str, Json], labels: Mapping[str, str], metric: str, title: str) -> None:
    names = list(policies)[::-1]
    values = [policies[name][metric]["mean"] for name in names]
    axes.barh(range(len(names)), values, color=[_color(name) for name in names], height=0.7)
    for row, name in enumerate(names):
        axes.errorbar(values[row], row, xerr=_spread(policies[name][metric]), color="black", linewidth=1)
    axes.set_yticks(range(len(names)), [labels.get(name, "") for name in names], fontsize=8)
    axes.set_xlabel(title)
    axes.grid(axis="x", alpha=0.3)


def _spread(metric: Json) -> list[list[float]] | None:
    lower, upper = metric["ci95"]
    if lower is None or upper is None:
        return None
    return [[max(metric["mean"] - lower, 0.0)], [max(upper - metric["mean"], 0.0)]]


def _color(name: str) -> str:
    if name == "tdma":
        return BOUND
    return LEARNED if name.startswith("fedmorl") else RULE
