"""Figures of studies, drawn from `results.json` and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # the backend without a screen, before pyplot
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from rllib_wireless.drawing import save

Json = dict[str, Any]
Rows = Sequence[Json]

NAMES = {
    "throughput_ratio": "throughput ratio",
    "short_term_fairness": "short-term fairness",
    "collision_rate": "collisions / busy periods",
    "outcome_loss": "loss on fresh outcomes (nats / row)",
    "score": "score (bit/s/Hz)",
    "sum_rate": "sum rate (bit/s/Hz)",
    "tail_rate": "5th percentile of users' rates (bit/s/Hz)",
    "cost": "cost / cost at K = 0",
    "offload_frequency": "offload frequency",
    "error": "relative error of the approximate cost",
    "bound": "bound of lemma 1 / cost",
}

# Okabe and Ito's colours, which the colour-blind tell apart, and a marker each.
_STYLES = (
    {"color": "#D55E00", "marker": "o", "linestyle": "-"},
    {"color": "#CC79A7", "marker": "s", "linestyle": "-"},
    {"color": "#0072B2", "marker": "^", "linestyle": "--"},
    {"color": "#009E73", "marker": "D", "linestyle": "--"},
    {"color": "#E69F00", "marker": "v", "linestyle": ":"},
    {"color": "#555555", "marker": "x", "linestyle": ":"},
    {"color": "#56B4E9", "marker": "P", "linestyle": "-."},
    {"color": "#000000", "marker": "*", "linestyle": "-."},
)

_SHARES = ("throughput_ratio", "short_term_fairness")

_LEAST_SEEDS = 3
"""Intervals of fewer seeds are wider than the figure."""


def mixture(rows: Rows, path: Path) -> None:
    """Policies against the share of CSMA/ECA in the logs.

    Args:
        rows: The arms of the study in `results.json`.
        path: The PNG.
    """
    lines(
        rows,
        ("throughput_ratio", "short_term_fairness", "collision_rate"),
        x=lambda arm: float(arm["ECA share"].removesuffix(" %")),
        label=lambda arm: arm["policy"],
        xlabel="share of CSMA/ECA in the logs (%)",
        path=path,
    )


def federation(rows: Rows, path: Path) -> None:
    """What is shared, against the number of rows that each client has."""
    lines(
        rows,
        ("outcome_loss", "throughput_ratio", "short_term_fairness"),
        x=lambda arm: float(arm["rows a client"].replace(",", "")),
        label=lambda arm: f"{arm['policy']}; shared: {arm['shared']}",
        xlabel="rows a client",
        path=path,
        log=True,
    )


def lines(
    rows: Rows,
    metrics: Sequence[str],
    *,
    x: Callable[[Json], float],
    label: Callable[[Json], str],
    xlabel: str,
    path: Path,
    log: bool = False,
) -> None:
    """A panel a metric, a line a label.

    Args:
        rows: The arms of a study in `results.json`.
        metrics: The metrics.
        x: The number that an arm has on the horizontal axis.
        label: The line that it belongs to.
        xlabel: Name of the horizontal axis.
        path: The PNG.
        log: Whether the horizontal axis is logarithmic.
    """
    figure, panels = plt.subplots(1, len(metrics), figsize=(12, 4.2), layout="constrained")
    labels = list(dict.fromkeys(label(row["arm"]) for row in rows))
    ticks = sorted({x(row["arm"]) for row in rows})
    width = (ticks[-1] - ticks[0]) / 100 if ticks else 0.0
    for axes, metric in zip(panels, metrics, strict=True):
        for number, name in enumerate(labels):
            beside = number - (len(labels) - 1) / 2  # lines side by side, so that their intervals are seen
            points = {
                x(row["arm"]) * 1.03**beside if log else x(row["arm"]) + beside * width: row["metrics"]
                for row in rows
                if label(row["arm"]) == name
            }
            _line(axes, name, {at: found[metric] for at, found in points.items() if metric in found}, number)
        axes.set_title(NAMES[metric], fontsize=10)
        axes.set(xlabel=xlabel, xscale="log" if log else "linear")
        axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
        axes.minorticks_off()
        if metric in _SHARES:
            axes.set_ylim(0.0, 1.05)
        axes.grid(alpha=0.3)
    handles, names = panels[1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    save(figure, path, dpi=110)


def _line(axes: Axes, name: str, points: Mapping[float, Json], number: int) -> None:
    found = sorted(((at, p) for at, p in points.items() if p["mean"] is not None), key=itemgetter(0))
    spread = [0.0 if point["n"] < _LEAST_SEEDS else point["ci95"][1] - point["mean"] for _, point in found]
    style: dict[str, Any] = {**_STYLES[number % len(_STYLES)], "markersize": 5, "capsize": 2.5, "elinewidth": 1.0}
    axes.errorbar([at for at, _ in found], [point["mean"] for _, point in found], spread, label=name, **style)
