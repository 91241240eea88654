"""Curves against the number of stations, drawn from `results.json` and nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # the backend without a screen, before pyplot
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter

from rllib_wireless.drawing import save

Json = dict[str, Any]

PANELS = (
    ("throughput_ratio", "(a) throughput ratio", "linear"),
    ("mean_delay_ms", "(b) mean delay (ms)", "log"),
    ("collision_rate", "(c) collisions / busy periods", "linear"),
    ("short_term_fairness", "(d) short-term fairness (Jain, 10 N successes)", "linear"),
)

# Okabe and Ito's colours, which the colour-blind tell apart; line styles and markers say the same once more.
STYLES: dict[str, dict[str, Any]] = {
    "plan": {"color": "#D55E00", "marker": "o", "linestyle": "-", "linewidth": 2.0, "zorder": 5},
    "roll": {"color": "#CC79A7", "marker": "s", "linestyle": "-", "linewidth": 2.0, "zorder": 5},
    "play": {"color": "#E69F00", "marker": "*", "linestyle": "-", "linewidth": 2.0, "zorder": 5},
    "ac_be": {"color": "#0072B2", "marker": "^", "linestyle": "-"},
    "ac_vi": {"color": "#0072B2", "marker": "v", "linestyle": "--"},
    "ac_vo": {"color": "#0072B2", "marker": "<", "linestyle": ":"},
    "csma_ca": {"color": "#56B4E9", "marker": "x", "linestyle": "-."},
    "csma_eca_cold": {"color": "#009E73", "marker": "D", "linestyle": "--", "markerfacecolor": "white"},
    "csma_eca_warm": {"color": "#009E73", "marker": "D", "linestyle": "-"},
    "tdma": {"color": "#555555", "marker": "", "linestyle": "--"},
}

_BESIDE = {"plan": -0.08, "roll": 0.08}
"""By how much a curve is moved sideways, so that the intervals of both are seen."""


def against_stations(curves: Mapping[str, Mapping[str, Json]], labels: Mapping[str, str], path: Path) -> None:
    """Four metrics of all policies against N, with 95 % intervals over seeds.

    Args:
        curves: Of `results.json`: by policy, N and metric.
        labels: What to call the policies.
        path: The PNG.
    """
    figure, grid = plt.subplots(2, 2, figsize=(11, 8), layout="constrained", sharex=True)
    for axes, (metric, title, scale) in zip(grid.flat, PANELS, strict=True):
        for name, points in curves.items():
            if points:
                _curve(axes, name, labels[name], points, metric)
        axes.set(title=title, yscale=scale)
        axes.title.set_fontsize(10)
        axes.grid(alpha=0.3, which="both")
        if scale == "log":
            axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.yaxis.set_minor_formatter(FormatStrFormatter("%g"))
    for axes in grid[1]:
        axes.set_xlabel("number of stations N")
    sizes = sorted({int(n) for points in curves.values() for n in points})
    grid[0, 0].set_xticks(sizes)
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    save(figure, path, dpi=110)


def _curve(axes: Axes, name: str, label: str, points: Mapping[str, Json], metric: str) -> None:
    """One policy; a metric that is not defined somewhere leaves a gap, and a single seed has no bar."""
    sizes = sorted((n for n in points if points[n][metric]["mean"] is not None), key=int)
    means = [points[n][metric]["mean"] for n in sizes]
    spread = [_half(points[n][metric]) for n in sizes]
    style: dict[str, Any] = {"linewidth": 1.2, "markersize": 4.5, **STYLES[name]}
    at = [int(n) + _BESIDE.get(name, 0.0) for n in sizes]
    axes.errorbar(at, means, spread, label=label, capsize=2.5, elinewidth=1.0, **style)


def _half(metric: Json) -> float:
    upper = metric["ci95"][1]
    return 0.0 if upper is None else upper - metric["mean"]
