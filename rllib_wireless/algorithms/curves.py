"""A training run as a picture: metrics of its evaluations and its losses, drawn from the lines of progress."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # the backend without a screen, before pyplot
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rllib_wireless.drawing import save
from rllib_wireless.envs import env_names, env_spec
from rllib_wireless.tracking import numbers

Row = Mapping[str, Any]

_COLUMNS = 4
_METRIC, _LOSS = "#2c6fbb", "#c0392b"
_EVALUATION = ("evaluation", "env_runners")
_TOLD = ("learners", "federation")
_DEPTH = 2
"""Of names: what each client or device tells is too much for a picture."""


@dataclass(frozen=True)
class Panel:
    """A number against iterations.

    Args:
        title: Its name, with its unit.
        metric: Whether evaluations measured it; else learners or the federation tell it.
        draw: Draws it.
    """

    title: str
    metric: bool
    draw: Callable[[Axes], None]


def draw_curves(rows: Sequence[Row], env: str, path: Path) -> None:
    """Draw every metric with its 95 % interval, and the numbers that learners and federation tell.

    Args:
        rows: Lines of progress.
        env: The environment's name.
        path: The PNG.
    """
    found = panels(rows, env)
    height = max(-(-len(found) // _COLUMNS), 1)
    figure, grid = plt.subplots(height, _COLUMNS, figsize=(14, 2.6 * height), layout="constrained", squeeze=False)
    places = iter(grid.flat)
    for panel in found:
        axes = next(places)
        panel.draw(axes)
        axes.set_title(panel.title, fontsize=9)
    for axes in places:
        axes.set_axis_off()
    for axes in grid[-1]:
        _count_iterations(axes)
    save(figure, path, dpi=90)


def draw_panel(panel: Panel, path: Path) -> None:
    """Draw one number alone, without its title."""
    figure, axes = plt.subplots(figsize=(3.6, 2.5), layout="constrained")
    panel.draw(axes)
    _count_iterations(axes)
    axes.grid(alpha=0.3)
    save(figure, path, dpi=90)


def panels(rows: Sequence[Row], env: str) -> list[Panel]:
    """All there is to draw: metrics first.

    Args:
        rows: Lines of progress.
        env: The environment's name.
    """
    evaluated = [(row["iteration"], found) for row in rows if (found := evaluation_in(row))]
    told = [(row["iteration"], numbers({key: row[key] for key in _TOLD if key in row})) for row in rows]
    names = sorted({name for _, values in told for name in values if name.count("/") <= _DEPTH})
    return [
        *(
            Panel(f"{m.name} ({m.unit})" if m.unit else m.name, True, partial(_with_interval, evaluated, m.name))
            for m in (env_spec(env).metrics if env in env_names() else ())
            if any(_finite(e.get(m.name)) for _, e in evaluated)
        ),
        *(Panel(name, False, partial(_line, told, name)) for name in names),
    ]


def evaluation_in(row: Row) -> Row:
    """What a line of progress holds of an evaluation; empty if there was none."""
    found: Any = row
    for key in _EVALUATION:
        found = found.get(key) or {}
    return found  # type: ignore[no-any-return]


def _count_iterations(axes: Axes) -> None:
    axes.set_xlabel("iteration")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _line(told: Sequence[tuple[int, Mapping[str, float]]], name: str, axes: Axes) -> None:
    points = [(iteration, values[name]) for iteration, values in told if name in values]
    axes.plot(*zip(*points, strict=True), color=_LOSS, marker=".", linewidth=1.0)


def _with_interval(evaluated: Sequence[tuple[int, Row]], name: str, axes: Axes) -> None:
    points = [(i, e[name], e["lower95"][name], e["upper95"][name]) for i, e in evaluated if _finite(e.get(name))]
    iterations, means, lower, upper = zip(*points, strict=True)
    axes.plot(iterations, means, color=_METRIC, marker=".", linewidth=1.2)
    if all(_finite(value) for value in (*lower, *upper)):
        axes.fill_between(iterations, lower, upper, color=_METRIC, alpha=0.2, linewidth=0)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
