"""DCC (Fox, De Pellegrini & Altman, NeurIPS 2025 workshop AI4NextG): constraints that coordinate devices at an edge server.

Policies that are tables are not sampled: what they cost together is computed from the laws of the devices' states. Intervals are
over environments, each with devices of its own and one learner.
"""

from pathlib import Path
from typing import Any, Literal

from rllib_wireless.papers import resumable
from rllib_wireless.papers.dcc import experiment
from rllib_wireless.papers.dcc.setup import DEMO, PAPER
from rllib_wireless.papers.experiment import Json, Progress
from rllib_wireless.papers.pool import Note


def reproduce(
    out: Path | str,
    progress: Progress,
    note: Note = print,
    *,
    scale: Literal["demo", "paper"] = "demo",
    only: str | None = None,
    workers: int = 1,
    plot_only: bool = False,
) -> Json:
    """Run the experiment, or what is missing of it, and write `results.json` and the figures.

    Args:
        out: Output folder; cells that it already holds are not computed again.
        progress: Not told anything.
        note: Told a line a cell.
        scale: How much to compute.
        only: Run only the cells whose name begins with this.
        workers: Processes.
        plot_only: Draw the figures from `results.json` and compute nothing.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: At an unknown cell, or with `plot_only` where there are no results yet.
    """
    made = experiment.experiment(DEMO if scale == "demo" else PAPER)
    return resumable.reproduce(made, Path(out), note, only=only, workers=workers, plot_only=plot_only)


def table(content: Json) -> list[dict[str, Any]]:
    """The scalability study, a row a policy and number of devices."""
    return experiment.table(content)


def main_claims(content: Json) -> list[Json]:
    """All claims."""
    return list(content["claims"])
