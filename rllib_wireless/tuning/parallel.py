"""A sweep's trials as lines across its settings and objectives, drawn from its `results.json` and nothing else."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # the backend without a screen, before pyplot
from matplotlib import pyplot as plt

from rllib_wireless.algorithms.run import plain
from rllib_wireless.drawing import save
from rllib_wireless.tuning.spaces import Choice, Range, parse_domain

Json = Mapping[str, Any]

_BEST, _DEFAULTS = "#c0392b", "#e69f00"
_BEHIND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}


@dataclass(frozen=True)
class _Axis:
    """A vertical axis.

    Args:
        name: Of the setting or objective.
        ticks: What is written beside the axis, by height.
        height: Where a trial lies, from 0 to 1; not a number where it has no place.
    """

    name: str
    ticks: Mapping[float, str]
    height: Callable[[Json], float]


def draw_parallel(content: Json, path: Path) -> None:
    """Draw every trial that was done: what it was tried with, and at the right what it reached.

    Args:
        content: Of `results.json`.
        path: The PNG.
    """
    done = [trial for trial in content["trials"] if trial["state"] == "done"]
    axes_of = [_setting(name, text) for name, text in content["space"].items()]
    axes_of += [_objective(objective["name"], done) for objective in content["objectives"]]
    first = axes_of[len(content["space"])]
    upwards = content["objectives"][0]["better"] == "higher"
    figure, axes = plt.subplots(figsize=(1.0 + 0.95 * len(axes_of), 4.4), layout="constrained")
    colors = plt.get_cmap("viridis")
    for trial in done:
        height = first.height(trial)
        style: dict[str, Any] = {"color": colors(height if upwards else 1.0 - height), "linewidth": 0.9, "alpha": 0.8}
        if trial["defaults"]:
            style = {"color": _DEFAULTS, "linewidth": 2.0, "zorder": 3, "label": "defaults"}
        if trial["number"] == content["best"]:
            style = {"color": _BEST, "linewidth": 2.4, "linestyle": "--", "zorder": 4, "label": "best"}
        axes.plot(range(len(axes_of)), [axis.height(trial) for axis in axes_of], marker=".", markersize=4, **style)
    for at, axis in enumerate(axes_of):
        axes.axvline(at, color="#888888", linewidth=0.8, zorder=0)
        for height, label in axis.ticks.items():
            axes.text(at + 0.06, height, label, fontsize=7, va="center", zorder=5, bbox=_BEHIND)
    axes.set(xlim=(-0.2, len(axes_of) - 0.3), ylim=(-0.06, 1.06), yticks=[])
    axes.set_xticks(range(len(axes_of)), [axis.name for axis in axes_of], rotation=25, ha="right", fontsize=8)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside upper right", ncols=2, fontsize=9, frameon=False)
    save(figure, path, dpi=110)


def _setting(name: str, text: str) -> _Axis:
    domain = parse_domain(name, text)
    place = _among(domain) if isinstance(domain, Choice) else partial(_within, domain)

    def height(trial: Json) -> float:
        """A setting that does not count in a trial has no place."""
        return place(trial["settings"][name]) if name in trial["settings"] else math.nan

    if isinstance(domain, Choice):
        ticks = {place(value): "none" if value is None else str(plain(value)) for value in domain.values}
        return _Axis(name, ticks, height)
    return _Axis(name, {0.0: f"{domain.low:g}", 1.0: f"{domain.high:g}"}, height)


def _among(domain: Choice) -> Callable[[Any], float]:
    """Where a value lies among some; not a number where it is none of them, as a default may be."""
    last = max(len(domain.values) - 1, 1)
    places = {domain.encode(value): number / last for number, value in enumerate(domain.values)}
    return lambda value: places.get(domain.encode(value), math.nan)


def _within(domain: Range, value: Any) -> float:
    """Where a value lies in a range; not a number where it is outside, as a default may be, or none."""
    if domain.encode(value) is None:
        return math.nan
    scale: Callable[[float], float] = math.log if domain.log else float
    return (scale(value) - scale(domain.low)) / (scale(domain.high) - scale(domain.low))


def _objective(name: str, done: Sequence[Json]) -> _Axis:
    values = [trial["values"][name] for trial in done]
    low, size = min(values), max(values) - min(values) or 1.0
    ticks = {0.0: f"{low:.4g}", 1.0: f"{low + size:.4g}"}
    return _Axis(name, ticks, lambda trial: (trial["values"][name] - low) / size)
