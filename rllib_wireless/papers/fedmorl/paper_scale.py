"""The paper's scale: figure 1 and the studies, from all their cells."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rllib_wireless.papers import curves_figure, studies_figure
from rllib_wireless.papers.experiment import Cell, Claim, Json
from rllib_wireless.papers.fedmorl.claims import all_claims
from rllib_wireless.papers.fedmorl.headline import curves, headline_cells
from rllib_wireless.papers.fedmorl.learning import METRICS
from rllib_wireless.papers.fedmorl.setup import LABELS, Scale
from rllib_wireless.papers.fedmorl.studies import study_cells, study_tables
from rllib_wireless.papers.fedmorl.study_claims import study_claims
from rllib_wireless.papers.resumable import Experiment


def experiment(s: Scale) -> Experiment:
    """The experiment at some scale."""
    return Experiment("fedmorl", s.name, s.describe(), all_cells(s), partial(_summarise, s), draw)


def all_cells(s: Scale) -> list[Cell]:
    """The headline's cells, then those of the studies."""
    return [*headline_cells(s), *study_cells(s)]


def draw(content: Json, out: Path) -> None:
    """All figures, from `results.json` alone; those of studies that were not run yet are empty."""
    curves_figure.against_stations(content["curves"], LABELS, out / "figure.png")
    studies_figure.mixture(content["studies"].get("mixture", []), out / "mixture.png")
    studies_figure.federation(content["studies"].get("federation", []), out / "federation.png")


def table(content: Json) -> list[dict[str, Any]]:
    """All policies at a few network sizes: the smallest, one in the middle and the largest."""
    sizes = sorted({int(n) for points in content["curves"].values() for n in points})
    shown = sorted({sizes[0], sizes[len(sizes) // 2], sizes[-1]}) if sizes else []
    return [
        {"policy": f"N = {n}: {LABELS[name]}", **{metric: points[str(n)][metric] for metric in METRICS}}
        for n in shown
        for name, points in content["curves"].items()
        if str(n) in points
    ]


def _summarise(s: Scale, results: Mapping[str, Json]) -> tuple[list[Claim], Json]:
    found, tables = curves(s, results), study_tables(s, results)
    return [*all_claims(found), *study_claims(s, tables)], {"curves": found, "studies": tables}
