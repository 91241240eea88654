"""Figures of a sweep, drawn from its `results.json` and nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # the backend without a screen, before pyplot
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rllib_wireless.drawing import save

Json = Mapping[str, Any]

_DONE, _STOPPED, _DEFAULTS, _BEST = "#2c6fbb", "#b0b7bf", "#e69f00", "#c0392b"


def draw_all(content: Json, out: Path) -> list[str]:
    """Draw all figures that a sweep has enough for into a folder; returns their names."""
    draw_history(content, out / "history.png")
    figures = ["history"]
    if any(content["importance"].values()):
        draw_importance(content, out / "importance.png")
        figures.append("importance")
    if len(content["objectives"]) == 2:
        draw_pareto(content, out / "pareto.png")
        figures.append("pareto")
    return figures


def draw_history(content: Json, path: Path) -> None:
    """Every trial's objectives in the order in which they were tried, with the best so far."""
    objectives = content["objectives"]
    figure, grid = plt.subplots(
        1, len(objectives), figsize=(6.5 * len(objectives), 4), layout="constrained", squeeze=False
    )
    for axes, objective in zip(grid[0], objectives, strict=True):
        _history(axes, content, objective)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    save(figure, path, dpi=110)


def draw_importance(content: Json, path: Path) -> None:
    """Which settings explain the differences between trials, by functional analysis of variance."""
    found = {name: shares for name, shares in content["importance"].items() if shares}
    height = 0.9 + 0.32 * max(len(shares) for shares in found.values())
    figure, grid = plt.subplots(1, len(found), figsize=(6.5 * len(found), height), layout="constrained", squeeze=False)
    for axes, (name, shares) in zip(grid[0], found.items(), strict=True):
        ordered = sorted(shares.items(), key=lambda item: item[1])
        bars = axes.barh([setting for setting, _ in ordered], [share for _, share in ordered], color=_DONE, height=0.7)
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        axes.set(xlim=(0, max(share for _, share in ordered) * 1.15), xlabel="share of the variance that it explains")
        axes.set_title(f"what matters for {name}", fontsize=10)
        axes.tick_params(labelsize=9)
    save(figure, path, dpi=110)


def draw_pareto(content: Json, path: Path) -> None:
    """Two objectives against each other, with the trials that no other one beats in both."""
    x, y = content["objectives"]
    by_number = {trial["number"]: trial for trial in content["trials"] if trial["state"] == "done"}
    figure, axes = plt.subplots(figsize=(6.5, 5), layout="constrained")
    others = [t for n, t in by_number.items() if n not in content["front"]]
    _points(axes, others, x, y, color=_STOPPED, marker="o", label="done")
    front = sorted((by_number[n]["values"] for n in content["front"]), key=lambda values: values[x["name"]])
    axes.plot(
        [v[x["name"]] for v in front],
        [v[y["name"]] for v in front],
        color=_DONE,
        marker="o",
        label="Pareto front",
        zorder=3,
    )
    _points(
        axes,
        [t for t in by_number.values() if t["defaults"]],
        x,
        y,
        color=_DEFAULTS,
        marker="D",
        label="defaults",
        zorder=4,
    )
    _points(axes, [by_number[content["best"]]], x, y, color=_BEST, marker="*", s=170, label="best", zorder=5)
    for number in content["front"]:
        values = by_number[number]["values"]
        spot = (values[x["name"]], values[y["name"]])
        axes.annotate(str(number), spot, xytext=(5, 5), textcoords="offset points", fontsize=8)
    axes.set(xlabel=_label(x), ylabel=_label(y))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    save(figure, path, dpi=110)


def _history(axes: Axes, content: Json, objective: Json) -> None:
    name = objective["name"]
    trials = [trial for trial in content["trials"] if trial["values"]]
    for state, color, marker in (("done", _DONE, "o"), ("stopped", _STOPPED, "x")):
        shown = [t for t in trials if t["state"] == state and not t["defaults"]]
        if shown:
            axes.scatter(
                [t["number"] for t in shown],
                [t["values"][name] for t in shown],
                color=color,
                marker=marker,
                label=state,
            )
    if defaults := [t for t in trials if t["defaults"]]:
        axes.scatter(
            [t["number"] for t in defaults],
            [t["values"][name] for t in defaults],
            color=_DEFAULTS,
            marker="D",
            zorder=3,
            label="defaults",
        )
    better = max if objective["better"] == "higher" else min
    done = [t for t in trials if t["state"] == "done"]
    record = [better(t["values"][name] for t in done[: k + 1]) for k in range(len(done))]
    axes.step([t["number"] for t in done], record, where="post", color=_BEST, linewidth=1.2, label="best so far")
    axes.set(xlabel="trial", ylabel=_label(objective))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _points(axes: Axes, trials: Any, x: Json, y: Json, **style: Any) -> None:
    if trials:
        axes.scatter([t["values"][x["name"]] for t in trials], [t["values"][y["name"]] for t in trials], **style)


def _label(objective: Json) -> str:
    unit = f" ({objective['unit']})" if objective["unit"] else ""
    return f"{objective['name']}{unit}, {objective['better']} is better"
