"""What sweeps are worth: settings found on validation seeds or drops, beside the defaults, on logs and tests that no sweep saw."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from rllib_wireless.papers.experiment import Cell, Claim, Json
from rllib_wireless.papers.intervals import by_seed, paired
from rllib_wireless.papers.resumable import Experiment, at_both_scales
from rllib_wireless.papers.studies import claim_of, every_claim
from rllib_wireless.papers.tuning.figures import draw
from rllib_wireless.papers.tuning.learning import ARMS, sweep_and_test
from rllib_wireless.papers.tuning.setup import DEMO, PAPER, SEARCHES, Scale

__all__ = ["draw", "experiment", "main_claims", "reproduce", "table"]

_LABELS = {"defaults": "defaults", "tuned": "tuned"}


def experiment(s: Scale) -> Experiment:
    """The experiment at some scale: a cell an algorithm, which goes on with its sweep if it was interrupted."""
    cells = [Cell(name, partial(sweep_and_test, s, name)) for name in SEARCHES]
    return Experiment("tuning", s.name, s.describe(), cells, _summarise, draw)


reproduce = at_both_scales(partial(experiment, DEMO), partial(experiment, PAPER))


def table(content: Json) -> list[dict[str, Any]]:
    """A row an algorithm, objective and settings."""
    return [
        {
            "policy": f"{algorithm}, {row['arm']['settings']}: {metric}",
            "validation": row["metrics"][f"validation_{metric}"],
            "test": row["metrics"][metric],
        }
        for algorithm, search in SEARCHES.items()
        for metric in search.metrics
        for row in content["studies"].get(algorithm, [])
    ]


main_claims = every_claim


def _summarise(results: Mapping[str, Json]) -> tuple[list[Claim], Json]:
    studies, claims = {}, []
    for name, result in results.items():
        metrics = SEARCHES[name].metrics
        studies[name] = [
            {
                "name": f"{name}-{arm}",
                "arm": {"settings": _LABELS[arm]},
                "metrics": {
                    metric: by_seed([seed[arm][metric] for seed in result["test"]]) for metric in result["test"][0][arm]
                }
                | {f"validation_{metric}": by_seed([result["validation"][arm][metric]]) for metric in metrics},
            }
            for arm in ARMS
        ]
        for metric in metrics:
            tuned, default = ([seed[arm][metric] for seed in result["test"]] for arm in ("tuned", "defaults"))
            words = f"{name}: the tuned settings have a higher {metric.replace('_', ' ')} than the defaults on the test"
            claim = claim_of(f"{name}-{metric}", words, "not in a paper", paired(tuned, default))
            if claim is not None:
                claims.append(claim)
    found = {name: {key: result[key] for key in ("settings", "sweep")} for name, result in results.items()}
    return claims, {"studies": studies, "found": found}
