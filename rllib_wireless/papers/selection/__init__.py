"""Choosing without a simulator: do estimates from logs rank policies as a simulator would?

Policies of very different quality, clones of rules and learned ones, are measured in simulation and estimated from one log.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from rllib_wireless.papers.experiment import Cell, Claim, Json
from rllib_wireless.papers.resumable import Experiment, at_both_scales
from rllib_wireless.papers.selection.figures import draw
from rllib_wireless.papers.selection.judging import judge, policies_of
from rllib_wireless.papers.selection.ranking import claims, tables
from rllib_wireless.papers.selection.setup import DEMO, JUDGES, PAPER, WORLDS, Scale
from rllib_wireless.papers.studies import every_claim

__all__ = ["draw", "experiment", "main_claims", "reproduce", "table"]


def experiment(s: Scale) -> Experiment:
    """The experiment at some scale."""
    return Experiment("selection", s.name, s.describe(), all_cells(s), partial(_summarise, s), draw)


reproduce = at_both_scales(partial(experiment, DEMO), partial(experiment, PAPER))


def all_cells(s: Scale) -> list[Cell]:
    """A cell a source of policies."""
    return [
        Cell(
            f"{world}-{source}",
            partial(judge, s, world, source),
            cost=len(WORLDS[world].sources[source].kept) * len(WORLDS[world].sources[source].epsilons) + 1.0,
        )
        for world in s.worlds
        for source in s.sources_of(world)
    ]


def table(content: Json) -> list[dict[str, Any]]:
    """A row a network and judge."""
    return [
        {"policy": f"{world}: {row['arm']['estimate']}", **row["metrics"]}
        for world in content["settings"]["worlds"]
        for row in content["studies"].get(world, [])
    ]


main_claims = every_claim


def _summarise(s: Scale, results: Mapping[str, Json]) -> tuple[list[Claim], Json]:
    policies = {world: policies_of(results, world) for world in s.worlds}
    judges = {name: JUDGES[name].label for name in s.judges}
    return claims(s, policies), {"judges": judges, "studies": tables(s, policies), "policies": policies}
