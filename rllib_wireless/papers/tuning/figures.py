"""The figure: each objective with the defaults and with what was found."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # the backend without a screen, before pyplot
from matplotlib import pyplot as plt

from rllib_wireless.drawing import save
from rllib_wireless.papers.experiment import Json
from rllib_wireless.papers.studies_figure import NAMES

_COLOURS = {"defaults": "#777777", "tuned": "#D55E00"}


def draw(content: Json, out: Path) -> None:
    """Write `figure.png`: every test seed's values, a pair of seeds joined, for each algorithm and objective."""
    panels = [
        (name, key.removeprefix("validation_"), rows)
        for name, rows in content["studies"].items()
        for key in rows[0]["metrics"]
        if key.startswith("validation_")
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 3.4), squeeze=False, layout="constrained")
    for axis, (name, metric, rows) in zip(axes[0], panels, strict=True):
        values = [row["metrics"][metric]["values"] for row in rows]
        for pair in zip(*values, strict=True):
            axis.plot(range(len(pair)), pair, color="#BBBBBB", linewidth=1, zorder=1)
        for x, (row, seeds) in enumerate(zip(rows, values, strict=True)):
            axis.scatter([x] * len(seeds), seeds, color=_COLOURS[row["arm"]["settings"]], zorder=2)
        axis.set_xticks(range(len(rows)), [row["arm"]["settings"] for row in rows])
        axis.set_xlim(-0.5, len(rows) - 0.5)
        axis.set_title(name)
        axis.set_ylabel(NAMES.get(metric, metric))
        axis.grid(alpha=0.3)
    save(figure, out / "figure.png", dpi=100)
