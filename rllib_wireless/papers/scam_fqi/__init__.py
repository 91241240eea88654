"""SCAM-FQI (Zamboni, Brunetti & Restelli, 2025): units of a plant that learn along sharing graphs.

Both scales are one experiment: uniform policies make logs of a plant of 4 x 5 units, each unit learns from its own decisions
with what others share with it, and learned policies and rules meet the same test episodes.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rllib_wireless.papers import resumable
from rllib_wireless.papers.experiment import Claim, Json, Progress
from rllib_wireless.papers.pool import Note
from rllib_wireless.papers.resumable import Experiment
from rllib_wireless.papers.scam_fqi import figures
from rllib_wireless.papers.scam_fqi.claims import all_claims
from rllib_wireless.papers.scam_fqi.setup import DEMO, FIGURE_1, PAPER, Scale
from rllib_wireless.papers.scam_fqi.studies import all_cells, measured_policies, study_tables

_SHOWN = ("makespan", "livelock")


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
        UserError: As `resumable.reproduce`.
    """
    chosen = experiment(PAPER if scale == "paper" else DEMO)
    return resumable.reproduce(chosen, Path(out), note, only=only, workers=workers, plot_only=plot_only)


def experiment(s: Scale) -> Experiment:
    """The experiment at some scale."""
    return Experiment("scam_fqi", s.name, s.describe(), all_cells(s), partial(_summarise, s), draw)


def draw(content: Json, out: Path) -> None:
    """All figures, from `results.json` alone."""
    figures.figure_1(content, out / "figure.png")


def table(content: Json) -> list[dict[str, Any]]:
    """Both parts of figure 1 after the last iteration, a row a policy: its label, and each metric's mean and interval."""
    return [
        {
            "policy": f"{row['arm']['policy']} {FIGURE_1[world][:3]}",
            **{metric: row["metrics"][metric] for metric in _SHOWN},
        }
        for world in FIGURE_1
        for row in content["studies"][world]
    ]


def main_claims(content: Json) -> list[Json]:
    """The claims to show: all."""
    return list(content["claims"])


def _summarise(s: Scale, results: Mapping[str, Json]) -> tuple[list[Claim], Json]:
    policies = measured_policies(s, results)
    return all_claims(s, policies), {"studies": study_tables(s, policies), "policies": policies}
