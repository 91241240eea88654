"""CTDE-CQL (Eldeeb and Alves, 2025): access points learn offline to schedule their users, in three paradigms.

Both scales are one experiment: online learners make behaviour data, offline learners are trained on it and chosen on validation
drops, and all policies and rules meet the same test drops. The paper's text was not available, only a summary of it.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rllib_wireless.papers import studies_figure
from rllib_wireless.papers.ctde_cql import figures
from rllib_wireless.papers.ctde_cql.claims import all_claims
from rllib_wireless.papers.ctde_cql.setup import DEMO, EQUAL, PAPER, Scale
from rllib_wireless.papers.ctde_cql.studies import HEADLINE, all_cells, measured_policies, studies
from rllib_wireless.papers.experiment import Claim, Json
from rllib_wireless.papers.resumable import Experiment, at_both_scales
from rllib_wireless.papers.studies import every_claim, tables_of

_SHOWN = ("score", "score_per_episode", "sum_rate", "tail_rate", "silent_share")


def experiment(s: Scale) -> Experiment:
    """The experiment at some scale."""
    return Experiment("ctde_cql", s.name, s.describe(), all_cells(s), partial(_summarise, s), draw)


reproduce = at_both_scales(partial(experiment, DEMO), partial(experiment, PAPER))


def draw(content: Json, out: Path) -> None:
    """All figures, from `results.json` alone; those of studies with two policies or more."""
    figures.headline(content, out / "figure.png")
    if any(figures.informed_rows(content, study) for study in EQUAL.values()):
        figures.equal(content, out / "equal.png")
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


main_claims = every_claim


def _number(column: str, unit: float, arm: Mapping[str, str]) -> float:
    return float(arm[column].replace(",", "")) / unit


def _summarise(s: Scale, results: Mapping[str, Json]) -> tuple[list[Claim], Json]:
    policies = measured_policies(s, results)
    return all_claims(s, policies), {"studies": tables_of(studies(s), policies), "policies": policies}
