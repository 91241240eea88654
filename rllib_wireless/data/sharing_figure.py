"""A picture of a chosen sharing graph and of the scores behind it."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")  # the backend without a screen, before pyplot
from matplotlib import pyplot as plt

from rllib_wireless.data.sharing_graph import Selection
from rllib_wireless.drawing import save


def draw_selection(selection: Selection, path: Path) -> None:
    """Predictive gap and information of all pairs; those chosen carry their number in the order of choice.

    Args:
        selection: The graph and its scores.
        path: The PNG.
    """
    agents = selection.agents
    n = len(agents)
    size = max(4.5, 0.32 * n)
    figure, panels = plt.subplots(1, 2, figsize=(2 * size, size + 0.6), layout="constrained", sharey=True)
    measures = (("gap", "predictive gap (share of variance)"), ("cmi", "conditional mutual information (nats)"))
    for axes, (measure, title) in zip(panels, measures, strict=True):
        values = np.full((n, n), np.nan)
        for i, agent in enumerate(agents):
            for score in selection.scores[agent]:
                values[i, agents.index(score.neighbour)] = max(getattr(score, measure), 0.0)
        image = axes.imshow(values, cmap="Blues", vmin=0.0, vmax=max(float(np.nanmax(values, initial=0.0)), 1e-3))
        figure.colorbar(image, ax=axes, shrink=0.8)
        for i, agent in enumerate(agents):
            for score in selection.scores[agent]:
                if score.chosen is not None:
                    j = agents.index(score.neighbour)
                    axes.text(
                        j, i, str(score.chosen), ha="center", va="center", color="#D55E00", weight="bold", fontsize=9
                    )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("whose state is shown")
        axes.set_xticks(range(n), agents, rotation=90, fontsize=7)
        axes.set_yticks(range(n), agents, fontsize=7)
    panels[0].set_ylabel("who would see it")
    save(figure, path, dpi=110)
