"""CTDE-CQL (Eldeeb and Alves, 2025): access points learn offline to schedule their users, in three paradigms.

Both scales are one experiment: online learners make behaviour data, offline learners are trained on it and chosen on validation
drops, and all policies and rules meet the same test drops. The paper's text was not available, only a summary of it.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rllib_wireless.papers import resumable, studies_figure
from rllib_wireless.papers.ctde_cql import figures
from rllib_wireless.papers.ctde_cql.claims import all_claims
from rllib_wireless.papers.ctde_cql.setup import DEMO, PAPER, Scale
from rllib_wireless.papers.ctde_cql.studies import HEADLINE, all_cells, measured_policies, study_tables
from rllib_wireless.papers.experiment import Claim, Json, Progress
from rllib_wireless.papers.pool import Note
from rllib_wireless.papers.resumable import Experiment

_SHOWN = ("score", "score_per_episode", "sum_rate", "tail_rate", "silent_share")


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
    return Experiment("ctde_cql", s.name, s.describe(), all_cells(s), partial(_summarise, s), draw)


def draw(content: Json, out: Path) -> None:
    """All figures, from `results.json` alone; those of studies with two policies or more."""
    figures.headline(content, out / "figure.png")
    metrics, studies = ("score", "sum_rate", "tail_rate"), content["studies"]
    for name, column, unit, xlabel, log in (
        ("sizes", "joint rows", 1_000.0, "thousand joint rows in the log", True),
        ("lambda", "lambda", 1.0, "lambda", False),
    ):
        if len(studies[name]) > 1:
            studies_figure.lines(
                studies[name],
                metrics,
                x=partial(_number, column, unit),
                label=lambda arm: str(arm["policy"]),
                xlabel=xlabel,
                path=out / f"{name}.png",
                log=log,
            )


def table(content: Json) -> list[dict[str, Any]]:
    """The headline, a row a policy: its label, and each metric's mean and interval."""
    return [
        {"policy": row["arm"]["policy"], **{metric: row["metrics"][metric] for metric in _SHOWN}}
        for row in content["studies"][HEADLINE]
    ]


def main_claims(content: Json) -> list[Json]:
    """The claims to show: all."""
    return list(content["claims"])


def _number(column: str, unit: float, arm: Mapping[str, str]) -> float:
    return float(arm[column].replace(",", "")) / unit


def _summarise(s: Scale, results: Mapping[str, Json]) -> tuple[list[Claim], Json]:
    policies = measured_policies(s, results)
    return all_claims(s, policies), {"studies": study_tables(s, policies), "policies": policies}
