"""How well estimates choose: rank correlation with the truth, and what the choice costs."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from rllib_wireless.papers.experiment import Claim, Json
from rllib_wireless.papers.selection.setup import JUDGES, WORLDS, Scale
from rllib_wireless.policies.bootstrap import interval95

Floats = npt.NDArray[np.float64]

WANTED = 0.8
"""The rank correlation that fitted Q evaluation should have."""

MARGIN = 0.05
"""The choice costs little if it costs no more than this share of the range of true returns."""

_RESAMPLES = 1000
_LEAST = 3


def tables(s: Scale, policies: Mapping[str, Json]) -> Json:
    """For each network a row a judge, and a row a policy, as `studies`."""
    found: Json = {}
    for world in s.worlds:
        if len(policies[world]) < _LEAST:
            continue
        found[world] = [
            {"name": name, "arm": {"estimate": JUDGES[name].label}, "metrics": judged(policies[world], world, name)}
            for name in s.judges
        ]
        found[f"{world}_policies"] = [_policy(world, name, row) for name, row in policies[world].items()]
    return found


def judged(policies: Json, world: str, judge: str) -> Json:
    """What a judge's estimates are worth.

    Returns:
        `rank_correlation` with the true return and `metric_rank_correlation` with the environment's own metric; `regret`, how
        far below the best policy's the chosen one's true return is, as a share of the range, and `metric_regret`; `coverage`,
        the share of true returns in the 95 % intervals; `cpu_seconds` for a policy.
    """
    rows = list(policies.values())
    said = [row["estimates"][judge] for row in rows]
    guess, truth, metric = columns(policies, world, judge)
    within = [
        low is not None and low <= true <= high
        for (low, high), true in zip((e["ci95"] for e in said), truth, strict=True)
    ]
    random = np.random.default_rng(0)
    picks = random.integers(len(rows), size=(_RESAMPLES, len(rows)))

    def measured(statistic: Callable[[Floats, Floats], float], of: Floats) -> Json:
        low, high = interval95([statistic(guess[p], of[p]) for p in picks])
        return {"mean": statistic(guess, of), "ci95": [low, high], "n": len(rows)}

    return {
        "rank_correlation": measured(rank_correlation, truth),
        "regret": measured(regret, truth),
        "metric_rank_correlation": measured(rank_correlation, metric),
        "metric_regret": measured(regret, metric),
        "coverage": _plain(np.mean(within), len(rows)),
        "cpu_seconds": _plain(np.mean([e["cpu_seconds"] for e in said]), 1),
    }


def columns(policies: Json, world: str, judge: str) -> tuple[Floats, Floats, Floats]:
    """Estimates, true returns and the environment's own metric of all policies; what is undefined counts as worst."""
    rows = policies.values()
    guess = np.array([row["estimates"][judge]["value"] for row in rows], np.float64)
    truth = np.array([row["truth"] for row in rows], np.float64)
    metric = np.array([row["metrics"][WORLDS[world].metric] for row in rows], np.float64)
    return np.where(np.isnan(guess), -np.inf, guess), truth, np.where(np.isnan(metric), np.nanmin(metric), metric)


def rank_correlation(guess: Floats, truth: Floats) -> float:
    """Spearman's; NaN where one of both is constant."""
    if np.ptp(truth) == 0.0 or len(np.unique(guess)) == 1:
        return float("nan")
    return float(spearmanr(guess, truth).statistic)


def regret(guess: Floats, truth: Floats) -> float:
    """How far the truth of the highest guess is below the best truth, as a share of the range."""
    spread = np.ptp(truth)
    return float((truth.max() - truth[guess.argmax()]) / spread) if spread else 0.0


def claims(s: Scale, policies: Mapping[str, Json]) -> list[Claim]:
    """That fitted Q evaluation ranks well and chooses well, in every network."""
    found = []
    for world in s.worlds:
        if len(policies[world]) < _LEAST:
            continue
        table = judged(policies[world], world, "fqe")
        rank, lost = table["rank_correlation"], table["regret"]
        of = f"{world}, {rank['n']} policies"
        words = f"{of}: FQE's rank correlation with the true return is at least {WANTED}"
        found.append(_claim(f"rank-{world}", words, rank, rank["mean"] >= WANTED))
        words = f"{of}: the policy that FQE chooses is within {MARGIN:.0%} of the range of the best"
        found.append(_claim(f"regret-{world}", words, lost, lost["mean"] <= MARGIN))
    return found


def _claim(id: str, words: str, found: Json, met: bool) -> Claim:
    return Claim(id, words, "not in a paper", found["mean"], (found["ci95"][0], found["ci95"][1]), bool(met))


def _policy(world: str, name: str, row: Json) -> Json:
    source, iteration, epsilon = name.split("-")
    arm = {"policy": WORLDS[world].sources[source].label, "iterations": iteration, "random": epsilon}
    shown: dict[str, Any] = {"true return": {"mean": row["truth"], "ci95": _around(row), "n": 2}}
    shown[WORLDS[world].metric] = _plain(row["metrics"][WORLDS[world].metric], 1)
    for judge, said in row["estimates"].items():
        shown[JUDGES[judge].label] = {"mean": said["value"], "ci95": said["ci95"], "n": 2}
    return {"name": name, "arm": arm, "metrics": shown}


def _around(row: Json) -> list[float]:
    return [row["truth"] - 1.96 * row["error"], row["truth"] + 1.96 * row["error"]]


def _plain(value: Any, count: int) -> Json:
    return {"mean": None if value is None else float(value), "ci95": [None, None], "n": min(count, 1)}
