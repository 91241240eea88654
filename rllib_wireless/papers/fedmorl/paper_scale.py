"""The paper's scale: all cells on several processes, `results.json` of what is done so far, and the figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from rllib_wireless.errors import UserError
from rllib_wireless.papers import curves_figure, studies_figure
from rllib_wireless.papers.experiment import Cell, Json, finished, read_json, write_json, write_results
from rllib_wireless.papers.fedmorl.claims import all_claims
from rllib_wireless.papers.fedmorl.headline import curves, headline_cells
from rllib_wireless.papers.fedmorl.learning import METRICS
from rllib_wireless.papers.fedmorl.setup import LABELS, Scale
from rllib_wireless.papers.fedmorl.studies import study_cells, study_tables
from rllib_wireless.papers.fedmorl.study_claims import study_claims
from rllib_wireless.papers.pool import Note, run_side_by_side


def reproduce(out: Path, note: Note, s: Scale, *, only: str | None, workers: int, plot_only: bool) -> Json:
    """Run the cells and write what is known by now; a run that was interrupted leaves results, too."""
    if plot_only and not (out / "results.json").exists():
        raise UserError(f"{out} holds no results.json to draw from; run without --plot-only first")
    if not plot_only:
        _claim_folder(out, s)
        cells = all_cells(s)
        try:
            run_side_by_side(cells, out, workers, note, only)
        finally:
            if results := finished(cells, out):
                _summarise(out, s, len(cells), results)
    content = read_json(out / "results.json")
    draw(content, out)
    return content


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


def _claim_folder(out: Path, s: Scale) -> None:
    """Keep what the cells of a folder are computed with; cells of other settings must not be mixed.

    Raises:
        UserError: Where the folder's cells are of other settings.
    """
    path, wanted = out / "settings.json", orjson.loads(orjson.dumps(s.describe()))
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
    kept = read_json(path)
    if other := [name for name in wanted if kept.get(name) != wanted[name]]:
        raise UserError(f"{out} holds cells that were computed with other {', '.join(other)}; give another folder")


def _summarise(out: Path, s: Scale, total: int, results: Mapping[str, Json]) -> None:
    found, tables = curves(s, results), study_tables(s, results)
    write_results(
        out,
        "fedmorl",
        s.name,
        [*all_claims(found), *study_claims(s, tables)],
        s.describe(),
        {
            "cells": {"done": len(results), "of": total},
            "curves": found,
            "studies": tables,
            "seconds": {name: result["seconds"] for name, result in results.items()},
        },
    )
