"""Estimates against true returns, drawn from `results.json` and nothing else."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # the backend without a screen, before pyplot
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from rllib_wireless.drawing import save
from rllib_wireless.papers.selection.setup import JUDGES

Json = dict[str, Any]

_CLONE, _LEARNED = "#0072B2", "#D55E00"  # Okabe and Ito's
_CLONES = "clone of"


def draw(content: Json, out: Path) -> None:
    """A row a network, a panel a judge, a point a policy."""
    worlds = [world for world in content["settings"]["worlds"] if world in content["studies"]]
    judges = content["settings"]["judges"]
    if not worlds:
        return
    size = (3.1 * len(judges), 3.3 * len(worlds) + 0.4)
    figure, panels = plt.subplots(len(worlds), len(judges), figsize=size, layout="constrained", squeeze=False)
    for row, world in zip(panels, worlds, strict=True):
        for axes, judge, table in zip(row, judges, content["studies"][world], strict=True):
            _panel(axes, content["studies"][f"{world}_policies"], JUDGES[judge].label)
            rank = table["metrics"]["rank_correlation"]["mean"]
            shown = "undefined" if rank is None else f"{rank:.2f}"
            axes.set_title(f"{JUDGES[judge].label}\nrank correlation {shown}", fontsize=9)
        row[0].set_ylabel(f"{world}\nestimate", fontsize=9)
        for axes in row:
            axes.set_xlabel("true return", fontsize=9)
    handles, names = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    save(figure, out / "figure.png", dpi=90)


def _panel(axes: Axes, rows: list[Json], label: str) -> None:
    truth = [row["metrics"]["true return"]["mean"] for row in rows]
    lowest, highest = min(truth), max(truth)
    axes.plot([lowest, highest], [lowest, highest], color="#999999", linewidth=1.0, label="estimate = truth")
    for learned, color, name in ((False, _CLONE, "clones of rules"), (True, _LEARNED, "learned")):
        chosen = [row for row in rows if row["arm"]["policy"].startswith(_CLONES) is not learned]
        points = [(row["metrics"]["true return"]["mean"], row["metrics"][label]) for row in chosen]
        points = [(x, said) for x, said in points if said["mean"] is not None]
        x, y = [x for x, _ in points], [said["mean"] for _, said in points]
        spread = [[max(m - (s["ci95"][0] or m), 0.0) for m, (_, s) in zip(y, points, strict=True)]]
        spread += [[max((s["ci95"][1] or m) - m, 0.0) for m, (_, s) in zip(y, points, strict=True)]]
        axes.errorbar(x, y, spread, fmt="o", color=color, markersize=4, elinewidth=0.8, alpha=0.85, label=name)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
