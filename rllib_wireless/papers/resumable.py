"""A paper's experiment in a folder: cells side by side, `results.json` of what is done so far, and figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import orjson

from rllib_wireless.errors import UserError
from rllib_wireless.papers.experiment import Cell, Claim, Json, Progress, finished, read_json, write_json, write_results
from rllib_wireless.papers.pool import Note, run_side_by_side


@dataclass(frozen=True)
class Experiment:
    """What a paper measures, at one scale.

    Args:
        paper: Name of the paper's module.
        scale: `paper`, `demo`, or another for trials.
        settings: What the cells are computed with, seeds included.
        cells: All cells; none may need another's files.
        summarise: The claims and the tables that results of some of the cells, by name, give.
        draw: Draws the figures from the content of `results.json`, and nothing else, into a folder.
    """

    paper: str
    scale: str
    settings: Json
    cells: Sequence[Cell]
    summarise: Callable[[Mapping[str, Json]], tuple[Sequence[Claim], Json]]
    draw: Callable[[Json, Path], None]


def reproduce(e: Experiment, out: Path, note: Note, *, only: str | None, workers: int, plot_only: bool) -> Json:
    """Run the cells and write what is known by now; a run that was interrupted leaves results, too.

    Args:
        e: The experiment.
        out: Its folder; cells that it already holds are not computed again.
        note: Told a line a cell.
        only: Run only the cells whose name begins with this.
        workers: Processes.
        plot_only: Draw the figures from `results.json` and compute nothing.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: At an unknown cell, where cells failed, where the folder's cells are of other settings, or with
            `plot_only` where there are no results yet.
    """
    if plot_only and not (out / "results.json").exists():
        raise UserError(f"{out} holds no results.json to draw from; run without --plot-only first")
    if not plot_only:
        _claim_folder(out, e.settings)
        try:
            run_side_by_side(e.cells, out, workers, note, only)
        finally:
            if results := finished(e.cells, out):
                _write(e, out, results)
    content = read_json(out / "results.json")
    e.draw(content, out)
    return content


class Reproduce(Protocol):
    """What a paper's module gives the command line as `reproduce`."""

    def __call__(
        self,
        out: Path | str,
        progress: Progress,
        note: Note = print,
        *,
        scale: Literal["demo", "paper"] = "demo",
        only: str | None = None,
        workers: int = 1,
        plot_only: bool = False,
    ) -> Json:
        """Run an experiment, or what is missing of it, and write `results.json` and the figures.

        Args:
            out: Output folder; cells that it already holds are not computed again.
            progress: Where a demo may report to.
            note: Told a line a cell.
            scale: How much to compute.
            only: Run only the cells whose name begins with this.
            workers: Processes.
            plot_only: Draw the figures from `results.json` and compute nothing.

        Returns:
            The content of `results.json`.

        Raises:
            UserError: As `reproduce` of this module.
        """


def at_both_scales(demo: Callable[[], Experiment], paper: Callable[[], Experiment]) -> Reproduce:
    """`reproduce` of a paper whose demo is the same experiment with less of everything."""

    def run(
        out: Path | str,
        progress: Progress,
        note: Note = print,
        *,
        scale: Literal["demo", "paper"] = "demo",
        only: str | None = None,
        workers: int = 1,
        plot_only: bool = False,
    ) -> Json:
        chosen = paper() if scale == "paper" else demo()
        return reproduce(chosen, Path(out), note, only=only, workers=workers, plot_only=plot_only)

    return run


def _claim_folder(out: Path, settings: Json) -> None:
    """Keep what the cells of a folder are computed with; cells of other settings must not be mixed."""
    path, wanted = out / "settings.json", orjson.loads(orjson.dumps(settings, option=orjson.OPT_SERIALIZE_NUMPY))
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
    kept = read_json(path)
    if other := [name for name in wanted if kept.get(name) != wanted[name]]:
        raise UserError(f"{out} holds cells that were computed with other {', '.join(other)}; give another folder")


def _write(e: Experiment, out: Path, results: Mapping[str, Json]) -> None:
    claims, tables = e.summarise(results)
    found = {
        "cells": {"done": len(results), "of": len(e.cells)},
        **tables,
        "seconds": {name: result["seconds"] for name, result in results.items()},
    }
    write_results(out, e.paper, e.scale, claims, e.settings, found)
