"""Figure 1 and the study of leaves, drawn from `results.json` and nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # the backend without a screen, before pyplot
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter

from rllib_wireless.drawing import save
from rllib_wireless.papers.scam_fqi.setup import CQL, FIGURE_1, RULES

Json = dict[str, Any]

# Okabe and Ito's colours, which the colour-blind tell apart: one for whom is heard. Line styles tell what is heard.
_COLORS = {
    "own": "#000000",
    "1": "#D55E00",
    "2": "#E69F00",
    "3": "#009E73",
    "all": "#0072B2",
    "selected": "#CC79A7",
}
_RULES = {"uniform": ":", "shortest_path": "--", "congestion_aware": "-."}


def figure_1(content: Json, path: Path) -> None:
    """Time until all products are finished against iterations, a line for what is shared, 95 % intervals over seeds.

    Args:
        content: Of `results.json`.
        path: The PNG.
    """
    figure, panels = plt.subplots(1, len(FIGURE_1), figsize=(13, 5.6), layout="constrained")
    for axes, (world, title) in zip(panels, FIGURE_1.items(), strict=True):
        rows = content["studies"][world]
        # Iterations of CQL are gradient steps, and its first ones would set the scale.
        learned = [row for row in rows if content["policies"][row["name"]]["curve"] and _kind(row["name"])[0] != CQL]
        for number, row in enumerate(learned):
            beside = 0.025 * (number - (len(learned) - 1) / 2)  # so that intervals are seen side by side
            _curve(axes, row, content["policies"][row["name"]]["curve"], 1.0 + beside)
        for row in rows:
            rule = row["name"].split("-")[0]
            if rule in _RULES:
                mean = row["metrics"]["makespan"]["mean"]
                axes.axhline(mean, color="#777777", linestyle=_RULES[rule], linewidth=1.2, label=RULES[rule])
        axes.set(title=title, xscale="log", yscale="log")
        axes.set(xlabel="iterations", ylabel="time until all products are finished (ticks)")
        ticks = sorted({int(k) for row in learned for k in content["policies"][row["name"]]["curve"]})
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.xaxis.minorticks_off()
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(FormatStrFormatter("%g"))
        axes.grid(alpha=0.3, which="both")
    shown = [axes.get_legend_handles_labels() for axes in panels]  # a part may have arms that the other one lacks
    lines = {name: line for found in shown for line, name in zip(*found, strict=True)}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    save(figure, path, dpi=110)


def _curve(axes: Axes, row: Json, curve: Mapping[str, Json], factor: float) -> None:
    who, what = _kind(row["name"])
    points = {int(k): found["makespan"] for k, found in curve.items()}
    spread = [point["ci95"][1] - point["mean"] if point["n"] > 1 else 0.0 for point in points.values()]
    axes.errorbar(
        [k * factor for k in points],
        [point["mean"] for point in points.values()],
        spread,
        label=row["arm"]["policy"],
        color=_COLORS[who],
        linestyle="-" if what == "f" else "--",
        marker="s" if what == "f" else "o",
        markersize=4.5,
        capsize=2.5,
        elinewidth=1.0,
        linewidth=1.4,
    )


def _kind(name: str) -> tuple[str, str]:
    """Whom and what an arm hears, by its name."""
    sharing = name.split("-")[1]
    if sharing in ("own", "selected", CQL):
        return sharing, "c"
    return sharing[:-1].rstrip("_"), sharing[-1]
