"""Figures, drawn from `results.json` and nothing else."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rllib_wireless.papers.dcc.setup import LABELS
from rllib_wireless.papers.experiment import Json
from rllib_wireless.papers.studies_figure import lines

_COSTS = ("cost", "offload_frequency")
_SHOWN = ("dcc", "dcc_overlap", "iql", "threshold", "mappo")
"""A common cost is left out, which would take most of the axis."""


def draw(content: Json, out: Path) -> None:
    """All figures; those of studies that were not run yet are empty."""
    studies = content["studies"]
    shown = {LABELS[name] for name in _SHOWN}
    policies = [row for row in studies["scalability"] if row["arm"]["policy"] in shown]
    _draw(policies, "devices", "policy", "number of devices", out / "figure.png", log=True)
    few = min((row["arm"]["devices"] for row in studies["budget"]), default=0)
    budget = [row for row in studies["budget"] if row["arm"]["devices"] == few and row["arm"]["policy"] in shown]
    _draw(budget, "slots", "policy", f"slots in which each of {few} devices has learned", out / "budget.png", log=True)
    _draw(
        studies["exponents"],
        "alpha",
        lambda arm: f"{arm['devices']} devices: {arm['policy']}",
        "exponent of the penalty",
        out / "exponents.png",
        log=True,
    )
    _draw(
        studies["initial"],
        "updates",
        lambda arm: f"{arm['devices']} devices, from {arm['first constraint']}",
        "updates of the constraints",
        out / "initial.png",
    )
    lines(
        studies["approximation"],
        ("error", "bound"),
        x=lambda arm: float(arm["alpha"]),
        label=lambda arm: arm["start law"],
        xlabel="exponent of the penalty",
        path=out / "approximation.png",
        log=True,
    )


def _draw(
    rows: Iterable[Json], x: str, label: str | Callable[[Json], str], xlabel: str, path: Path, *, log: bool = False
) -> None:
    """Cost and frequency of the arms of a study."""
    of: Callable[[Json], Any] = label if callable(label) else lambda arm: arm[label]
    lines(list(rows), _COSTS, x=lambda arm: float(arm[x]), label=of, xlabel=xlabel, path=path, log=log)
