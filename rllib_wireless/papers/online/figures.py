"""The figure: what was in use, and what was tried, against what was logged."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # the backend without a screen, before pyplot
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from rllib_wireless.drawing import save
from rllib_wireless.papers.experiment import Json
from rllib_wireless.papers.studies_figure import NAMES


def draw(content: Json, out: Path) -> None:
    """Write `figure.png`: test values after each deployment, means with 95 % intervals over seeds, and every candidate's."""
    panels = [
        (world, metric)
        for world, fields in content["settings"]["worlds"].items()
        if world in content["curves"]
        for metric in fields["metrics"]
    ]
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 3.2 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, (world, metric) in zip(axes.flat, panels, strict=False):
        _panel(axis, content["curves"][world], metric)
        axis.set_title(content["settings"]["worlds"][world]["label"], fontsize=10)
        axis.set_ylabel(NAMES.get(metric, metric.replace("_", " ")))
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    save(figure, out / "figure.png", dpi=100)


def _panel(axis: Axes, curves: Json, metric: str) -> None:
    found = [point[metric] for point in curves["in_use"]]
    means = [point["mean"] for point in found]
    spread = [point["ci95"][1] - point["mean"] if point["n"] > 1 else 0.0 for point in found]
    axis.errorbar(range(len(found)), means, spread, color="#D55E00", marker="o", capsize=3, label="in use", zorder=3)
    for number, point in enumerate(curves["candidates"], start=1):
        values = [value for value in point[metric]["values"] if value is not None]
        label = "candidates, one a seed" if number == 1 else None
        axis.scatter([number] * len(values), values, color="#0072B2", s=12, alpha=0.6, label=label, zorder=2)
    axis.axhline(means[0], color="#777777", linestyle="--", linewidth=1.2, label="offline policy")
    axis.axhline(curves["rule"][metric]["mean"], color="#777777", linestyle=":", linewidth=1.2, label="rule of the log")
    axis.set_xticks(range(len(found)))
    axis.set_xlabel("deployments")
    axis.grid(alpha=0.3)
