"""SCAM-FQI (Zamboni, Brunetti & Restelli, 2025): units of a plant that learn along sharing graphs.

Both scales are one experiment: uniform policies make logs of a plant of 4 x 5 units, each unit learns from its own decisions
with what others share with it, and learned policies and rules meet the same test episodes.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rllib_wireless.papers.experiment import Claim, Json
from rllib_wireless.papers.resumable import Experiment, at_both_scales
from rllib_wireless.papers.scam_fqi import figures
from rllib_wireless.papers.scam_fqi.claims import all_claims
from rllib_wireless.papers.scam_fqi.setup import DEMO, FIGURE_1, PAPER, Scale
from rllib_wireless.papers.scam_fqi.studies import all_cells, measured_policies, studies
from rllib_wireless.papers.studies import every_claim, tables_of

_SHOWN = ("makespan", "livelock")


def experiment(s: Scale) -> Experiment:
    """The experiment at some scale."""
    return Experiment("scam_fqi", s.name, s.describe(), all_cells(s), partial(_summarise, s), draw)


reproduce = at_both_scales(partial(experiment, DEMO), partial(experiment, PAPER))


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


main_claims = every_claim


def _summarise(s: Scale, results: Mapping[str, Json]) -> tuple[list[Claim], Json]:
    policies = measured_policies(s, results)
    return all_claims(s, policies), {"studies": tables_of(studies(s), policies), "policies": policies}
