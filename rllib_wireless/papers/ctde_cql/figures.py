"""The headline's figure, drawn from `results.json` and nothing else."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # the backend without a screen, before pyplot
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from rllib_wireless.drawing import save
from rllib_wireless.papers.ctde_cql.setup import BASELINES, EQUAL, LEARNERS, RULES

Json = dict[str, Any]

# Okabe and Ito's colours, which the colour-blind tell apart.
_LEARNED, _ONLINE, _BASELINE, _PRIVILEGED = "#D55E00", "#E69F00", "#0072B2", "#777777"

_CURVES: Mapping[str, tuple[str, str]] = {
    "tdm": ("#0072B2", ":"),
    "full_reuse": ("#0072B2", "--"),
    "itlinq": ("#0072B2", "-"),
    "independent": ("#CC79A7", "--"),
    "ctde": ("#D55E00", "-"),
    "centralized": ("#E69F00", "-"),
    "delayed_genie": ("#777777", "-."),
}


def headline(content: Json, path: Path) -> None:
    """Scores with 95 % intervals over training seeds, and the lower end of the distribution of the users' rates.

    Args:
        content: Of `results.json`.
        path: The PNG.
    """
    figure, (scores, rates) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    _bars(scores, content["studies"]["headline"], lambda arm: arm["policy"])
    for row in content["studies"]["headline"]:
        kind = row["name"].split("-")[0]
        if kind in _CURVES:
            color, style = _CURVES[kind]
            values = content["policies"][row["name"]]["rates"]
            shares = np.linspace(0.0, 1.0, len(values))
            rates.plot(values, shares, color=color, linestyle=style, label=row["arm"]["policy"], linewidth=1.4)
    rates.axhline(0.05, color="black", linewidth=0.6)
    # The lower end only: the rest of the curves lies close together, and the 5th percentile is what they differ in.
    rates.set(xlabel="rate of a user over an episode (bit/s/Hz)", ylabel="share of users below")
    rates.set(xlim=(0.0, 0.6), ylim=(0.0, 0.4))
    rates.grid(alpha=0.3)
    handles, names = rates.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    save(figure, path, dpi=110)


def equal(content: Json, path: Path) -> None:
    """Scores of those who know what ITLinQ reads, with 95 % intervals; lines are at ITLinQ and 15 % above it.

    Args:
        content: Of `results.json`.
        path: The PNG.
    """
    areas = {area: content["studies"][study] for area, study in EQUAL.items() if informed_rows(content, study)}
    heights = [len(rows) for rows in areas.values()]
    figure, panels = plt.subplots(
        len(areas),
        1,
        figsize=(9, 0.8 + 0.42 * sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for axes, (area, rows) in zip(panels[:, 0], areas.items(), strict=True):
        _bars(axes, rows, lambda arm: f"{arm['policy']}; {arm['sees']}")
        axes.set_title(f"square of {area}", fontsize=10)
        for row in rows:
            if row["name"].startswith("itlinq-"):
                for factor, style in ((1.0, "-"), (1.15, "--")):
                    at = factor * row["metrics"]["score"]["mean"]
                    axes.axvline(at, color="black", linewidth=0.7, linestyle=style)
    save(figure, path, dpi=110)


def informed_rows(content: Json, study: str) -> list[Json]:
    """The learners of a study of equal information; the other rows are rules."""
    return [row for row in content["studies"].get(study, []) if row["arm"]["data of"]]


def _bars(axes: Axes, rows: list[Json], label: Callable[[dict[str, str]], str]) -> None:
    for place, row in enumerate(reversed(rows)):
        metric, kind = row["metrics"]["score"], row["name"].split("-")[0]
        axes.barh(place, metric["mean"], color=_color(kind), height=0.7)
        if metric["n"] > 1:
            half = metric["ci95"][1] - metric["mean"]
            axes.errorbar(metric["mean"], place, xerr=half, color="black", linewidth=1, capsize=2)
    axes.set_yticks(range(len(rows)), [label(row["arm"]) for row in reversed(rows)], fontsize=8)
    axes.set_xlabel("score: mean rate + 3 x 5th percentile (bit/s/Hz)")
    axes.grid(axis="x", alpha=0.3)


def _color(kind: str) -> str:
    if kind in LEARNERS:
        return _LEARNED
    if kind in RULES:
        return _BASELINE if kind in BASELINES else _PRIVILEGED
    return _ONLINE
