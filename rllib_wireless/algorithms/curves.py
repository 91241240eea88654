"""A training run as a picture: metrics of its evaluations and its losses, drawn from the lines of progress."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # the backend without a screen, before pyplot
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rllib_wireless.envs import env_spec
from rllib_wireless.tracking import numbers

_COLUMNS = 4
_METRIC, _LOSS = "#2c6fbb", "#c0392b"
_EVALUATION = ("evaluation", "env_runners")
_TOLD = ("learners", "federation")
_DEPTH = 2
"""Of names: what each client or device tells is too much for a picture."""


def draw_curves(rows: Sequence[Mapping[str, Any]], env: str, path: Path) -> None:
    """Draw every metric with its 95 % interval, and the numbers that learners and federation tell.

    Args:
        rows: Lines of progress.
        env: The environment's name.
        path: The PNG.
    """
    evaluated = [(row["iteration"], found) for row in rows if (found := _evaluation(row))]
    metrics = [m for m in env_spec(env).metrics if any(_finite(e.get(m.name)) for _, e in evaluated)]
    told = [(row["iteration"], numbers({key: row[key] for key in _TOLD if key in row})) for row in rows]
    losses = sorted({name for _, values in told for name in values if name.count("/") <= _DEPTH})
    height = max(-(-(len(metrics) + len(losses)) // _COLUMNS), 1)
    figure, grid = plt.subplots(height, _COLUMNS, figsize=(14, 2.6 * height), layout="constrained", squeeze=False)
    panels = iter(grid.flat)
    for metric in metrics:
        axes = next(panels)
        _with_interval(axes, evaluated, metric.name)
        axes.set_title(f"{metric.name} ({metric.unit})" if metric.unit else metric.name, fontsize=9)
    for name in losses:
        axes = next(panels)
        points = [(iteration, values[name]) for iteration, values in told if name in values]
        axes.plot(*zip(*points, strict=True), color=_LOSS, marker=".", linewidth=1.0)
        axes.set_title(name, fontsize=9)
    for axes in panels:
        axes.set_axis_off()
    for axes in grid[-1]:
        axes.set_xlabel("iteration")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _with_interval(axes: Axes, evaluated: Sequence[tuple[int, Mapping[str, Any]]], name: str) -> None:
    points = [(i, e[name], e["lower95"][name], e["upper95"][name]) for i, e in evaluated if _finite(e.get(name))]
    iterations, means, lower, upper = zip(*points, strict=True)
    axes.plot(iterations, means, color=_METRIC, marker=".", linewidth=1.2)
    if all(_finite(value) for value in (*lower, *upper)):
        axes.fill_between(iterations, lower, upper, color=_METRIC, alpha=0.2, linewidth=0)


def _evaluation(row: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = row
    for key in _EVALUATION:
        found = found.get(key) or {}
    return found  # type: ignore[no-any-return]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
