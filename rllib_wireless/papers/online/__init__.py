"""From offline to online: policies that go on learning in the network, beside the offline ones that they began with."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rllib_wireless.papers.experiment import Cell, Claim, Json
from rllib_wireless.papers.intervals import by_seed, paired
from rllib_wireless.papers.online.figures import draw
from rllib_wireless.papers.online.learning import fine_tune
from rllib_wireless.papers.online.setup import DEMO, PAPER, WORLDS, Scale
from rllib_wireless.papers.resumable import Experiment, at_both_scales
from rllib_wireless.papers.studies import claim_of, every_claim

__all__ = ["draw", "experiment", "main_claims", "reproduce", "table"]

_CURVES = ("in_use", "candidates")


def experiment(s: Scale) -> Experiment:
    """The experiment at some scale: a cell a world and seed."""
    cells = [
        Cell(f"{world}_{seed}", partial(fine_tune, s, world, seed)) for seed in range(s.num_seeds) for world in s.worlds
    ]
    return Experiment("online", s.name, s.describe(), cells, partial(_summarise, s), draw)


reproduce = at_both_scales(partial(experiment, DEMO), partial(experiment, PAPER))


def table(content: Json) -> list[dict[str, Any]]:
    """A row a world and metric."""
    return [
        {
            "policy": f"{WORLDS[world].label}: {metric}",
            "offline": {key: curves["in_use"][0][metric][key] for key in ("mean", "ci95", "n")},
            "online": {key: curves["in_use"][-1][metric][key] for key in ("mean", "ci95", "n")},
        }
        for world, curves in content["curves"].items()
        for metric in WORLDS[world].metrics
    ]


main_claims = every_claim


def _summarise(s: Scale, results: Mapping[str, Json]) -> tuple[list[Claim], Json]:
    curves: Json = {}
    claims: list[Claim] = []
    for name in s.worlds:
        done = [results[cell] for seed in range(s.num_seeds) if (cell := f"{name}_{seed}") in results]
        if done:
            claims += _claims(name, done)
            curves[name] = {
                kind: [_of_seeds(name, points) for points in zip(*_all(done, kind), strict=True)] for kind in _CURVES
            }
            curves[name]["rule"] = _of_seeds(name, _all(done, "rule"))
            curves[name]["accepted"] = _all(done, "accepted")
    return claims, {"curves": curves}


def _all(done: Sequence[Json], key: str) -> list[Any]:
    return [result[key] for result in done]


def _of_seeds(name: str, points: Sequence[Mapping[str, float]]) -> Json:
    return {metric: by_seed([point[metric] for point in points]) for metric in WORLDS[name].metrics}


def _claims(name: str, done: Sequence[Json]) -> list[Claim]:
    """That the policy at the end is better, and that none in use was worse than the offline one beyond the margin."""
    world, claims = WORLDS[name], []
    for metric, margin in world.metrics.items():
        values = [[point[metric] for point in result["in_use"]] for result in done]
        first = [points[0] for points in values]
        what = f"{world.label}: {metric.replace('_', ' ')}"
        found = {
            "better": (
                f"{what} is higher at the end than with the offline policy",
                [points[-1] for points in values],
                0.0,
            ),
            "never_below": (
                f"{what} of the worst policy in use is at most {margin:g} below the offline one's",
                [min(points) for points in values],
                -margin,
            ),
        }
        for id, (words, then, least) in found.items():
            claim = claim_of(f"{name}-{metric}-{id}", words, "not in a paper", paired(then, first), least)
            claims += [claim] if claim is not None else []
    return claims
